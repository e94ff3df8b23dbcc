"""The golden device's side of a virtqueue, as negotiated."""

from __future__ import annotations

from typing import Protocol

from virtio_model.device.packed_queue import DevicePackedQueue
from virtio_model.device.split_queue import DeviceSplitQueue
from virtio_model.memory import GuestMemory
from virtio_model.spec.features import Feature, has

GoldenQueue = DeviceSplitQueue | DevicePackedQueue


class PlacedQueue(Protocol):
    """Where a driver has put a virtqueue: its own queue, or registers that it wrote."""

    @property
    def size(self) -> int: ...

    @property
    def desc_addr(self) -> int: ...

    @property
    def driver_addr(self) -> int: ...

    @property
    def device_addr(self) -> int: ...


def make_device_queue(
    memory: GuestMemory, queue: PlacedQueue, features: int, *, max_chain: int | None = None
) -> GoldenQueue:
    """The golden device side of a driver's queue, with the features that were accepted."""
    kind = DevicePackedQueue if has(features, Feature.RING_PACKED) else DeviceSplitQueue
    return kind(
        memory,
        queue.size,
        queue.desc_addr,
        queue.driver_addr,
        queue.device_addr,
        indirect=has(features, Feature.INDIRECT_DESC),
        event_idx=has(features, Feature.EVENT_IDX),
        in_order=has(features, Feature.IN_ORDER),
        max_chain=max_chain,
    )
