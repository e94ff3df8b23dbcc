"""The three areas of a split virtqueue in guest memory, with a shadow of what they should hold."""

from __future__ import annotations

from typing import NoReturn

from virtio_model.errors import DeviceBreach
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.rings.split import (
    AVAIL_ALIGN,
    DESC_ALIGN,
    DESC_SIZE,
    FLAGS_OFFSET,
    IDX_OFFSET,
    RING_OFFSET,
    USED_ALIGN,
    USED_ELEM_SIZE,
    SplitDescriptor,
    UsedElement,
    avail_entry_offset,
    avail_event_offset,
    avail_size,
    moved,
    used_entry_offset,
    used_event_offset,
    used_size,
)


class ShadowedArea:
    """Guest memory that the driver alone writes, and a copy of it."""

    def __init__(self, memory: GuestMemory, addr: int, size: int) -> None:
        self.memory = memory
        self.addr = addr
        self._shadow = bytearray(size)
        self.clear()

    def clear(self) -> None:
        self._shadow = bytearray(len(self._shadow))
        self.memory.write(self.addr, bytes(self._shadow))

    def write(self, offset: int, data: bytes) -> None:
        self._shadow[offset : offset + len(data)] = data
        self.memory.write(self.addr + offset, data)

    def write_u16(self, offset: int, value: int) -> None:
        self.write(offset, value.to_bytes(2, "little"))

    def check(self, text: str) -> None:
        """Complain where memory is no longer what the driver wrote."""
        found = self.memory.read(self.addr, len(self._shadow))
        if found != self._shadow:
            at = next(n for n, byte in enumerate(found) if byte != self._shadow[n])
            raise DeviceBreach(text, addr=self.addr + at, offset=at)


class SplitRings:
    """Descriptor table, available ring and used ring [virtio 1.4 §2.7].

    The device may read the first two and write the third. It cannot read the used ring: a used
    ring is none of its inputs.
    """

    def __init__(self, memory: GuestMemory, allocator: Allocator, size: int) -> None:
        self.memory = memory
        self.size = size
        self._allocator = allocator
        self.desc_addr = allocator.alloc(DESC_SIZE * size, DESC_ALIGN)
        self.avail_addr = allocator.alloc(avail_size(size), AVAIL_ALIGN)
        self.used_addr = allocator.alloc(used_size(size), USED_ALIGN)
        self._windows = [
            memory.grant(self.desc_addr, DESC_SIZE * size),
            memory.grant(self.avail_addr, avail_size(size)),
            memory.grant(self.used_addr, used_size(size), writable=True, readable=False),
        ]
        self._table = ShadowedArea(memory, self.desc_addr, DESC_SIZE * size)
        self._avail = ShadowedArea(memory, self.avail_addr, avail_size(size))
        self._used = bytearray()
        self.clear()

    def clear(self) -> None:
        """All zero, as a driver hands the areas to the device."""
        self._table.clear()
        self._avail.clear()
        self.memory.write(self.used_addr, bytes(used_size(self.size)))
        self._used = bytearray(USED_ELEM_SIZE * self.size)

    def close(self) -> None:
        """Give the three areas back."""
        for window in self._windows:
            self.memory.revoke(window)
        for addr in (self.desc_addr, self.avail_addr, self.used_addr):
            self._allocator.free(addr)

    # What the driver writes

    def write_descriptor(self, slot: int, descriptor: SplitDescriptor) -> None:
        self._table.write(DESC_SIZE * slot, descriptor.encode())

    def write_avail_entry(self, index: int, head: int) -> None:
        self._avail.write_u16(avail_entry_offset(index, self.size), head)

    def write_avail_idx(self, index: int) -> None:
        self._avail.write_u16(IDX_OFFSET, index)

    def write_avail_flags(self, flags: int) -> None:
        self._avail.write_u16(FLAGS_OFFSET, flags)

    def write_used_event(self, index: int) -> None:
        self._avail.write_u16(used_event_offset(self.size), index)

    # What the device writes

    def used_flags(self) -> int:
        return self.memory.read_u16(self.used_addr + FLAGS_OFFSET)

    def used_idx(self) -> int:
        return self.memory.read_u16(self.used_addr + IDX_OFFSET)

    def avail_event(self) -> int:
        return self.memory.read_u16(self.used_addr + avail_event_offset(self.size))

    def used_element(self, index: int) -> UsedElement:
        at = self.used_addr + used_entry_offset(index, self.size)
        return UsedElement.decode(self.memory.read(at, USED_ELEM_SIZE))

    def show(self, old: int, new: int) -> None:
        """Used elements old to new are final: used idx stands behind them now."""
        for step in range(moved(old, new)):
            self._accept(old + step)

    def _accept(self, index: int) -> None:
        at = USED_ELEM_SIZE * (index % self.size)
        self._used[at : at + USED_ELEM_SIZE] = self.used_element(index).encode()

    def final_element(self, index: int) -> UsedElement:
        """A used element, which must be what it was when used idx had passed it."""
        at = USED_ELEM_SIZE * (index % self.size)
        if self.used_element(index).encode() != self._used[at : at + USED_ELEM_SIZE]:
            self.breach("used element changed behind used idx", index)
        return self.used_element(index)

    def breach(self, text: str, index: int, **context: object) -> NoReturn:
        """Raise a DeviceBreach that shows the used element at a used index."""
        found = self.used_element(index)
        raise DeviceBreach(
            text, index=index, id=found.id, len=found.len, used_idx=self.used_idx(), **context
        )

    def check_untouched(self, first: int, count: int) -> None:
        """Complain about what the device must not have written.

        It may write `count` used elements from index `first` on, before used idx shows them.
        """
        self._table.check("the device changed the descriptor table")
        self._avail.check("the device changed the available ring")
        at = self.used_addr + RING_OFFSET
        found = bytearray(self.memory.read(at, USED_ELEM_SIZE * self.size))
        for step in range(min(count, self.size)):
            place = slice(
                USED_ELEM_SIZE * ((first + step) % self.size),
                USED_ELEM_SIZE * ((first + step) % self.size + 1),
            )
            found[place] = self._used[place]
        if found != self._used:
            slot = next(n for n, byte in enumerate(found) if byte != self._used[n])
            raise DeviceBreach(
                "the device changed a used element that it must not touch",
                slot=slot // USED_ELEM_SIZE,
            )
