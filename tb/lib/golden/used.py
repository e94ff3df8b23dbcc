"""What the device wrote into the used rings, entry by entry."""

from __future__ import annotations

from typing import NamedTuple

from virtio_model.driver.queue import DriverQueue
from virtio_model.driver.split_queue import SplitQueue
from virtio_model.memory import GuestMemory
from virtio_model.rings.packed import DESC_SIZE as PACKED_DESC_SIZE
from virtio_model.rings.packed import PackedDescriptor
from virtio_model.rings.split import (
    IDX_OFFSET,
    INDEX_MASK,
    USED_ELEM_SIZE,
    UsedElement,
    used_entry_offset,
)

__all__ = ["UsedEntry", "UsedTap"]


class UsedEntry(NamedTuple):
    """A used element or descriptor, every bit of it, and its place in the ring.

    address, flags: of a descriptor. A driver ignores the address.
    """

    place: int
    id: int
    length: int
    flags: int = 0
    address: int = 0


class UsedTap:
    """Collects the used entries of a virtqueue in `entries`, however they were joined in writes.

    Those of a split virtqueue count when the used index shows them.
    """

    def __init__(self, memory: GuestMemory, queue: DriverQueue) -> None:
        self.entries: list[UsedEntry] = []
        self._memory = memory
        self._size = queue.size
        self._split = isinstance(queue, SplitQueue)
        if self._split:
            self._start = queue.device_addr
            self._end = self._start + used_entry_offset(0, self._size)
            self._end += USED_ELEM_SIZE * self._size
        else:
            self._start = queue.desc_addr
            self._end = self._start + PACKED_DESC_SIZE * self._size
        self._index = 0
        self._written: set[int] = set()
        memory.write_hooks.append(self._wrote)

    def close(self) -> None:
        """Stop listening."""
        self._memory.write_hooks.remove(self._wrote)

    def _wrote(self, address: int, data: bytes) -> None:
        if not self._start <= address < self._end:
            return
        if self._split:
            self._wrote_split(address - self._start, len(data))
            return
        place, size = (address - self._start) // PACKED_DESC_SIZE, PACKED_DESC_SIZE
        for at in range(0, len(data), size):
            used = PackedDescriptor.decode(bytes(data[at : at + size]))
            entry = UsedEntry(place + at // size, used.id, used.len, used.flags, used.addr)
            self.entries.append(entry)

    def _wrote_split(self, start: int, length: int) -> None:
        first = used_entry_offset(0, self._size)
        if start + length > first:
            low = max(start - first, 0) // USED_ELEM_SIZE
            high = (start + length - first - 1) // USED_ELEM_SIZE
            self._written.update(range(low, high + 1))
        if start <= IDX_OFFSET < start + length:
            self._shown(self._memory.read_u16(self._start + IDX_OFFSET))

    def _shown(self, index: int) -> None:
        for step in range((index - self._index) & INDEX_MASK):
            position = (self._index + step) & INDEX_MASK
            place = position % self._size
            if place in self._written:
                self._written.discard(place)
                at = self._start + used_entry_offset(position, self._size)
                used = UsedElement.decode(self._memory.read(at, USED_ELEM_SIZE))
                self.entries.append(UsedEntry(position, used.id, used.len))
        self._index = index
