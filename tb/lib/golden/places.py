"""What lies where in the memory of a virtqueue, in either ring format."""

from __future__ import annotations

from typing import Any, NamedTuple

from virtio_model.driver.split_queue import SplitQueue
from virtio_model.rings.packed import EVENT_SIZE
from virtio_model.rings.split import (
    DESC_SIZE,
    IDX_OFFSET,
    RING_OFFSET,
    USED_ELEM_SIZE,
    avail_event_offset,
    avail_size,
    used_event_offset,
)

__all__ = ["UsedEntries", "areas", "events", "used_entries"]


class UsedEntries(NamedTuple):
    """The stretch in which used descriptors or used elements of `size` bytes appear."""

    start: int
    end: int
    size: int


def used_entries(queue: Any) -> UsedEntries:
    """Return where a device writes used entries; all but split virtqueues count as packed."""
    if isinstance(queue, SplitQueue):
        start = queue.device_addr + RING_OFFSET
        return UsedEntries(start, start + USED_ELEM_SIZE * queue.size, USED_ELEM_SIZE)
    return UsedEntries(queue.desc_addr, queue.desc_addr + DESC_SIZE * queue.size, DESC_SIZE)


def events(queue: Any) -> list[tuple[int, int]]:
    """Return (address, bytes) of what only says when notifications are wanted."""
    if isinstance(queue, SplitQueue):
        return [
            (queue.driver_addr, 2),
            (queue.driver_addr + used_event_offset(queue.size), 2),
            (queue.device_addr, 2),
            (queue.device_addr + avail_event_offset(queue.size), 2),
        ]
    return [(queue.driver_addr, EVENT_SIZE), (queue.device_addr, EVENT_SIZE)]


def areas(queue: Any) -> list[tuple[str, int, int]]:
    """Return (purpose, start, end) of the parts, for the account of what crosses the link.

    avail.flags and avail.idx are read together, and count as descriptors.
    """
    table = ("descriptors", queue.desc_addr, queue.desc_addr + DESC_SIZE * queue.size)
    if not isinstance(queue, SplitQueue):
        return [table, *(("suppression", at, at + size) for at, size in events(queue))]
    ring = queue.driver_addr + used_event_offset(queue.size)
    used = used_entries(queue)
    return [
        table,
        ("descriptors", queue.driver_addr, ring),
        ("suppression", ring, queue.driver_addr + avail_size(queue.size)),
        ("suppression", queue.device_addr, queue.device_addr + IDX_OFFSET),
        ("descriptors", queue.device_addr + IDX_OFFSET, used.end),
        ("suppression", used.end, used.end + 2),
    ]
