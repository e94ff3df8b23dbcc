"""The driver's side of a virtqueue, as negotiated."""

from __future__ import annotations

import random

from virtio_model.driver.free_list import FreePolicy
from virtio_model.driver.packed_queue import PackedQueue
from virtio_model.driver.split_queue import SplitQueue
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.spec.features import Feature, has

Queue = SplitQueue | PackedQueue


def make_queue(
    memory: GuestMemory,
    allocator: Allocator,
    size: int,
    features: int,
    *,
    policy: FreePolicy | None = None,
    mixed: bool = False,
    max_chain: int | None = None,
    strict: bool = True,
    shuffle_ids: random.Random | None = None,
) -> Queue:
    """A `PackedQueue` or a `SplitQueue` with the ring features that were accepted.

    `policy` and `mixed` are for split virtqueues alone; the rest means the same in both.
    """
    indirect = has(features, Feature.INDIRECT_DESC)
    event_idx = has(features, Feature.EVENT_IDX)
    in_order = has(features, Feature.IN_ORDER)
    if has(features, Feature.RING_PACKED):
        return PackedQueue(
            memory,
            allocator,
            size,
            indirect=indirect,
            event_idx=event_idx,
            in_order=in_order,
            max_chain=max_chain,
            strict=strict,
            shuffle_ids=shuffle_ids,
        )
    return SplitQueue(
        memory,
        allocator,
        size,
        indirect=indirect,
        event_idx=event_idx,
        in_order=in_order,
        max_chain=max_chain,
        strict=strict,
        policy=policy,
        mixed=mixed,
        shuffle_ids=shuffle_ids,
    )
