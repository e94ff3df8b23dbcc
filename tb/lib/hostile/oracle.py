"""Every write of the device must follow from what a driver gave it."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import product

from lib.hostile.actions import Register
from lib.hostile.arena import ARENA, ARENA_BYTES, NEIGHBOUR
from lib.hostile.plan import Plan
from lib.hostile.rings import WRITE
from lib.pcie.dma import MemoryTarget, enabled_range
from lib.pcie.packet import MEM_WRITE
from virtio_model.memory import GuestMemory

__all__ = ["WriteOracle"]

_SPACE = 1 << 64
_RING_BYTES = 0x800
"""More than any structure of a virtqueue of 64 entries takes."""


class WriteOracle:
    """Watches memory for the time of a run, and judges all writes of the device at its end.

    A write is good where it lies in the neighbour's windows, in the parts of the hostile rings
    that are the device's to write, or within writable descriptors that the device has read
    before. If address registers were attacked, what they may hold now counts as a ring, too.
    """

    def __init__(self, memory: GuestMemory, target: MemoryTarget) -> None:
        self._memory = memory
        self._target = target
        self._reads: list[tuple[int, bytes]] = []
        self._writes: list[tuple[int, int]] = []
        memory.read_hooks.append(self._read)
        memory.write_hooks.append(self._wrote)

    def _read(self, address: int, data: bytes) -> None:
        if address < NEIGHBOUR:
            self._reads.append((address, data))

    def _wrote(self, address: int, data: bytes) -> None:
        if address < NEIGHBOUR:
            self._writes.append((address, len(data)))

    def begin(self) -> None:
        """A run begins."""
        self._reads.clear()
        self._writes.clear()
        self._memory.faults.clear()
        self._target.unclaimed.clear()

    @property
    def accesses(self) -> int:
        """So many were seen in this run, but for those to the neighbour's memory."""
        faults = len(self._memory.faults) + len(self._target.unclaimed)
        return len(self._reads) + len(self._writes) + faults

    def judge(self, plan: Plan, others: Iterable[int]) -> list[str]:
        """What is wrong with the device's writes; `others`: addresses of the neighbour's rings."""
        suspects = set(self._writes)
        for fault in self._memory.faults:
            if "write" in fault.text:
                suspects.add((int(str(fault.context["addr"])), int(str(fault.context["length"]))))
        for packet in self._target.unclaimed:
            if packet.type == MEM_WRITE:
                start, end = enabled_range(packet)
                suspects.add((start, end - start))
        given = [area for place in plan.places for area in place.written]
        given += _registers(plan, others)
        buffers = _descriptors(self._reads, plan.ring == "packed", range(0, 1 << 16, 16))
        left = [one for one in suspects if not _covered(one, given + buffers)]
        if left:
            # Tables that are not aligned, and those that were read in pieces.
            joined = _joined(self._reads)
            buffers += _descriptors(joined, plan.ring == "packed", range(1 << 16))
            left = [one for one in left if not _covered(one, given + buffers)]
        return [f"write of {length} bytes at {at:#x}, given by nobody" for at, length in left]


def _descriptors(
    reads: Sequence[tuple[int, bytes]], packed: bool, offsets: range
) -> list[tuple[int, int]]:
    """[start, end) of all that might be a writable descriptor in what was read."""
    where = 14 if packed else 12
    found = {(_SPACE - 1, _SPACE - 1 + (1 << 32))}  # what reads of nothing give
    for _, data in reads:
        for at in range(0, len(data) - 15, offsets.step):
            address, length = struct.unpack_from("<QI", data, at)
            if data[at + where] & WRITE and length:
                found.add((address, address + length))
    return list(found)


def _joined(reads: Sequence[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Reads, and each with what was read from its end on."""
    starts: dict[int, set[bytes]] = {}
    for address, data in reads:
        starts.setdefault(address, set()).add(data[:15])
    joined = list(reads)
    for address, data in reads:
        for more in starts.get(address + len(data), ()):
            joined.append((address, data + more))
    return joined


def _registers(plan: Plan, others: Iterable[int]) -> list[tuple[int, int]]:
    """What address registers may point at after they were attacked half by half."""
    halves = [
        (action.offset & 4, int.from_bytes(action.data, "little"))
        for action in plan.actions
        if isinstance(action, Register) and action.note == "address"
    ]
    if not halves:
        return []
    known = [a for place in plan.places for a in (place.desc, place.driver, place.device)]
    known += [*others, 0xFEE0_0000]
    low = {value for upper, value in halves if not upper} | {one & 0xFFFF_FFFF for one in known}
    high = {value for upper, value in halves if upper} | {one >> 32 for one in known} | {0}
    found = [(hi << 32 | lo, (hi << 32 | lo) + _RING_BYTES) for hi, lo in product(high, low | {0})]
    return [*found, (ARENA, ARENA + ARENA_BYTES)]


def _covered(suspect: tuple[int, int], areas: Sequence[tuple[int, int]]) -> bool:
    at, length = suspect
    end = at + length
    while at < end:
        reach = at
        for start, stop in areas:
            # Addresses of a buffer go round at 2^64.
            for shift in (0, _SPACE):
                if start <= at + shift < stop:
                    reach = max(reach, stop - shift)
        if reach == at:
            return False
        at = reach
    return True
