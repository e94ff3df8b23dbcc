"""The driver's view of a packed descriptor ring, with a shadow that tells what the device did."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

from virtio_model.errors import DeviceBreach
from virtio_model.memory import GuestMemory
from virtio_model.rings.packed import DESC_SIZE, PackedDescriptor, is_used


class ShadowedRing:
    """A descriptor ring in guest memory and what the driver last knew of each slot.

    The driver cannot see a stray write of the device as it happens; comparing with the shadow
    finds it when the slot is next looked at.
    """

    def __init__(self, memory: GuestMemory, addr: int, size: int) -> None:
        self.memory = memory
        self.addr = addr
        self.size = size
        self._shadow = bytearray()
        self.clear()

    def clear(self) -> None:
        """All slots zero, as a driver hands a ring to the device."""
        self._shadow = bytearray(DESC_SIZE * self.size)
        self.memory.write(self.addr, bytes(self._shadow))

    def write_body(self, index: int, descriptor: PackedDescriptor) -> None:
        """Write everything but the flags, and take the whole descriptor into the shadow."""
        at = self.addr + DESC_SIZE * index
        self.memory.write_u64(at, descriptor.addr)
        self.memory.write_u32(at + 8, descriptor.len)
        self.memory.write_u16(at + 12, descriptor.id)
        self.accept(index, descriptor)

    def write_flags(self, index: int, flags: int) -> None:
        self.memory.write_u16(self.addr + DESC_SIZE * index + 14, flags)

    def accept(self, index: int, descriptor: PackedDescriptor) -> None:
        """Take a descriptor as what the slot rightly holds."""
        self._shadow[DESC_SIZE * index : DESC_SIZE * (index + 1)] = descriptor.encode()

    def slot(self, index: int) -> PackedDescriptor:
        """What guest memory holds."""
        return PackedDescriptor.decode(self.memory.read(self.addr + DESC_SIZE * index, DESC_SIZE))

    def expected(self, index: int) -> PackedDescriptor:
        """What the driver last knew."""
        start = DESC_SIZE * index
        return PackedDescriptor.decode(bytes(self._shadow[start : start + DESC_SIZE]))

    def peek_used(self, index: int, wrap: int) -> PackedDescriptor | None:
        """The used descriptor at the position where the next one is due, if it is there."""
        found = self.slot(index)
        if is_used(found.flags, wrap):
            return found
        # The body may be visible before the flags [virtio 1.4 §2.8.15], so only the flags can
        # be wrong as yet.
        if found.flags != self.expected(index).flags:
            if is_used(found.flags, wrap ^ 1):
                self.breach("used descriptor written with the wrong wrap counter", index, wrap)
            self.breach("flags of an available descriptor changed", index, wrap)
        return None

    def check_untouched(self, indices: Iterable[int]) -> None:
        """Complain about slots that the device changed."""
        for index in indices:
            if self.slot(index) != self.expected(index):
                self.breach("the device changed a slot that it must not touch", index)

    def breach(self, text: str, index: int, wrap: int | None = None, **context: object) -> NoReturn:
        """Raise a DeviceBreach that shows the slot."""
        found = self.slot(index)
        if wrap is not None:
            context["wrap"] = wrap
        raise DeviceBreach(
            text,
            slot=index,
            addr=found.addr,
            len=found.len,
            id=found.id,
            flags=found.flags,
            **context,
        )
