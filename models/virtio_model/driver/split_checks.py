"""What used idx and a used element of a split virtqueue must fulfil [virtio 1.4 §2.7.8]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from virtio_model.driver.split_rings import SplitRings
from virtio_model.errors import DeviceBreach
from virtio_model.memory import Window
from virtio_model.rings.split import UsedElement, moved


@dataclass
class SplitOutstanding:
    """A buffer that the device holds; `slots` are its descriptor table entries."""

    cookie: Any
    slots: list[int]
    capacity: int
    writable: bool
    windows: list[Window]
    table: int | None


def check_used_idx(taken: int, seen: int, found: int, outstanding: int) -> None:
    """Raise DeviceBreach unless used idx may be `found`.

    `taken`: elements that the driver has taken; `seen`: used idx when it last looked;
    `outstanding`: buffers not yet taken.
    """
    if moved(taken, found) > outstanding:
        raise DeviceBreach(
            "used idx moved beyond the buffers outstanding",
            used_idx=found,
            taken=taken,
            outstanding=outstanding,
        )
    if moved(taken, found) < moved(taken, seen):
        raise DeviceBreach("used idx moved back", used_idx=found, before=seen)


def check_used(
    rings: SplitRings, index: int, used: UsedElement, outstanding: Mapping[int, SplitOutstanding]
) -> None:
    """Raise DeviceBreach unless `used`, found at used index `index`, returns a buffer."""
    if used.id >= rings.size:
        rings.breach("used id is outside the descriptor table", index, size=rings.size)
    buffer = outstanding.get(used.id)
    if buffer is None:
        rings.breach("used id is not outstanding", index)
    if used.len and not buffer.writable:
        rings.breach("used length of a buffer with nothing writable is not 0", index)
    if used.len > buffer.capacity:
        rings.breach("used length exceeds the writable bytes", index, capacity=buffer.capacity)
