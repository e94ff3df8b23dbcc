"""What is compared, and how a difference is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lib.golden.driver import RX, TX, PairDriver
from lib.golden.places import events
from lib.golden.twin import GoldenSide, Twin
from lib.words import counted
from virtio_model.driver.split_queue import SplitQueue
from virtio_model.memory import GuestMemory

__all__ = ["Check", "compare", "same", "same_memory"]


@dataclass(frozen=True)
class Check:
    """A comparison with the golden device, or another rule that the run had to keep."""

    name: str
    passed: bool
    detail: str


def compare(
    memory: GuestMemory,
    rtl: Sequence[PairDriver],
    twin: Twin,
    port: Sequence[Sequence[bytes]],
    *,
    frames: Sequence[Sequence[bytes]] | None = None,
    note: str = "",
) -> list[Check]:
    """Compare a finished run with the golden one's.

    port: the frames that left, by pair. frames: those that the drivers must have received; unless
    told, what the golden device's did. note: is put behind the number of frames.
    """
    checks = []
    for ours, golden in zip(rtl, twin.pairs, strict=True):
        at = ours.number
        pair = f"pair {at}: " if len(rtl) > 1 else ""
        wanted = frames[at] if frames else [got.frame for got in golden.received]
        entry = "element" if isinstance(ours.net.rx, SplitQueue) else "descriptor"
        checks += [
            same(f"{pair}frames at the port", port[at], twin.transmitted[at], "frame", note),
            same(
                f"{pair}frames received",
                [got.frame for got in ours.received],
                list(wanted),
                "frame",
                note,
            ),
            same(
                f"{pair}packet headers",
                [got.header for got in ours.received],
                [got.header for got in golden.received],
                "header",
            ),
        ]
        for way, name in ((TX, "transmit"), (RX, "receive")):
            mine, theirs = ours.used[way].entries, golden.used[way].entries
            checks.append(same(f"{pair}used {entry}s, {name}", mine, theirs, entry))
    checks.append(same_memory(memory, twin))
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


def same_memory(memory: GuestMemory, twin: GoldenSide) -> Check:
    """Compare guest memory, but for event suppression: when a device wants notifications, and a
    driver interrupts, is a matter of timing."""
    base, size = memory.base, memory.size
    ours, golden = (bytearray(side.read(base, size)) for side in (memory, twin.memory))
    for queue in twin.queues:
        for area, length in events(queue):
            at = area - base
            ours[at : at + length] = golden[at : at + length] = bytes(length)
    name = "guest memory"
    if ours == golden:
        return Check(name, True, f"{size:,} bytes")
    differ = [index for index in range(size) if ours[index] != golden[index]]
    return Check(
        name,
        False,
        f"{len(differ):,} of {size:,} bytes differ, the first at {base + differ[0]:#x}",
    )
