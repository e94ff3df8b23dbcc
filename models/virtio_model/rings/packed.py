"""Packed descriptors and event suppression as bytes, and the ring's arithmetic."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from virtio_model.spec.packed import (
    AVAIL_BIT,
    DESC_SIZE,
    EVENT_FLAGS_MASK,
    EVENT_OFFSET_MASK,
    EVENT_SIZE,
    EVENT_WRAP_BIT,
    QUEUE_SIZE_MAX,
    USED_BIT,
    DescFlags,
    EventFlags,
)

_DESC = struct.Struct("<QIHH")
_EVENT = struct.Struct("<HH")

USED_FLAGS_ALLOWED = DescFlags.AVAIL | DescFlags.USED | DescFlags.WRITE


@dataclass(frozen=True)
class PackedDescriptor:
    """One slot of the descriptor ring, or one entry of an indirect table [virtio 1.4 §2.8.13]."""

    addr: int = 0
    len: int = 0
    id: int = 0
    flags: int = 0

    def encode(self) -> bytes:
        return _DESC.pack(self.addr, self.len, self.id, self.flags)

    @classmethod
    def decode(cls, data: bytes) -> PackedDescriptor:
        return cls(*_DESC.unpack(data))


@dataclass(frozen=True)
class EventSuppression:
    """A driver or device event suppression structure [virtio 1.4 §2.8.14].

    `flags` is the whole 16-bit word: its upper 14 bits are reserved, and a model that dropped
    them here could not complain about them.
    """

    offset: int = 0
    wrap: int = 0
    flags: int = 0

    def encode(self) -> bytes:
        return _EVENT.pack(self.off_wrap, self.flags)

    @property
    def off_wrap(self) -> int:
        return pack_off_wrap(self.offset, self.wrap)

    @classmethod
    def decode(cls, data: bytes) -> EventSuppression:
        off_wrap, flags = _EVENT.unpack(data)
        return cls(off_wrap & EVENT_OFFSET_MASK, off_wrap >> EVENT_WRAP_BIT, flags)


def pack_off_wrap(offset: int, wrap: int) -> int:
    """Slot and wrap counter in 16 bits, as in event suppression and notification data."""
    return offset | wrap << EVENT_WRAP_BIT


def avail_bits(wrap: int) -> int:
    """AVAIL and USED of a descriptor made available [virtio 1.4 §2.8.1]."""
    return wrap << AVAIL_BIT | (wrap ^ 1) << USED_BIT


def used_bits(wrap: int) -> int:
    """AVAIL and USED of a used descriptor [virtio 1.4 §2.8.1]."""
    return wrap << AVAIL_BIT | wrap << USED_BIT


def is_available(flags: int, wrap: int) -> bool:
    """Whether flags say available to a device whose avail wrap counter is `wrap`."""
    return flags & (DescFlags.AVAIL | DescFlags.USED) == avail_bits(wrap)


def is_used(flags: int, wrap: int) -> bool:
    """Whether flags say used to a driver whose used wrap counter is `wrap`."""
    return flags & (DescFlags.AVAIL | DescFlags.USED) == used_bits(wrap)


def advance(index: int, wrap: int, count: int, size: int) -> tuple[int, int]:
    """Position after `count` slots; the wrap counter toggles on passing the last slot."""
    index += count
    if index >= size:
        return index - size, wrap ^ 1
    return index, wrap


def distance(old: tuple[int, int], new: tuple[int, int], size: int) -> int:
    """Slots from one (index, wrap) to a later one, at most a ring's worth."""
    return (_place(new, size) - _place(old, size)) % (2 * size)


def _place(position: tuple[int, int], size: int) -> int:
    # Two laps tell every (index, wrap) apart, so one circle of 2 * size does away with the
    # case distinctions on the wrap counter.
    index, wrap = position
    return index + (0 if wrap else size)


def event_reached(
    event: tuple[int, int], old: tuple[int, int], new: tuple[int, int], size: int
) -> bool:
    """Whether the progress old -> new passed the slot of a DESC event [virtio 1.4 §2.8.10]."""
    return 0 < distance(event, new, size) <= distance(old, new, size)


__all__ = [
    "AVAIL_BIT",
    "DESC_SIZE",
    "EVENT_FLAGS_MASK",
    "EVENT_SIZE",
    "QUEUE_SIZE_MAX",
    "USED_BIT",
    "USED_FLAGS_ALLOWED",
    "DescFlags",
    "EventFlags",
    "EventSuppression",
    "PackedDescriptor",
    "advance",
    "avail_bits",
    "distance",
    "event_reached",
    "is_available",
    "is_used",
    "pack_off_wrap",
    "used_bits",
]
