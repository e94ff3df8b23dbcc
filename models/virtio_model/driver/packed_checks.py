"""What a used descriptor of a packed virtqueue must fulfil [virtio 1.4 §2.8.1 to §2.8.7]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from virtio_model.driver.packed_ring import ShadowedRing
from virtio_model.memory import Window
from virtio_model.rings.packed import USED_FLAGS_ALLOWED, DescFlags, PackedDescriptor


@dataclass
class Outstanding:
    """A buffer that the device holds."""

    cookie: Any
    slots: int
    capacity: int
    writable: bool
    windows: list[Window]
    table: int | None


def check_used(
    ring: ShadowedRing,
    position: tuple[int, int],
    used: PackedDescriptor,
    outstanding: Mapping[int, Outstanding],
    *,
    strict: bool,
) -> None:
    """Raise DeviceBreach unless `used`, found at `position`, returns an outstanding buffer.

    `strict` adds the values that the spec reserves and tells drivers to ignore: flags besides
    AVAIL, USED and WRITE, and a len without WRITE.
    """
    buffer = outstanding.get(used.id)
    if not outstanding:
        ring.breach("used descriptor with no buffer outstanding", *position)
    if used.id >= ring.size:
        ring.breach("used buffer id is none of this queue's", *position, size=ring.size)
    if buffer is None:
        ring.breach("used buffer id is not outstanding", *position)
    if strict and used.flags & ~int(USED_FLAGS_ALLOWED):
        ring.breach("used descriptor has flags besides AVAIL, USED and WRITE", *position)
    if used.flags & DescFlags.WRITE:
        if not buffer.writable:
            ring.breach("WRITE set for a buffer with nothing writable", *position)
        if used.len > buffer.capacity:
            ring.breach(
                "used length exceeds the writable bytes", *position, capacity=buffer.capacity
            )
    elif used.len and strict:
        ring.breach("used length is not 0 although WRITE is clear", *position)
