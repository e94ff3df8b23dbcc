"""What a flood did to the bus: bytes by purpose, and how much was in flight."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import cocotb
from cocotb.triggers import Timer

from lib.pcie.monitor import DOWN, UP, Snapshot
from lib.pcie.packet import MEM_WRITE
from virtio_model.spec.split import DESC_SIZE

__all__ = ["KINDS", "Occupancy", "split"]

KINDS = (
    "payload",
    "index",
    "entries",
    "descriptors",
    "used",
    "events",
    "suppression",
    "doorbells",
    "interrupts",
    "other",
)
"""Purposes of bytes on the wire. index, entries: of a split virtqueue's available ring.
events: the driver's event suppression, read by the device.
suppression: the device's own, written by it."""

_SAMPLE_NS = 250


def split(wire: Snapshot, frames: int) -> dict[str, dict[str, float]]:
    """Return wire bytes per frame as direction -> purpose -> bytes."""
    found: dict[str, defaultdict[str, float]] = {UP: defaultdict(float), DOWN: defaultdict(float)}
    for (way, purpose, kind), line in wire.lines.items():
        name = purpose
        if purpose == "descriptors" and kind == MEM_WRITE:
            name = "used"
        found[way][name if name in KINDS else "other"] += line.wire_bytes / frames
    return {way: {kind: round(sums[kind], 3) for kind in KINDS} for way, sums in found.items()}


class Occupancy:
    """Samples, every 250 ns, the reads in flight and the descriptors kept ahead.

    reads: those that the host has yet to answer. read_ahead: available descriptors that the host
    has handed out, less those of buffers that have come back used, over all rings. `stop` ends it.
    """

    def __init__(self, bed: Any) -> None:
        self.ns: list[float] = []
        self.reads: list[int] = []
        self.read_ahead: list[int] = []
        self._bed = bed
        self._fetched = dict.fromkeys(bed.rings, 0)
        bed.host.memory.read_hooks.append(self._read)
        self._task = cocotb.start_soon(self._run())

    def stop(self) -> dict[str, list[float] | list[int]]:
        """End sampling, and return what was seen."""
        self._task.cancel()
        return {"ns": self.ns, "reads": self.reads, "read_ahead": self.read_ahead}

    def _read(self, addr: int, data: bytes) -> None:
        index = self._bed.table_at(addr)
        if index is None:
            return
        ring = self._bed.rings[index]
        end = ring.layout.slot_read(addr) + len(data) // DESC_SIZE
        used = ring.slots_before(self._bed.used[index])
        # The slot behind the last one that was read, counted from the ring's beginning of time;
        # it is within a ring's length of what has been used.
        slot = used + (end - used - 1) % ring.size + 1
        slot = min(slot, ring.slots_before(ring.available))
        self._fetched[index] = max(self._fetched[index], slot)

    async def _run(self) -> None:
        bed = self._bed
        start = bed.host.now_ns()
        tags = bed.host.root.target.checker.tags
        while True:
            ahead = [
                fetched - bed.rings[index].slots_before(bed.used[index])
                for index, fetched in self._fetched.items()
            ]
            self.ns.append(round(bed.host.now_ns() - start, 1))
            self.reads.append(len(tags))
            self.read_ahead.append(max(sum(ahead), 0))
            await Timer(_SAMPLE_NS, "ns")
