"""Packed virtqueue: sizes, flags and structures [virtio 1.4 §2.8]."""

from __future__ import annotations

from enum import IntEnum, IntFlag

from virtio_model.spec.fields import Field

QUEUE_SIZE_MAX = 32768
DESC_ALIGN = 16
DRIVER_AREA_ALIGN = 4
DEVICE_AREA_ALIGN = 4

DESC_SIZE = 16
EVENT_SIZE = 4

AVAIL_BIT = 7
USED_BIT = 15


class DescFlags(IntFlag):
    """Flags of a packed descriptor [virtio 1.4 §2.8.1, §2.8.3, §2.8.6, §2.8.7]."""

    NEXT = 1
    WRITE = 2
    INDIRECT = 4
    AVAIL = 1 << AVAIL_BIT
    USED = 1 << USED_BIT


class EventFlags(IntEnum):
    """Values of the flags word of an event suppression structure [virtio 1.4 §2.8.10]."""

    ENABLE = 0
    DISABLE = 1
    DESC = 2
    """Only for one slot; needs VIRTIO_F_EVENT_IDX."""


EVENT_FLAGS_MASK = 0x3
EVENT_OFFSET_MASK = 0x7FFF
EVENT_WRAP_BIT = 15

_DESC = "2.8.13"
_EVENT = "2.8.14"

DESCRIPTOR: tuple[Field, ...] = (
    Field(
        "addr",
        0,
        64,
        "RW",
        section=_DESC,
        description="Guest address of the element; unused in a used descriptor.",
    ),
    Field(
        "len",
        8,
        32,
        "RW",
        section=_DESC,
        description="Bytes of the element; in a used descriptor with WRITE set, bytes written.",
    ),
    Field(
        "id",
        12,
        16,
        "RW",
        section=_DESC,
        description="Buffer id; of a chain, the last descriptor's counts.",
    ),
    Field("flags", 14, 16, "RW", section=_DESC, description="NEXT, WRITE, INDIRECT, AVAIL, USED."),
)

EVENT_SUPPRESSION: tuple[Field, ...] = (
    Field(
        "off_wrap",
        0,
        16,
        "RW",
        section=_EVENT,
        description="[14:0] slot, [15] wrap counter at which to notify when flags are DESC.",
    ),
    Field(
        "flags",
        2,
        16,
        "RW",
        section=_EVENT,
        description="[1:0] ENABLE, DISABLE or DESC; the rest is reserved and 0.",
    ),
)
