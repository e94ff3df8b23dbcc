"""Split virtqueues: codec, arithmetic, notifications, what the driver writes and refuses."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ring_rig import Rig

from virtio_model.driver.queue import BUFFER_BYTES_MAX
from virtio_model.driver.split_queue import SplitQueue
from virtio_model.errors import DriverMisuse, QueueFull
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.rings.split import (
    DescFlags,
    SplitDescriptor,
    UsedElement,
    avail_entry_offset,
    moved,
    need_event,
    used_entry_offset,
)

NEXT, WRITE, INDIRECT = int(DescFlags.NEXT), int(DescFlags.WRITE), int(DescFlags.INDIRECT)
U16 = st.integers(0, 0xFFFF)


def split(size: int = 4, **options: bool) -> Rig:
    """A split virtqueue with nothing left to chance."""
    return Rig(size, packed=False, drawn=False, **options)  # type: ignore[arg-type]


def table(rig: Rig) -> list[SplitDescriptor]:
    """The descriptor table as it lies in memory."""
    data = rig.memory.read(rig.driver.desc_addr, 16 * rig.size)
    return [SplitDescriptor.decode(data[at : at + 16]) for at in range(0, len(data), 16)]


# Arithmetic and codec


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), U16, U16)
def test_codec(addr: int, length: int, flags: int, following: int) -> None:
    """Encoding and decoding are inverse."""
    descriptor = SplitDescriptor(addr, length, flags, following)
    assert SplitDescriptor.decode(descriptor.encode()) == descriptor
    element = UsedElement(length, addr & 0xFFFF_FFFF)
    assert UsedElement.decode(element.encode()) == element
    assert element.encode() == length.to_bytes(4, "little") + element.len.to_bytes(4, "little")


@given(event=U16, old=U16, count=st.integers(0, 0xFFFF))
def test_event_is_one_of_the_entries_passed(event: int, old: int, count: int) -> None:
    """An event fires iff the entry that it names is among those that were filled."""
    new = (old + count) & 0xFFFF
    assert moved(old, new) == count
    assert need_event(event, old, new) == (moved(old, event) < count)


def test_places_in_the_rings() -> None:
    """Entries lie behind flags and idx, and the index goes round the ring."""
    assert [avail_entry_offset(index, 4) for index in (0, 3, 4, 65535)] == [4, 10, 4, 10]
    assert [used_entry_offset(index, 4) for index in (0, 3, 4, 65535)] == [4, 28, 4, 28]


# What the driver writes


def test_image_of_a_direct_and_an_indirect_buffer() -> None:
    """Descriptors, entries and index, written out by hand."""
    rig = split(8)
    rig.driver.add([(0x4000_8000, 10), (0x4000_9000, 20)], [(0x4000_A000, 30)], "direct")
    head = rig.driver.add([(0x4000_B000, 1)], [(0x4000_C000, 2)], "indirect", indirect=True)
    direct, at = table(rig)[:3], table(rig)[head]
    assert direct == [
        SplitDescriptor(0x4000_8000, 10, NEXT, 1),
        SplitDescriptor(0x4000_9000, 20, NEXT, 2),
        SplitDescriptor(0x4000_A000, 30, WRITE, 0),
    ]
    assert (head, at.len, at.flags) == (3, 32, INDIRECT)
    entries = rig.memory.read(at.addr, 32)
    assert SplitDescriptor.decode(entries[:16]) == SplitDescriptor(0x4000_B000, 1, NEXT, 1)
    assert SplitDescriptor.decode(entries[16:]) == SplitDescriptor(0x4000_C000, 2, WRITE, 0)
    ring = rig.memory.read(rig.driver.driver_addr, 8)
    assert ring == bytes([0, 0, 2, 0, 0, 0, 3, 0])
    assert rig.driver.notification_data() == 2


@pytest.mark.parametrize("event_idx", [False, True])
def test_areas_are_aligned_and_zero(event_idx: bool) -> None:
    """Table 16, available ring 2, used ring 4 bytes; the driver zeroes them, used.flags too."""
    memory = GuestMemory(1 << 16, base=0x1000)
    memory.write(0x1000, b"\xff" * 0x8000)
    allocator = Allocator(memory)
    allocator.alloc(3, 1)
    queue = SplitQueue(memory, allocator, 16, event_idx=event_idx)
    assert queue.desc_addr % 16 == queue.driver_addr % 2 == queue.device_addr % 4 == 0
    assert memory.read(queue.desc_addr, 256) == bytes(256)
    assert memory.read(queue.driver_addr, 6 + 2 * 16) == bytes(38)
    assert memory.read(queue.device_addr, 6 + 8 * 16) == bytes(134)
    assert memory.device_may(queue.desc_addr, 256, writing=False)
    assert memory.device_may(queue.driver_addr, 38, writing=False)
    assert memory.device_may(queue.device_addr, 134, writing=True)
    for addr in (queue.desc_addr, queue.driver_addr):
        assert not memory.device_may(addr, 1, writing=True)
    assert not memory.device_may(queue.device_addr, 1, writing=False)


def test_drawn_tables_keep_to_the_rules() -> None:
    """Tables in any order, early ends, noise, WRITE beside INDIRECT: all of it does occur."""
    seen = set()
    for seed in range(60):
        rig = Rig(8, packed=False, seed=seed)
        rig.add([1, 2, 3], [4], indirect=True)
        slots = table(rig)
        pointer = next(d for d in slots if d.flags & INDIRECT)
        entries = [
            SplitDescriptor.decode(rig.memory.read(pointer.addr + 16 * at, 16))
            for at in range(pointer.len // 16)
        ]
        seen.add("order" if entries[0].next == 1 else "shuffled")
        seen.add("direct" if any(d.flags == NEXT for d in slots) else "all in the table")
        seen.add("WRITE" if pointer.flags & WRITE else "plain")
        seen.add("longer" if len(entries) > 4 else "no longer")
        rig.drain()
    assert seen == {
        *("order", "shuffled", "direct", "all in the table"),
        *("WRITE", "plain", "longer", "no longer"),
    }


def test_in_order_takes_the_table_in_order() -> None:
    """With IN_ORDER, chains and indirect tables are sequential, whatever may be drawn."""
    rig = Rig(8, packed=False, in_order=True)
    due = 0
    for lap in range(20):
        count = 1 + lap % 3
        indirect = lap % 4 == 3
        before = rig.driver.free_slots
        rig.add([2] * count, [], indirect)
        taken = before - rig.driver.free_slots
        slots = table(rig)
        for at in range(due, due + taken - 1):
            assert slots[at % 8].flags & NEXT
            assert slots[at % 8].next == (at + 1) % 8
        assert rig.take()
        due += taken
        rig.complete()
        rig.poll()
    with pytest.raises(ValueError, match="policy fifo"):
        SplitQueue(rig.memory, rig.allocator, 8, in_order=True, policy="linux")


def test_add_refuses_nonsense() -> None:
    """Misuse of the driver side is told from device breaches."""
    rig = split(2, indirect=False)
    somewhere = rig.memory.base + 0x1000
    with pytest.raises(ValueError, match="at least one segment"):
        rig.driver.add([], [])
    with pytest.raises(ValueError, match="INDIRECT_DESC"):
        rig.driver.add([(somewhere, 1)], [], indirect=True)
    with pytest.raises(ValueError, match="at most 2"):
        rig.driver.add([(somewhere, BUFFER_BYTES_MAX)], [(somewhere, 1)])
    with pytest.raises(QueueFull, match="longer than the device allows"):
        rig.driver.add([(somewhere, 1)] * 3, [])
    for size in (0, 3, 65536):
        with pytest.raises(ValueError, match="power of two"):
            SplitQueue(rig.memory, rig.allocator, size)
    with pytest.raises(ValueError, match="policy"):
        SplitQueue(rig.memory, rig.allocator, 2, policy="best")  # type: ignore[arg-type]


@pytest.mark.parametrize("packed", [False, True])
def test_nothing_is_added_while_suspended(packed: bool) -> None:
    """A frozen queue takes no buffer, and leaves memory alone."""
    rig = Rig(4, packed=packed)
    rig.driver.frozen = True
    before = rig.memory.read(rig.memory.base, 4096)
    with pytest.raises(DriverMisuse, match="suspended"):
        rig.driver.add([(rig.memory.base, 1)], [])
    assert rig.memory.read(rig.memory.base, 4096) == before
    rig.driver.frozen = False
    rig.add([1], [])


def test_largest_ring() -> None:
    """32768 descriptors, the most there can be."""
    rig = Rig(32768, packed=False)
    rig.add([1], [2, 3])
    rig.drain()


# Notifications


def test_kicks_by_flags() -> None:
    """used.flags 0 asks for kicks, 1 does not; avail_event means nothing without EVENT_IDX."""
    rig = split()
    rig.memory.device_write(rig.driver.device_addr + 4 + 8 * 4, b"\x77\x77")
    rig.add([1], [])
    assert rig.driver.needs_kick()
    rig.device.enable_notifications(False)
    rig.add([1], [])
    assert not rig.driver.needs_kick()


def test_kick_for_one_entry_only() -> None:
    """avail_event asks for the kick of one entry, and used.flags means nothing."""
    rig = split(4, event_idx=True)
    rig.driver.strict = False
    rig.memory.device_write(rig.driver.device_addr, b"\x01\x00")
    for _ in range(7):
        rig.device.enable_notifications()
        rig.add([1], [])
        assert rig.driver.needs_kick(), "the entry that the device waits for"
        rig.add([1], [])
        assert not rig.driver.needs_kick(), "the entry behind it"
        for _ in range(2):
            rig.take()
            rig.complete()
            rig.poll()


@given(adds=st.lists(st.integers(0, 4), max_size=30), events=st.data())
def test_kicks_follow_the_formula(adds: list[int], events: st.DataObject) -> None:
    """However many buffers went between two looks, the entry of the event decides."""
    rig = split(4, event_idx=True)
    avail = 0
    for count in adds:
        event = events.draw(st.sampled_from([avail + 65535, avail, avail + 1, avail + 3])) & 0xFFFF
        at = rig.driver.device_addr + 4 + 8 * 4
        rig.memory.device_write(at, event.to_bytes(2, "little"))
        filled = [(avail + n) & 0xFFFF for n in range(count)]
        if events.draw(st.booleans()):
            rig.driver.disable_interrupts()
        else:
            rig.driver.enable_interrupts()
        for _ in filled:
            rig.add([1], [])
        assert rig.driver.needs_kick() == (event in filled)
        avail += count
        for _ in filled:
            rig.take()
            rig.complete()
            rig.poll()


def test_notification_data_is_the_available_index() -> None:
    """16 bits of it, chains however long counting one."""
    rig = split(4)
    assert rig.driver.notification_data() == 0
    rig.add([1], [1])
    assert rig.driver.notification_data() == 1
    rig.add([1], [])
    assert rig.driver.notification_data() == 2


def test_random_draws_come_from_the_seed() -> None:
    """The same seed writes the same memory."""
    images = []
    for _ in range(2):
        memory = GuestMemory(1 << 14, base=0x1000)
        queue = SplitQueue(memory, Allocator(memory), 8, mixed=True, shuffle_ids=random.Random(5))
        for _ in range(3):
            queue.add([(0x4000, 4), (0x4100, 4)], [(0x4200, 1)], indirect=True)
        images.append(memory.read(0x1000, 1 << 14))
    assert images[0] == images[1]
