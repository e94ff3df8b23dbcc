"""Split virtqueue: sizes, flags and structures [virtio 1.4 §2.7]."""

from __future__ import annotations

from enum import IntFlag

from virtio_model.spec.fields import Field

QUEUE_SIZE_MAX = 32768
DESC_ALIGN = 16
AVAIL_ALIGN = 2
USED_ALIGN = 4

DESC_SIZE = 16
AVAIL_ELEM_SIZE = 2
USED_ELEM_SIZE = 8
RING_OFFSET = 4
"""Offset of ring[0] in both the available and the used ring."""


class DescFlags(IntFlag):
    """Flags of a split descriptor [virtio 1.4 §2.7.5]."""

    NEXT = 1
    WRITE = 2
    INDIRECT = 4


AVAIL_NO_INTERRUPT = 1
USED_NO_NOTIFY = 1


def avail_size(queue_size: int) -> int:
    """Bytes of the available ring; used_event counts, negotiated or not."""
    return 6 + AVAIL_ELEM_SIZE * queue_size


def used_size(queue_size: int) -> int:
    """Bytes of the used ring; avail_event counts, negotiated or not."""
    return 6 + USED_ELEM_SIZE * queue_size


def used_event_offset(queue_size: int) -> int:
    """Offset of used_event in the available ring."""
    return RING_OFFSET + AVAIL_ELEM_SIZE * queue_size


def avail_event_offset(queue_size: int) -> int:
    """Offset of avail_event in the used ring."""
    return RING_OFFSET + USED_ELEM_SIZE * queue_size


DESCRIPTOR: tuple[Field, ...] = (
    Field("addr", 0, 64, "RW", section="2.7.5", description="Guest address of the element."),
    Field("len", 8, 32, "RW", section="2.7.5", description="Bytes of the element."),
    Field("flags", 12, 16, "RW", section="2.7.5", description="NEXT, WRITE, INDIRECT."),
    Field("next", 14, 16, "RW", section="2.7.5", description="Next descriptor if NEXT is set."),
)

AVAIL_HEADER: tuple[Field, ...] = (
    Field("flags", 0, 16, "W", section="2.7.6", description="Bit 0 NO_INTERRUPT."),
    Field(
        "idx",
        2,
        16,
        "W",
        section="2.7.6",
        description="Where the driver puts the next entry, modulo 2^16.",
    ),
)

USED_HEADER: tuple[Field, ...] = (
    Field("flags", 0, 16, "R", section="2.7.8", description="Bit 0 NO_NOTIFY."),
    Field(
        "idx",
        2,
        16,
        "R",
        section="2.7.8",
        description="Where the device puts the next entry, modulo 2^16.",
    ),
)

USED_ELEM: tuple[Field, ...] = (
    Field("id", 0, 32, "R", section="2.7.8", description="Head of the used descriptor chain."),
    Field(
        "len",
        4,
        32,
        "R",
        section="2.7.8",
        description="Bytes written, from the first writable byte on.",
    ),
)
