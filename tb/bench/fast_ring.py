"""A virtqueue driven in bulk: cheap enough for tens of millions of frames a second.

Every slot has its own buffer for good, of one descriptor; nothing is allocated while frames move.
All used descriptors and all bytes are still checked, a batch at a time.
"""

from __future__ import annotations

import numpy as np

from bench.bulk_ring import DESCRIPTOR, BulkRing
from bench.pattern import expected_frames
from bench.ring_layout import Ring
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.spec.net import HEADER_SIZE

_ALIGN = 64


class FastRing(BulkRing):
    """A `BulkRing` of equal frames, one descriptor each.

    frame_bytes: of every frame, without FCS. draw: shuffles the buffer ids once, so that id and
    slot differ.
    """

    def __init__(
        self,
        memory: GuestMemory,
        allocator: Allocator,
        size: int,
        frame_bytes: int,
        *,
        receive: bool,
        draw: np.random.Generator,
        pair: int = 0,
        interrupts: bool = False,
        ring: Ring = "packed",
    ) -> None:
        super().__init__(
            memory, allocator, size, receive=receive, pair=pair, interrupts=interrupts, ring=ring
        )
        self.frame_bytes = frame_bytes
        self.packet_bytes = frame_bytes + HEADER_SIZE
        self.stride = -(-self.packet_bytes // _ALIGN) * _ALIGN
        self.pool = allocator.alloc(self.stride * size, 4096)
        # One window from the first buffer to the last byte of the last.
        length = self.stride * (size - 1) + self.packet_bytes
        memory.grant(self.pool, length, writable=receive, readable=not receive)
        self._ids = draw.permutation(size).astype("<u2")
        self._header = np.frombuffer(self.header, np.uint8)

    @property
    def free(self) -> int:
        """Slots that the driver may fill."""
        return self.size - (self.available - self.taken)

    def can_add(self, count: int) -> bool:
        """Tell whether the next `count` buffers fit."""
        return count <= self.free

    def slots_before(self, number: int) -> int:
        """Return `number`: a buffer has one descriptor."""
        return number

    def _supply(self, count: int) -> None:
        for number, part in self.runs(self.available, count):
            self._add(number, part)

    def _add(self, number: int, count: int) -> None:
        index = number % self.size
        if not self.receive:
            rows = np.zeros((count, self.stride), np.uint8)
            rows[:, HEADER_SIZE : self.packet_bytes] = expected_frames(
                number, count, self.frame_bytes, self.pair
            )
            self.memory.write(self.pool + index * self.stride, rows.tobytes())
        descriptors = np.zeros(count, DESCRIPTOR)
        slots = np.arange(index, index + count)
        descriptors["addr"] = self.pool + slots * self.stride
        descriptors["len"] = self.packet_bytes
        descriptors["id"] = self._ids[index : index + count]
        descriptors["flags"] = self.write_flag
        self.layout.write(number, number, descriptors)

    def _collect(self, limit: int) -> int:
        total = 0
        for number, part in self.runs(self.taken, limit):
            count = self._take(number, part)
            total += count
            if count < part:
                break
        return total

    def _take(self, number: int, limit: int) -> int:
        index = number % self.size
        used = self.layout.used(number, number, limit)
        count = len(used.id)
        ids = self.layout.ids(number, self._ids[index : index + count])
        self.demand("id", number, used.id, ids)
        length = self.packet_bytes if self.receive else 0
        self.demand("len", number, used.len, length)
        if used.flags is not None:
            self.demand("flags", number, used.flags, self.write_flag)
        if count and self.receive:
            self._check_frames(number, index, count)
        return count

    def _check_frames(self, number: int, index: int, count: int) -> None:
        start = self.pool + index * self.stride
        rows = np.frombuffer(self.memory.read(start, count * self.stride), np.uint8)
        rows = rows.reshape(count, self.stride)
        self.demand("header", number, rows[:, :HEADER_SIZE], self._header)
        frames = expected_frames(number, count, self.frame_bytes, self.pair)
        self.demand("frame", number, rows[:, HEADER_SIZE : self.packet_bytes], frames)
