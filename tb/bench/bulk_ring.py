"""What the bulk drivers of packed virtqueues share: areas, positions, the words of a complaint."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.scenario import BATCH
from virtio_model.errors import DeviceBreach
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.net_header import NetHeader
from virtio_model.rings.packed import (
    DESC_SIZE,
    EVENT_SIZE,
    DescFlags,
    EventFlags,
    EventSuppression,
)

__all__ = ["DESCRIPTOR", "POSITION_BITS", "BulkRing"]

DESCRIPTOR = np.dtype([("addr", "<u8"), ("len", "<u4"), ("id", "<u2"), ("flags", "<u2")])
POSITION_BITS = int(DescFlags.AVAIL | DescFlags.USED)
_ALIGN = 64


class BulkRing:
    """Driver side of a packed virtqueue whose buffers are used in order [virtio 1.4 §2.8].

    Buffers count from 0 for ever; so do the slots that they take. A subclass gives `can_add`,
    `slots_before`, `_supply` and `_collect`. receive: the buffers are for the device to write.
    pair: the queue pair that numbers the frames. interrupts: whether the device may send any.
    """

    def __init__(
        self,
        memory: GuestMemory,
        allocator: Allocator,
        size: int,
        *,
        receive: bool,
        pair: int = 0,
        interrupts: bool = False,
    ) -> None:
        self.memory = memory
        self.size = size
        self.receive = receive
        self.pair = pair
        self.desc_addr = allocator.alloc(DESC_SIZE * size, _ALIGN)
        self.driver_addr = allocator.alloc(EVENT_SIZE, _ALIGN)
        self.device_addr = allocator.alloc(EVENT_SIZE, _ALIGN)
        memory.grant(self.desc_addr, DESC_SIZE * size, writable=True)
        memory.grant(self.driver_addr, EVENT_SIZE)
        memory.grant(self.device_addr, EVENT_SIZE, writable=True, readable=False)
        memory.write(self.desc_addr, bytes(DESC_SIZE * size))
        wanted = EventFlags.ENABLE if interrupts else EventFlags.DISABLE
        memory.write(self.driver_addr, EventSuppression(flags=wanted).encode())
        memory.write(self.device_addr, bytes(EVENT_SIZE))
        self.header = NetHeader(num_buffers=1 if receive else 0).encode()
        self.write_flag = int(DescFlags.WRITE) if receive else 0
        self.available = 0
        """Buffers made available so far."""
        self.taken = 0
        """Buffers that came back and were checked."""

    @property
    def batch(self) -> int:
        """Buffers that the driver supplies, and takes back, at a time: one doorbell for them."""
        return BATCH

    def needs_kick(self) -> bool:
        """Tell whether the device wants to be notified."""
        event = EventSuppression.decode(self.memory.read(self.device_addr, EVENT_SIZE))
        return event.flags != EventFlags.DISABLE

    def can_add(self, count: int) -> bool:
        """Tell whether the next `count` buffers fit."""
        raise NotImplementedError

    def slots_before(self, number: int) -> int:
        """Return how many slots the buffers before the `number`-th take."""
        raise NotImplementedError

    def add(self, count: int) -> None:
        """Make the next `count` buffers available; transmit buffers get the next frames."""
        assert self.can_add(count)
        self._supply(count)
        self.available += count

    def poll(self) -> int:
        """Take back and check what the device has used; return how many buffers."""
        count = self._collect(self.available - self.taken)
        self.taken += count
        return count

    def _supply(self, count: int) -> None:
        raise NotImplementedError

    def _collect(self, limit: int) -> int:
        raise NotImplementedError

    def place(self, slot: int) -> tuple[int, int]:
        """Return index in the ring and wrap counter of the `slot`-th slot."""
        lap, index = divmod(slot, self.size)
        return index, lap & 1 ^ 1

    def runs(self, slot: int, count: int) -> list[tuple[int, int]]:
        """Return (slot, count) pieces that do not pass the end of the ring."""
        until_end = self.size - slot % self.size
        pieces = [(slot, min(count, until_end)), (slot + until_end, count - until_end)]
        return [piece for piece in pieces if piece[1] > 0]

    def demand(self, what: str, number: int, found: NDArray[Any], expected: Any) -> None:
        """Complain unless row i of `found`, of buffer `number` + i, is as expected."""
        wrong = found != expected
        if not wrong.any():
            return
        row = int(np.argwhere(wrong)[0][0])
        raise DeviceBreach(
            f"{what} of a used buffer is wrong",
            receive=self.receive,
            pair=self.pair,
            buffer=number + row,
            found=found[row].tolist(),
            expected=np.broadcast_to(expected, found.shape)[row].tolist(),
        )
