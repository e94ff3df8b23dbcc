"""The same run on the golden model: what the device should have done, bit for bit.

The driver's actions are journalled while the RTL runs. Replayed on a copy of memory with the
golden net device in the place of the RTL, the same buffers lie at the same addresses, so that
everything can be compared: frames, headers, used descriptors in their order, and in the end the
whole of guest memory.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from demo.places import events, used_entries
from demo.result import Check
from demo.words import counted
from virtio_model.device.make import make_device_queue
from virtio_model.device.net import GoldenNet
from virtio_model.driver.framing import ONE_PIECE
from virtio_model.driver.make import make_queue
from virtio_model.driver.net import NetDriver, Received
from virtio_model.driver.split_queue import SplitQueue
from virtio_model.memory import Allocator, GuestMemory


@dataclass
class Journal:
    """What driver and device did: all that the comparison needs."""

    actions: list[tuple[str, int]] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    used: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)


class Rings:
    """A receive and a transmit ring with their net driver, journalled.

    features: as negotiated; they tell the ring format. Without IN_ORDER: a device that returns
    buffers in batches does not write what the golden one writes.

    Two of these on like memories with the same seed put everything at the same addresses.
    """

    def __init__(
        self, memory: GuestMemory, allocator: Allocator, size: int, features: int, seed: int
    ) -> None:
        draw = random.Random(seed)
        self.memory = memory
        # In Linux's order, buffer id and slot would coincide for long: shuffle them.
        self.rx, self.tx = (
            make_queue(memory, allocator, size, features, shuffle_ids=random.Random(draw.random()))
            for _ in range(2)
        )
        self.net = NetDriver(memory, allocator, self.rx, self.tx, features)
        self.journal = Journal(used={"receive": [], "transmit": []})
        self._areas = [
            (used_entries(queue), self.journal.used[name])
            for name, queue in (("receive", self.rx), ("transmit", self.tx))
        ]
        memory.write_hooks.append(self._written)

    def _written(self, addr: int, data: bytes) -> None:
        """Note used entries, one by one however they were joined in a write."""
        for (start, end, size), used in self._areas:
            if start <= addr < end:
                used.extend(
                    (addr + at, bytes(data[at : at + size])) for at in range(0, len(data), size)
                )

    def used_count(self, name: str) -> int:
        """Return how many buffers the device has used so far."""
        return len(self.journal.used[name])

    def post(self, length: int) -> None:
        """Make a receive buffer available."""
        self.net.post(length)
        self.journal.actions.append(("post", length))

    def send(self, frames: Sequence[bytes], index: int) -> None:
        """Make a frame available, header and frame in one descriptor."""
        self.net.send(frames[index], cuts=ONE_PIECE, cookie=index)
        self.journal.actions.append(("send", index))

    def reap(self) -> list[Any]:
        """Take the transmitted buffers back."""
        cookies = self.net.reap()
        if cookies:
            self.journal.actions.append(("reap", len(cookies)))
        return cookies

    def receive(self) -> Received | None:
        """Take a received frame."""
        received = self.net.receive()
        if received is not None:
            self.journal.actions.append(("receive", 1))
            self.journal.received.append(received)
        return received


class Twin:
    """The golden device behind rings that start out like the RTL's."""

    def __init__(self, base: Rings, memory_size: int, seed: int) -> None:
        memory = base.memory
        self.memory = GuestMemory(memory_size, memory.base)
        self.memory.write(memory.base, memory.read(memory.base, memory_size))
        self.rings = Rings(
            self.memory, Allocator(self.memory), base.rx.size, base.net.features, seed
        )
        features = base.net.features
        rx, tx = (
            make_device_queue(self.memory, queue, features)
            for queue in (self.rings.rx, self.rings.tx)
        )
        self.device = GoldenNet(self.memory, rx, tx, base.net.features)
        self.transmitted: list[bytes] = []

    def replay(self, journal: Journal, frames: Sequence[bytes]) -> None:
        """Do what the driver did; let the golden device do what the RTL should have done."""
        looped: deque[int] = deque()
        for action, value in journal.actions:
            match action:
                case "post":
                    self.rings.post(value)
                case "send":
                    self.rings.send(frames, value)
                    looped.append(value)
                case "reap":
                    self.transmitted += self.device.process_tx(value)
                    self.rings.reap()
                case "receive":
                    # May come before its buffer is reaped: take it from what was sent.
                    self.device.receive(frames[looped.popleft()])
                    self.rings.receive()


def compare(
    rtl: Rings, twin: Twin, frames: Sequence[bytes], port: Sequence[bytes], *, lone: int = 0
) -> list[Check]:
    """Compare a finished run with the golden model's.

    lone: 1 if the first of the frames is no part of the capture.
    """
    note = f" ({len(frames) - lone:,} of the capture and the lone one)" if lone else ""
    golden, ours = twin.rings.journal, rtl.journal
    checks = [
        same("frames at the port", port, twin.transmitted, "frame", note),
        same("frames received", [got.frame for got in ours.received], list(frames), "frame", note),
        same(
            "packet headers",
            [got.header for got in ours.received],
            [got.header for got in golden.received],
            "header",
        ),
    ]
    entry = "element" if isinstance(rtl.rx, SplitQueue) else "descriptor"
    for name in ("transmit", "receive"):
        checks.append(same(f"used {entry}s, {name}", ours.used[name], golden.used[name], entry))
    checks.append(_same_memory(rtl, twin))
    return checks


def same(name: str, ours: Sequence[Any], golden: Sequence[Any], unit: str, note: str = "") -> Check:
    """Compare two sequences of `unit`; say where they part."""
    if len(ours) != len(golden):
        return Check(name, False, f"{len(ours):,} instead of {counted(len(golden), unit)}")
    for index, (mine, theirs) in enumerate(zip(ours, golden, strict=True)):
        if mine != theirs:
            return Check(
                name, False, f"number {index:,} differs: {_show(mine)}, not {_show(theirs)}"
            )
    return Check(name, True, counted(len(ours), unit) + note)


def _show(value: Any) -> str:
    text = value.hex() if isinstance(value, bytes) else str(value)
    return text if len(text) <= 120 else text[:120] + "..."


def _same_memory(rtl: Rings, twin: Twin) -> Check:
    """Compare guest memory, but for event suppression: when a device wants notifications, and a
    driver interrupts, is a matter of timing."""
    base, size = rtl.memory.base, rtl.memory.size
    ours, golden = (bytearray(rings.memory.read(base, size)) for rings in (rtl, twin.rings))
    for queue in (rtl.rx, rtl.tx):
        for area, length in events(queue):
            at = area - base
            ours[at : at + length] = golden[at : at + length] = bytes(length)
    name = "guest memory"
    if ours == golden:
        return Check(name, True, f"{size:,} bytes")
    at = next(index for index in range(size) if ours[index] != golden[index])
    count = sum(mine != theirs for mine, theirs in zip(ours, golden, strict=True))
    return Check(name, False, f"{count:,} of {size:,} bytes differ, the first at {base + at:#x}")
