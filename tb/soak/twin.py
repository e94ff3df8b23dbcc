"""The drivers of a run, journalled, and the same run on the golden device."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from demo.golden import same
from demo.result import Check
from soak.used import UsedEntry, UsedTap
from virtio_model.device.chain import Chain
from virtio_model.device.make import GoldenQueue, make_device_queue
from virtio_model.device.net import GoldenNet
from virtio_model.driver.make import Queue, make_queue
from virtio_model.driver.net import NetDriver, Received
from virtio_model.driver.split_queue import SplitQueue
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.rings.packed import EVENT_SIZE
from virtio_model.rings.split import avail_event_offset, used_event_offset
from virtio_model.spec.features import Feature, has

__all__ = ["Journal", "PairDriver", "QueueMaker", "Twin", "compare"]

RX, TX = 0, 1


@dataclass
class Journal:
    """What the drivers did, in order: (action, pair, arguments)."""

    actions: list[tuple[str, int, tuple[Any, ...]]] = field(default_factory=list)


class QueueMaker:
    """Makes virtqueues; two with the same seed make the same ones on like memories."""

    def __init__(
        self, memory: GuestMemory, allocator: Allocator, features: int, policy: Any, seed: int
    ) -> None:
        self._memory, self._allocator, self._features = memory, allocator, features
        self._policy = None if has(features, Feature.IN_ORDER) else policy
        self._draw = random.Random(seed)

    def make(self, size: int) -> Queue:
        """The next virtqueue."""
        return make_queue(
            self._memory,
            self._allocator,
            size,
            self._features,
            policy=self._policy,
            mixed=True,
            shuffle_ids=random.Random(self._draw.random()),
        )


class PairDriver:
    """The net driver of a queue pair; what it does is noted in a journal."""

    def __init__(self, number: int, net: NetDriver, journal: Journal) -> None:
        self.number = number
        self.net = net
        self.received: list[Received] = []
        self.consumed = 0
        """Receive buffers that came back, with a frame or without."""
        self.reaped = 0
        self._actions = journal.actions
        self.used = tuple(UsedTap(net.memory, queue) for queue in (net.rx, net.tx))

    def close(self) -> None:
        """Stop listening."""
        for tap in self.used:
            tap.close()

    def _note(self, action: str, *arguments: Any) -> None:
        self._actions.append((action, self.number, arguments))

    def post(self, length: int, cuts: tuple[int, ...], indirect: bool, skew: int) -> None:
        """Make a receive buffer available."""
        self.net.post(length, cuts=cuts, indirect=indirect, skew=skew, fill=0xA5)
        self._note("post", length, cuts, indirect, skew)

    def send(self, frame: bytes, cuts: tuple[int, ...], indirect: bool, skew: int) -> None:
        """Make a frame available."""
        self.net.send(frame, cuts=cuts, indirect=indirect, skew=skew, cookie=0)
        self._note("send", frame, cuts, indirect, skew)

    def reap(self) -> int:
        """Take transmitted buffers back; how many there were."""
        count = len(self.net.reap())
        if count:
            self.reaped += count
            self._note("reap", count)
        return count

    def receive(self) -> int:
        """Take received buffers; how many there were."""
        unused, frames = self.net.unused, len(self.received)
        while (got := self.net.receive()) is not None:
            self.received.append(got)
        count = self.net.unused - unused + len(self.received) - frames
        if count:
            self.consumed += count
            self._note("receive", count)
        return count


class _AsBatched:
    """A golden virtqueue that joins used buffers as the RTL did.

    With IN_ORDER a device may write one used entry for several buffers; how many is a matter of
    timing, and visible in memory.
    """

    def __init__(self, queue: GoldenQueue, entries: Sequence[UsedEntry], in_order: bool) -> None:
        self._queue = queue
        self._ids = deque(entry.id for entry in entries) if in_order else None
        self._waiting: list[Chain] = []
        self.size = queue.size
        self.next_buffer = queue.next_buffer
        self.should_interrupt = queue.should_interrupt
        self.enable_notifications = queue.enable_notifications
        self.complete_batch = queue.complete_batch

    def complete(self, chain: Chain, length: int = 0) -> None:
        """Mark a buffer used, now or with a later one."""
        if self._ids is None:
            self._queue.complete(chain, length)
            return
        self._waiting.append(chain)
        if self._ids and self._ids[0] == chain.id:
            self._ids.popleft()
            self._queue.complete_batch(self._waiting, length)
            self._waiting = []


class Twin:
    """The golden device behind virtqueues that start out like the RTL's.

    Make it when the virtqueues are set up and nothing has been made available.
    """

    def __init__(
        self, memory: GuestMemory, sizes: Sequence[int], features: int, policy: Any, seed: int
    ) -> None:
        self.features = features
        self.memory = GuestMemory(memory.size, memory.base)
        self.memory.write(memory.base, memory.read(memory.base, memory.size))
        self._allocator = Allocator(self.memory)
        maker = QueueMaker(self.memory, self._allocator, features, policy, seed)
        self.queues = [maker.make(size) for size in sizes]
        journal = Journal()
        self.pairs = [
            PairDriver(number, NetDriver(self.memory, self._allocator, rx, tx, features), journal)
            for number, (rx, tx) in enumerate(zip(self.queues[::2], self.queues[1::2], strict=True))
        ]
        self.transmitted: list[list[bytes]] = [[] for _ in self.pairs]

    def replay(
        self, journal: Journal, arrivals: Sequence[Sequence[bytes]], rtl: Sequence[PairDriver]
    ) -> None:
        """Do what the drivers did; let the golden device do what the RTL should have done.

        arrivals: by pair, the frames that came in from the wire.
        """
        in_order = has(self.features, Feature.IN_ORDER)
        devices = []
        for pair, theirs in zip(self.pairs, rtl, strict=True):
            rx, tx = (
                _AsBatched(
                    make_device_queue(self.memory, queue, self.features),
                    theirs.used[way].entries,
                    in_order,
                )
                for way, queue in ((RX, pair.net.rx), (TX, pair.net.tx))
            )
            devices.append(GoldenNet(self.memory, rx, tx, self.features))
        coming = [deque(frames) for frames in arrivals]
        for action, number, arguments in journal.actions:
            pair, device = self.pairs[number], devices[number]
            match action:
                case "post":
                    pair.post(*arguments)
                case "send":
                    pair.send(*arguments)
                case "reap":
                    self.transmitted[number] += device.process_tx(arguments[0])
                    pair.reap()
                case "receive":
                    for _ in range(arguments[0]):
                        device.receive(coming[number].popleft())
                    pair.receive()


def compare(
    memory: GuestMemory, rtl: Sequence[PairDriver], twin: Twin, port: Sequence[Sequence[bytes]]
) -> list[Check]:
    """Compare a finished run with the golden one's; the checks that failed."""
    checks = []
    for ours, golden in zip(rtl, twin.pairs, strict=True):
        at = ours.number
        checks += [
            same(f"pair {at}: frames at the port", port[at], twin.transmitted[at], "frame"),
            same(f"pair {at}: headers and frames", ours.received, golden.received, "frame"),
        ]
        for way, name in ((RX, "receive"), (TX, "transmit")):
            theirs = golden.used[way].entries
            checks.append(
                same(f"pair {at}: used entries, {name}", ours.used[way].entries, theirs, "entry")
            )
    checks.append(_same_memory(memory, twin))
    return [check for check in checks if not check.passed]


def _timely(queue: Queue) -> list[tuple[int, int]]:
    """(address, bytes) of what is a matter of timing: when each side wants to be notified."""
    if not isinstance(queue, SplitQueue):
        return [(queue.driver_addr, EVENT_SIZE), (queue.device_addr, EVENT_SIZE)]
    return [
        (queue.driver_addr, 2),
        (queue.driver_addr + used_event_offset(queue.size), 2),
        (queue.device_addr, 2),
        (queue.device_addr + avail_event_offset(queue.size), 2),
    ]


def _same_memory(memory: GuestMemory, twin: Twin) -> Check:
    base, size = memory.base, memory.size
    ours, golden = (bytearray(side.read(base, size)) for side in (memory, twin.memory))
    for queue in twin.queues:
        for address, length in _timely(queue):
            at = address - base
            ours[at : at + length] = golden[at : at + length] = bytes(length)
    if ours == golden:
        return Check("guest memory", True, f"{size:,} bytes")
    at = next(index for index in range(size) if ours[index] != golden[index])
    return Check("guest memory", False, f"differs from {base + at:#x} on")
