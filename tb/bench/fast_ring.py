"""A packed virtqueue driven in bulk: cheap enough for tens of millions of frames a second.

Every slot has its own buffer for good, of one descriptor; nothing is allocated while frames move.
All used descriptors and all bytes are still checked, a batch at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.pattern import expected_frames
from virtio_model.errors import DeviceBreach
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.net_header import NetHeader
from virtio_model.rings.packed import (
    DESC_SIZE,
    EVENT_SIZE,
    DescFlags,
    EventFlags,
    EventSuppression,
    avail_bits,
    used_bits,
)
from virtio_model.spec.net import HEADER_SIZE

_DESC = np.dtype([("addr", "<u8"), ("len", "<u4"), ("id", "<u2"), ("flags", "<u2")])
_POSITION_BITS = int(DescFlags.AVAIL | DescFlags.USED)
_ALIGN = 64


class FastRing:
    """Driver side of a packed virtqueue of equal frames, in order [virtio 1.4 §2.8].

    frame_bytes: of every frame, without FCS. receive: its buffers are for the device to write.
    draw: shuffles the buffer ids once, so that id and slot differ.
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
    ) -> None:
        self.memory = memory
        self.size = size
        self.receive = receive
        self.frame_bytes = frame_bytes
        self.packet_bytes = frame_bytes + HEADER_SIZE
        self.stride = -(-self.packet_bytes // _ALIGN) * _ALIGN
        self.desc_addr = allocator.alloc(DESC_SIZE * size, _ALIGN)
        self.driver_addr = allocator.alloc(EVENT_SIZE, _ALIGN)
        self.device_addr = allocator.alloc(EVENT_SIZE, _ALIGN)
        self.pool = allocator.alloc(self.stride * size, 4096)
        memory.grant(self.desc_addr, DESC_SIZE * size, writable=True)
        memory.grant(self.driver_addr, EVENT_SIZE)
        memory.grant(self.device_addr, EVENT_SIZE, writable=True, readable=False)
        # One window from the first buffer to the last byte of the last.
        length = self.stride * (size - 1) + self.packet_bytes
        memory.grant(self.pool, length, writable=receive, readable=not receive)
        memory.write(self.desc_addr, bytes(DESC_SIZE * size))
        memory.write(self.driver_addr, EventSuppression(flags=EventFlags.DISABLE).encode())
        memory.write(self.device_addr, bytes(EVENT_SIZE))
        self._ids = draw.permutation(size).astype("<u2")
        self._available = 0  # buffers made available so far
        self._taken = 0  # buffers taken back so far
        header = NetHeader(num_buffers=1 if receive else 0).encode()
        self._header = np.frombuffer(header, np.uint8)

    @property
    def free(self) -> int:
        """Slots that the driver may fill."""
        return self.size - (self._available - self._taken)

    @property
    def taken(self) -> int:
        """Buffers that came back and were checked."""
        return self._taken

    def needs_kick(self) -> bool:
        """Tell whether the device wants to be notified."""
        event = EventSuppression.decode(self.memory.read(self.device_addr, EVENT_SIZE))
        return event.flags != EventFlags.DISABLE

    def _place(self, number: int) -> tuple[int, int]:
        """Return slot and wrap counter of the `number`-th buffer."""
        lap, index = divmod(number, self.size)
        return index, lap & 1 ^ 1

    def _runs(self, number: int, count: int) -> list[tuple[int, int]]:
        """Return (number, count) pieces that do not pass the end of the ring."""
        until_end = self.size - number % self.size
        pieces = [(number, min(count, until_end)), (number + until_end, count - until_end)]
        return [piece for piece in pieces if piece[1] > 0]

    # Supplying buffers

    def add(self, count: int) -> None:
        """Make the next `count` buffers available; transmit buffers get the next frames."""
        assert count <= self.free
        for number, part in self._runs(self._available, count):
            self._add(number, part)
        self._available += count

    def _add(self, number: int, count: int) -> None:
        index, wrap = self._place(number)
        if not self.receive:
            rows = np.zeros((count, self.stride), np.uint8)
            rows[:, HEADER_SIZE : self.packet_bytes] = expected_frames(
                number, count, self.frame_bytes
            )
            self.memory.write(self.pool + index * self.stride, rows.tobytes())
        descriptors = np.zeros(count, _DESC)
        slots = np.arange(index, index + count)
        descriptors["addr"] = self.pool + slots * self.stride
        descriptors["len"] = self.packet_bytes
        descriptors["id"] = self._ids[index : index + count]
        descriptors["flags"] = avail_bits(wrap) | (int(DescFlags.WRITE) if self.receive else 0)
        self.memory.write(self.desc_addr + DESC_SIZE * index, descriptors.tobytes())

    # Taking them back

    def poll(self) -> int:
        """Take back and check what the device has used; return how many buffers."""
        total = 0
        for number, limit in self._runs(self._taken, self._available - self._taken):
            count = self._take(number, limit)
            total += count
            if count < limit:
                break
        self._taken += total
        return total

    def _take(self, number: int, limit: int) -> int:
        index, wrap = self._place(number)
        raw = self.memory.read(self.desc_addr + DESC_SIZE * index, DESC_SIZE * limit)
        descriptors = np.frombuffer(raw, _DESC)
        waiting = descriptors["flags"] & _POSITION_BITS != used_bits(wrap)
        count = int(waiting.argmax()) if waiting.any() else limit
        used = descriptors[:count]
        self._demand("id", number, used["id"], self._ids[index : index + count])
        length = self.packet_bytes if self.receive else 0
        self._demand("len", number, used["len"], length)
        flags = used_bits(wrap) | (int(DescFlags.WRITE) if self.receive else 0)
        self._demand("flags", number, used["flags"], flags)
        if count and self.receive:
            self._check_frames(number, index, count)
        return count

    def _check_frames(self, number: int, index: int, count: int) -> None:
        start = self.pool + index * self.stride
        rows = np.frombuffer(self.memory.read(start, count * self.stride), np.uint8)
        rows = rows.reshape(count, self.stride)
        self._demand("header", number, rows[:, :HEADER_SIZE], self._header)
        frames = expected_frames(number, count, self.frame_bytes)
        self._demand("frame", number, rows[:, HEADER_SIZE : self.packet_bytes], frames)

    def _demand(self, what: str, number: int, found: NDArray[Any], expected: Any) -> None:
        wrong = found != expected
        if not wrong.any():
            return
        row = int(np.argwhere(wrong)[0][0])
        raise DeviceBreach(
            f"{what} of a used buffer is wrong",
            receive=self.receive,
            buffer=number + row,
            found=found[row].tolist(),
            expected=np.broadcast_to(expected, found.shape)[row].tolist(),
        )
