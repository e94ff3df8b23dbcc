"""Where the hostile driver's memory is, and what stands in it."""

from __future__ import annotations

from dataclasses import dataclass

from virtio_model.spec.packed import EVENT_SIZE
from virtio_model.spec.split import DESC_SIZE, avail_size, used_size

__all__ = [
    "ARENA",
    "ARENA_BYTES",
    "BUFFERS",
    "MEMORY_BASE",
    "MEMORY_BYTES",
    "NEIGHBOUR",
    "QUEUE_BYTES",
    "TABLES",
    "Place",
    "place",
]

MEMORY_BASE = 1 << 32
MEMORY_BYTES = 1 << 19

ARENA = MEMORY_BASE + 0x4000
"""The hostile driver may let the device read and write all of [ARENA, ARENA + ARENA_BYTES)."""
ARENA_BYTES = 0x10000
QUEUE_BYTES = 0x2000
"""Of each of the two hostile virtqueues, from ARENA on."""
TABLES = ARENA + 2 * QUEUE_BYTES
BUFFERS = ARENA + 0x6000
"""From here to the end of the arena."""
NEIGHBOUR = MEMORY_BASE + 0x20000
"""The neighbour's memory, up to the end; what lies between is nobody's."""


@dataclass(frozen=True)
class Place:
    """A virtqueue's ring in memory: addresses, and bytes that a device may write unasked."""

    index: int
    packed: bool
    size: int
    desc: int
    driver: int
    device: int

    @property
    def written(self) -> tuple[tuple[int, int], ...]:
        """[start, end) of what the device may write: used ring, or slots and event structure."""
        if self.packed:
            slots = (self.desc, self.desc + DESC_SIZE * self.size)
            return slots, (self.device, self.device + EVENT_SIZE)
        return ((self.device, self.device + used_size(self.size)),)


def place(index: int, packed: bool, size: int) -> Place:
    """Where the hostile virtqueue of an index stands."""
    base = ARENA + QUEUE_BYTES * index
    driver = base + DESC_SIZE * size
    device = driver + (EVENT_SIZE if packed else -(-avail_size(size) // 4) * 4)
    return Place(index, packed, size, base, driver, device)
