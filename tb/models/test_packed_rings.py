"""Random traffic over a packed virtqueue, between the driver model and the golden device."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ring_rig import Rig

from virtio_model.driver.packed_queue import PackedQueue
from virtio_model.errors import QueueFull
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.rings.packed import (
    DescFlags,
    EventSuppression,
    PackedDescriptor,
    advance,
    avail_bits,
    distance,
    event_reached,
    is_available,
    is_used,
    used_bits,
)

SIZES = (1, 2, 3, 7, 16, 100)
LENGTHS = st.lists(st.integers(1, 40), max_size=5)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), LENGTHS, LENGTHS, st.booleans()),
        st.tuples(st.sampled_from(["take", "complete", "poll", "audit"])),
    ),
    max_size=60,
)


@given(size=st.sampled_from(SIZES), steps=STEPS, seed=st.integers(0, 999), event_idx=st.booleans())
@settings(deadline=None)
def test_random_traffic(
    size: int, steps: list[tuple[object, ...]], seed: int, event_idx: bool
) -> None:
    """Any order of adding, taking, completing and polling carries all bytes."""
    rig = Rig(size, seed=seed, event_idx=event_idx)
    for step in steps:
        if step[0] == "add":
            _, readable, writable, indirect = step
            assert isinstance(readable, list)
            assert isinstance(writable, list)
            if not 1 <= len(readable) + len(writable) <= size:
                continue
            if (1 if indirect else len(readable) + len(writable)) > rig.driver.free_slots:
                continue
            rig.add(readable, writable, bool(indirect))
        else:
            getattr(rig.driver if step[0] == "audit" else rig, str(step[0]))()
    rig.drain()


@pytest.mark.parametrize("size", SIZES)
def test_many_laps_with_the_ring_kept_full(size: int) -> None:
    """Full rings of every size, over many wraps."""
    rig = Rig(size, seed=size)
    for lap in range(3 * size + 20):
        segments = min(size, 1 + lap % 3)
        while rig.driver.free_slots >= segments:
            rig.add([5] * (segments - 1), [9])
        with pytest.raises(QueueFull):
            rig.driver.add([], [(rig.memory.base, 1)] * (rig.driver.free_slots + 1))
        while rig.take():
            pass
        while rig.complete():
            pass
        rig.driver.audit()
        while rig.poll():
            pass
    rig.drain()


@pytest.mark.parametrize("size", [1, 3, 8])
def test_in_order_batch_by_one_used_descriptor(size: int) -> None:
    """With IN_ORDER one used descriptor returns a batch [virtio 1.4 §2.8.8]."""
    memory = GuestMemory(1 << 16, base=0x1000)
    allocator = Allocator(memory)
    queue = PackedQueue(memory, allocator, size, in_order=True)
    position = (0, 1)
    for _ in range(5):
        ids = [queue.add([], [(0x8000 + 16 * n, 10)], n) for n in range(size)]
        used = PackedDescriptor(0, 4, ids[-1], used_bits(position[1]) | DescFlags.WRITE)
        memory.device_write(queue.desc_addr + 16 * position[0], used.encode())
        queue.audit()
        lengths = [queue.poll().length for _ in range(size)]  # type: ignore[union-attr]
        assert lengths == [10] * (size - 1) + [4]
        assert queue.poll() is None
        position = advance(*position, size, size)


def test_reset_returns_cookies_and_windows() -> None:
    """A reset takes everything back, used or not."""
    rig = Rig(4)
    first, second = rig.add([4], []), rig.add([], [4, 4], indirect=True)
    rig.take()
    rig.complete()
    assert rig.driver.reset() == [first, second]
    assert rig.driver.free_slots == 4
    assert not rig.memory.device_may(first.readable.segments[0].addr, 1, writing=False)


def test_add_refuses_nonsense() -> None:
    """Misuse of the driver side is told from device breaches."""
    rig = Rig(2, indirect=False)
    with pytest.raises(ValueError, match="at least one segment"):
        rig.driver.add([], [])
    with pytest.raises(ValueError, match="INDIRECT_DESC"):
        rig.driver.add([(0x4000_1000, 1)], [], indirect=True)
    with pytest.raises(QueueFull, match="longer than the device allows"):
        rig.driver.add([(0x4000_1000, 1)] * 3, [])
    for size in (0, 32769):
        with pytest.raises(ValueError, match="queue size"):
            PackedQueue(rig.memory, rig.allocator, size)


def test_largest_ring() -> None:
    """32768 slots, the most there can be."""
    rig = Rig(32768)
    rig.add([1], [2, 3])
    rig.drain()


# Arithmetic and codec

POSITIONS = st.tuples(st.integers(0, 99), st.integers(0, 1))


@given(size=st.integers(1, 100), data=st.data())
def test_distance_undoes_advance(size: int, data: st.DataObject) -> None:
    """distance() is the inverse of advance()."""
    index = data.draw(st.integers(0, size - 1))
    wrap = data.draw(st.integers(0, 1))
    count = data.draw(st.integers(0, size))
    assert distance((index, wrap), advance(index, wrap, count, size), size) == count


@given(size=st.integers(1, 100), data=st.data())
def test_event_agrees_with_the_usual_implementation(size: int, data: st.DataObject) -> None:
    """The 16-bit test of Linux (virtqueue_kick_prepare_packed), to the letter."""
    old = (data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, 1)))
    added = data.draw(st.integers(0, size))
    event = (data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, 1)))
    new = advance(*old, added, size)
    event_idx = event[0] - (size if event[1] != new[1] else 0)
    usual = (new[0] - event_idx - 1) & 0xFFFF < added & 0xFFFF
    assert event_reached(event, old, new, size) == usual


@given(
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 65535),
    st.integers(0, 65535),
)
def test_codec(addr: int, length: int, buffer_id: int, flags: int) -> None:
    """Encoding and decoding are inverse."""
    descriptor = PackedDescriptor(addr, length, buffer_id, flags)
    assert PackedDescriptor.decode(descriptor.encode()) == descriptor
    event = EventSuppression(buffer_id & 0x7FFF, buffer_id >> 15, flags)
    assert EventSuppression.decode(event.encode()) == event


def test_flag_predicates() -> None:
    """AVAIL and USED by wrap counter [virtio 1.4 §2.8.1]."""
    for wrap in (0, 1):
        assert is_available(avail_bits(wrap), wrap)
        assert not is_available(avail_bits(wrap), wrap ^ 1)
        assert is_used(used_bits(wrap), wrap)
        assert not is_used(used_bits(wrap), wrap ^ 1)
    assert (avail_bits(1), avail_bits(0)) == (0x0080, 0x8000)
    assert (used_bits(1), used_bits(0)) == (0x8080, 0x0000)


# Event suppression


def test_kicks_by_flags() -> None:
    """ENABLE asks for kicks, DISABLE does not."""
    rig = Rig(4)
    rig.add([1], [])
    assert rig.driver.needs_kick()
    rig.device.enable_notifications(False)
    rig.add([1], [])
    assert not rig.driver.needs_kick()


def test_kick_for_one_slot_only() -> None:
    """DESC asks for the kick of one slot."""
    rig = Rig(3, event_idx=True)
    for _ in range(7):
        rig.device.enable_notifications()
        rig.add([1], [])
        assert rig.driver.needs_kick(), "the slot that the device waits for"
        rig.add([1], [])
        assert not rig.driver.needs_kick(), "the slot behind it"
        for _ in range(2):
            rig.take()
            rig.complete()
            rig.poll()


def test_notification_data_names_the_next_slot() -> None:
    """next_off and next_wrap [virtio 1.4 §2.9]."""
    rig = Rig(3)
    assert rig.driver.notification_data() == 0x8000
    rig.add([1], [1])
    assert rig.driver.notification_data() == 0x8002
    rig.add([1], [])
    assert rig.driver.notification_data() == 0x0000
