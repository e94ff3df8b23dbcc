"""Split virtqueue as bytes: descriptors, used elements, places in the rings, arithmetic."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from virtio_model.spec.split import (
    AVAIL_ALIGN,
    AVAIL_ELEM_SIZE,
    AVAIL_NO_INTERRUPT,
    DESC_ALIGN,
    DESC_SIZE,
    QUEUE_SIZE_MAX,
    RING_OFFSET,
    USED_ALIGN,
    USED_ELEM_SIZE,
    USED_NO_NOTIFY,
    DescFlags,
    avail_event_offset,
    avail_size,
    used_event_offset,
    used_size,
)

_DESC = struct.Struct("<QIHH")
_USED = struct.Struct("<II")

INDEX_MASK = 0xFFFF
"""Available and used index are free-running and 16 bits wide."""
FLAGS_OFFSET = 0
IDX_OFFSET = 2
CHAIN_BYTES_MAX = 1 << 32


@dataclass(frozen=True)
class SplitDescriptor:
    """One entry of the descriptor table or of an indirect table [virtio 1.4 §2.7.5]."""

    addr: int = 0
    len: int = 0
    flags: int = 0
    next: int = 0

    def encode(self) -> bytes:
        return _DESC.pack(self.addr, self.len, self.flags, self.next)

    @classmethod
    def decode(cls, data: bytes) -> SplitDescriptor:
        return cls(*_DESC.unpack(data))


@dataclass(frozen=True)
class UsedElement:
    """One entry of the used ring [virtio 1.4 §2.7.8]."""

    id: int = 0
    len: int = 0

    def encode(self) -> bytes:
        return _USED.pack(self.id, self.len)

    @classmethod
    def decode(cls, data: bytes) -> UsedElement:
        return cls(*_USED.unpack(data))


def check_size(size: int) -> None:
    """Raise ValueError unless a split virtqueue may have this size [virtio 1.4 §2.7]."""
    if not 1 <= size <= QUEUE_SIZE_MAX or size & (size - 1):
        raise ValueError(f"queue size {size} is no power of two in 1..{QUEUE_SIZE_MAX}")


def avail_entry_offset(index: int, size: int) -> int:
    """Where in the available ring the entry of an available index stands."""
    return RING_OFFSET + AVAIL_ELEM_SIZE * (index % size)


def used_entry_offset(index: int, size: int) -> int:
    """Where in the used ring the element of a used index stands."""
    return RING_OFFSET + USED_ELEM_SIZE * (index % size)


def moved(old: int, new: int) -> int:
    """Entries from one index to a later one."""
    return (new - old) & INDEX_MASK


def need_event(event: int, old: int, new: int) -> bool:
    """Whether the progress old -> new filled the entry of index `event` [virtio 1.4 §2.7.7.2]."""
    return moved(event, new - 1) < moved(old, new)


__all__ = [
    "AVAIL_ALIGN",
    "AVAIL_NO_INTERRUPT",
    "CHAIN_BYTES_MAX",
    "DESC_ALIGN",
    "DESC_SIZE",
    "FLAGS_OFFSET",
    "IDX_OFFSET",
    "INDEX_MASK",
    "QUEUE_SIZE_MAX",
    "RING_OFFSET",
    "USED_ALIGN",
    "USED_ELEM_SIZE",
    "USED_NO_NOTIFY",
    "DescFlags",
    "SplitDescriptor",
    "UsedElement",
    "avail_entry_offset",
    "avail_event_offset",
    "avail_size",
    "check_size",
    "moved",
    "need_event",
    "used_entry_offset",
    "used_event_offset",
    "used_size",
]
