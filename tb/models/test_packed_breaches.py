"""Every rule that the driver side of a packed virtqueue checks, broken once."""

from __future__ import annotations

import pytest
from ring_rig import Rig

from virtio_model.errors import DeviceBreach, DeviceFault
from virtio_model.rings.packed import DescFlags, EventFlags, PackedDescriptor, used_bits

WRITE = DescFlags.WRITE
USED = used_bits(1)


@pytest.fixture
def rig() -> Rig:
    """Four slots; slot 0 holds a read-only buffer, slots 1 and 2 one with 20 writable bytes."""
    made = Rig(4)
    made.driver._shuffle = None
    made.add([10], [])
    made.add([10], [20])
    return made


def put(rig: Rig, index: int, length: int, buffer_id: int, flags: int) -> None:
    """Write a descriptor as the device would."""
    descriptor = PackedDescriptor(0, length, buffer_id, flags)
    rig.memory.device_write(rig.driver.desc_addr + 16 * index, descriptor.encode())


@pytest.mark.parametrize(
    ("text", "length", "buffer_id", "flags"),
    [
        ("none of this queue's", 0, 4, USED),
        ("id is not outstanding", 0, 2, USED),
        ("wrong wrap counter", 0, 0, used_bits(0)),
        ("flags of an available descriptor changed", 0, 0, DescFlags.USED),
        ("flags of an available descriptor changed", 0, 0, DescFlags.AVAIL | DescFlags.NEXT),
        ("exceeds the writable bytes", 21, 1, USED | WRITE),
        ("not 0 although WRITE is clear", 20, 1, USED),
        ("not 0 although WRITE is clear", 1, 0, USED),
        ("nothing writable", 1, 0, USED | WRITE),
        ("nothing writable", 0, 0, USED | WRITE),
        ("flags besides", 0, 0, USED | DescFlags.NEXT),
        ("flags besides", 0, 0, USED | DescFlags.INDIRECT),
        ("flags besides", 0, 0, USED | 0x4000),
    ],
)
def test_bad_used_descriptor(rig: Rig, text: str, length: int, buffer_id: int, flags: int) -> None:
    """Each wrong used descriptor is told by its own text."""
    put(rig, 0, length, buffer_id, flags)
    with pytest.raises(DeviceBreach, match=text) as caught:
        rig.driver.poll()
    assert caught.value.context["slot"] == 0
    assert caught.value.context["id"] == buffer_id


def test_id_returned_twice(rig: Rig) -> None:
    """A buffer comes back once."""
    put(rig, 0, 0, 0, USED)
    assert rig.driver.poll() is not None
    put(rig, 1, 0, 0, USED)
    with pytest.raises(DeviceBreach, match="id is not outstanding"):
        rig.driver.poll()


def test_nothing_outstanding(rig: Rig) -> None:
    """Used descriptors beyond the last buffer are noticed."""
    put(rig, 0, 0, 0, USED)
    put(rig, 1, 0, 1, USED)
    put(rig, 3, 0, 1, USED)
    assert rig.driver.poll()
    assert rig.driver.poll()
    with pytest.raises(DeviceBreach, match="no buffer outstanding"):
        rig.driver.poll()


def test_slot_inside_a_chain_changed(rig: Rig) -> None:
    """The slots that a used chain skips stay as they were."""
    put(rig, 0, 0, 0, USED)
    put(rig, 1, 0, 1, USED)
    put(rig, 2, 0, 1, USED)
    assert rig.driver.poll() is not None
    with pytest.raises(DeviceBreach, match="must not touch") as caught:
        rig.driver.poll()
    assert caught.value.context["slot"] == 2


@pytest.mark.parametrize("slot", [1, 2, 3])
def test_used_descriptor_in_the_wrong_slot(rig: Rig, slot: int) -> None:
    """A used descriptor elsewhere is not seen by polling, but by the audit."""
    put(rig, slot, 0, 0, USED)
    assert rig.driver.poll() is None
    with pytest.raises(DeviceBreach, match="must not touch") as caught:
        rig.driver.audit()
    assert caught.value.context["slot"] == slot


def test_audit_follows_used_descriptors(rig: Rig) -> None:
    """The audit allows what waits to be polled, and no more."""
    put(rig, 0, 0, 0, USED)
    put(rig, 1, 20, 1, USED | WRITE)
    rig.driver.audit()
    put(rig, 3, 0, 1, USED)
    with pytest.raises(DeviceBreach, match="must not touch"):
        rig.driver.audit()


def test_body_before_flags_is_legal(rig: Rig) -> None:
    """len and id may become visible before the flags."""
    available = rig.memory.read_u16(rig.driver.desc_addr + 14)
    put(rig, 0, 0, 0, available)
    assert rig.driver.poll() is None
    put(rig, 0, 0, 0, USED)
    assert rig.driver.poll() is not None


def test_out_of_order_completion_is_legal_without_in_order(rig: Rig) -> None:
    """Used descriptors come in the order of completion."""
    put(rig, 0, 5, 1, USED | WRITE)
    put(rig, 2, 0, 0, USED)
    first, second = rig.driver.poll(), rig.driver.poll()
    assert first
    assert second
    assert (first.id, second.id) == (1, 0)
    assert rig.driver.free_slots == 4


def test_lenient_about_what_drivers_ignore() -> None:
    """Without `strict`, reserved values in a used descriptor pass."""
    rig = Rig(2)
    rig.driver.strict = False
    rig.driver._shuffle = None
    rig.add([10], [])
    put(rig, 0, 33, 0, USED | DescFlags.NEXT)
    assert rig.driver.poll() is not None


@pytest.mark.parametrize(
    ("text", "off_wrap", "flags", "event_idx"),
    [
        ("reserved bits", 0, 0x8000, True),
        ("reserved value", 0, 3, True),
        ("without VIRTIO_F_EVENT_IDX", 0, EventFlags.DESC, False),
        ("outside the ring", 4, EventFlags.DESC, True),
    ],
)
def test_bad_device_event_suppression(
    text: str, off_wrap: int, flags: int, event_idx: bool
) -> None:
    """Each wrong device area is told by its own text."""
    rig = Rig(4, event_idx=event_idx)
    area = off_wrap.to_bytes(2, "little") + flags.to_bytes(2, "little")
    rig.memory.device_write(rig.driver.device_addr, area)
    with pytest.raises(DeviceBreach, match=text):
        rig.driver.needs_kick()


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
        lambda: memory.device_write(rig.driver.driver_addr, bytes(4)),
        lambda: memory.device_read(rig.driver.device_addr, 4),
    ]
    for access in forbidden:
        with pytest.raises(DeviceFault):
            access()
    put(rig, 0, 0, 0, USED)
    rig.driver.poll()
    with pytest.raises(DeviceFault):
        memory.device_read(*read_only.readable.segments[0])
