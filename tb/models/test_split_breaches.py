"""Every rule that the driver side of a split virtqueue checks, broken once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from ring_rig import Rig

from virtio_model.errors import DeviceBreach, DeviceFault
from virtio_model.rings.split import UsedElement, avail_event_offset

SIZE = 4


@pytest.fixture
def rig() -> Rig:
    """Four descriptors; 0 is a read-only buffer, 1 and 2 are one with 20 writable bytes."""
    return make()


def make(**features: bool) -> Rig:
    """The same with other features."""
    made = Rig(SIZE, packed=False, drawn=False, **features)  # type: ignore[arg-type]
    made.add([10], [])
    made.add([10], [20])
    return made


def put(rig: Rig, index: int, buffer_id: int, length: int) -> None:
    """Write a used element as the device would."""
    at = rig.driver.device_addr + 4 + 8 * (index % SIZE)
    rig.memory.device_write(at, UsedElement(buffer_id, length).encode())


def show(rig: Rig, index: int) -> None:
    """Write used idx as the device would."""
    rig.memory.device_write(rig.driver.device_addr + 2, index.to_bytes(2, "little"))


def breach(text: str, step: Callable[[], object]) -> DeviceBreach:
    """Run a step that must find a breach."""
    with pytest.raises(DeviceBreach, match=text) as caught:
        step()
    return caught.value


@pytest.mark.parametrize(
    ("text", "buffer_id", "length"),
    [
        ("outside the descriptor table", SIZE, 0),
        ("outside the descriptor table", 1 << 16, 0),
        ("id is not outstanding", 2, 0),
        ("id is not outstanding", 3, 0),
        ("nothing writable is not 0", 0, 1),
        ("exceeds the writable bytes", 1, 21),
    ],
)
def test_bad_used_element(rig: Rig, text: str, buffer_id: int, length: int) -> None:
    """Each wrong used element is told by its own text."""
    put(rig, 0, buffer_id, length)
    show(rig, 1)
    found = breach(text, rig.driver.poll)
    assert found.context["id"] == buffer_id


def test_id_returned_twice(rig: Rig) -> None:
    """A buffer comes back once."""
    for index in (0, 1):
        put(rig, index, 0, 0)
        show(rig, index + 1)
        if index == 0:
            assert rig.driver.poll() is not None
    breach("id is not outstanding", rig.driver.poll)


@pytest.mark.parametrize("index", [3, 4, 0x8000, 0xFFFF])
def test_used_idx_beyond_the_buffers(rig: Rig, index: int) -> None:
    """Not more can come back than is outstanding; backwards is a long way forwards."""
    show(rig, index)
    breach("beyond the buffers outstanding", rig.driver.poll)


def test_used_idx_moved_back(rig: Rig) -> None:
    """What was shown stays shown."""
    put(rig, 0, 0, 0)
    put(rig, 1, 1, 0)
    show(rig, 2)
    assert rig.driver.poll() is not None
    show(rig, 1)
    breach("moved back", rig.driver.poll)


def test_element_changed_behind_the_index(rig: Rig) -> None:
    """A used element is final once used idx shows it."""
    put(rig, 0, 1, 0)
    put(rig, 1, 0, 0)
    show(rig, 2)
    assert rig.driver.poll() is not None
    put(rig, 1, 1, 5)
    breach("changed behind used idx", rig.driver.poll)


def test_element_before_the_index_is_legal(rig: Rig) -> None:
    """What stands in an element is of no account until used idx shows it."""
    put(rig, 0, 77, 99)
    put(rig, 1, 88, 99)
    assert rig.driver.poll() is None
    rig.driver.audit()
    put(rig, 0, 1, 20)
    show(rig, 1)
    rig.driver.audit()
    used = rig.driver.poll()
    assert used is not None
    assert (used.id, used.length) == (1, 20)


@pytest.mark.parametrize("index", [2, 3])
def test_element_that_no_buffer_is_due_for(rig: Rig, index: int) -> None:
    """Elements beyond the buffers outstanding are not the device's to write."""
    put(rig, index, 1, 1)
    found = breach("used element that it must not touch", rig.driver.audit)
    assert found.context["slot"] == index


@pytest.mark.parametrize(
    ("text", "area"),
    [("descriptor table", "desc_addr"), ("available ring", "driver_addr")],
)
def test_what_is_the_drivers(rig: Rig, text: str, area: str) -> None:
    """Table and available ring cannot be written by a device, and are looked at all the same."""
    addr = getattr(rig.driver, area)
    with pytest.raises(DeviceFault):
        rig.memory.device_write(addr + 5, b"\x99")
    rig.driver.audit()
    rig.memory.write(addr + 5, b"\x99")
    breach(f"changed the {text}", rig.driver.audit)


@pytest.mark.parametrize(
    ("text", "flags", "event_idx"),
    [
        ("reserved bits", 2, False),
        ("reserved bits", 0x8000, False),
        ("not 0 although EVENT_IDX", 1, True),
        ("not 0 although EVENT_IDX", 2, True),
    ],
)
def test_bad_used_flags(text: str, flags: int, event_idx: bool) -> None:
    """0 or 1, with EVENT_IDX 0; drivers that are not strict do not look."""
    rig = make(event_idx=event_idx)
    rig.memory.device_write(rig.driver.device_addr, flags.to_bytes(2, "little"))
    breach(text, rig.driver.needs_kick)
    breach(text, rig.driver.audit)
    rig.driver.strict = False
    rig.driver.audit()
    rig.driver.needs_kick()


def test_avail_event_may_be_anything() -> None:
    """The place belongs to the device, with or without EVENT_IDX."""
    for event_idx in (False, True):
        rig = make(event_idx=event_idx)
        at = rig.driver.device_addr + avail_event_offset(SIZE)
        rig.memory.device_write(at, b"\x12\x34")
        rig.driver.needs_kick()
        rig.driver.audit()


def test_in_order_batch() -> None:
    """One used element returns all up to its buffer; those before it were used completely."""
    rig = make(in_order=True)
    put(rig, 0, 1, 7)
    show(rig, 2)
    rig.driver.audit()
    first, second = rig.driver.poll(), rig.driver.poll()
    assert first
    assert second
    assert (first.id, first.length, second.id, second.length) == (0, 0, 1, 7)
    assert rig.driver.poll() is None
    assert rig.driver.free_slots == SIZE
    rig.driver.audit()


def test_out_of_order_with_in_order() -> None:
    """A later buffer's id stands for a batch, which used idx must show."""
    rig = make(in_order=True)
    put(rig, 0, 1, 7)
    show(rig, 1)
    breach("more buffers than used idx shows", rig.driver.poll)


def test_batch_without_in_order(rig: Rig) -> None:
    """Without IN_ORDER each buffer needs an element of its own; a stale one is none."""
    put(rig, 0, 1, 7)
    put(rig, 1, 1, 7)
    show(rig, 2)
    assert rig.driver.poll() is not None
    breach("id is not outstanding", rig.driver.poll)


def test_device_is_confined_to_what_it_holds(rig: Rig) -> None:
    """Windows follow the buffers: direction, length and lifetime."""
    read_only, both = rig.flying
    source, target = both.readable.segments[0], both.writable.segments[0]
    memory = rig.memory
    assert memory.device_read(*source) == both.sent
    memory.device_write(target.addr, bytes(20))
    forbidden = [
        lambda: memory.device_write(source.addr, b"x"),
        lambda: memory.device_read(target.addr, 1),
        lambda: memory.device_write(target.addr, bytes(21)),
        lambda: memory.device_read(rig.driver.device_addr, 4),
        lambda: memory.device_write(rig.driver.device_addr + 6 + 8 * SIZE, b"x"),
        lambda: memory.device_read(rig.driver.driver_addr + 6 + 2 * SIZE, 1),
    ]
    for access in forbidden:
        with pytest.raises(DeviceFault):
            access()
    put(rig, 0, 0, 0)
    show(rig, 1)
    rig.driver.poll()
    with pytest.raises(DeviceFault):
        memory.device_read(*read_only.readable.segments[0])
