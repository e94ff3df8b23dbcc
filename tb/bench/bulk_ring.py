"""What the bulk drivers share: buffers that count for ever, and the words of a complaint."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.ring_layout import DESCRIPTOR, LAYOUTS, Ring, RingLayout
from bench.scenario import BATCH
from virtio_model.errors import DeviceBreach
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.net_header import NetHeader
from virtio_model.rings.packed import DescFlags

__all__ = ["DESCRIPTOR", "BulkRing"]


class BulkRing:
    """Driver side of a virtqueue whose buffers are used in order.

    Buffers count from 0 for ever; so do the slots that their descriptors take. A subclass gives
    `can_add`, `slots_before`, `_supply` and `_collect`. receive: the buffers are for the device to
    write. pair: the queue pair that numbers the frames. interrupts: whether the device may send
    any. ring: the format.
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
        ring: Ring = "packed",
    ) -> None:
        self.memory = memory
        self.size = size
        self.receive = receive
        self.pair = pair
        self.layout: RingLayout = LAYOUTS[ring](memory, allocator, size, interrupts=interrupts)
        self.header = NetHeader(num_buffers=1 if receive else 0).encode()
        self.write_flag = int(DescFlags.WRITE) if receive else 0
        self.available = 0
        """Buffers made available so far."""
        self.taken = 0
        """Buffers that came back and were checked."""

    @property
    def desc_addr(self) -> int:
        """Descriptor area."""
        return self.layout.desc_addr

    @property
    def driver_addr(self) -> int:
        """Driver area."""
        return self.layout.driver_addr

    @property
    def device_addr(self) -> int:
        """Device area."""
        return self.layout.device_addr

    @property
    def batch(self) -> int:
        """Buffers that the driver supplies, and takes back, at a time: one doorbell for them."""
        return BATCH

    def needs_kick(self) -> bool:
        """Tell whether the device wants to be notified."""
        return self.layout.needs_kick()

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
        self.layout.publish(self.available)

    def poll(self) -> int:
        """Take back and check what the device has used; return how many buffers."""
        count = self._collect(self.available - self.taken)
        self.taken += count
        return count

    def _supply(self, count: int) -> None:
        raise NotImplementedError

    def _collect(self, limit: int) -> int:
        raise NotImplementedError

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
