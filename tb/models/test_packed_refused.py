"""What the golden device of a packed virtqueue refuses of a driver, and what it must not."""

from __future__ import annotations

import pytest
from ring_rig import Rig

from virtio_model.errors import DriverBreach
from virtio_model.rings.packed import DescFlags, EventFlags, PackedDescriptor, avail_bits


def _post_raw(rig: Rig, *descriptors: PackedDescriptor) -> None:
    for index, descriptor in enumerate(descriptors):
        rig.memory.write(rig.driver.desc_addr + 16 * index, descriptor.encode())


AVAIL = avail_bits(1)
NEXT, WRITE, INDIRECT = DescFlags.NEXT, DescFlags.WRITE, DescFlags.INDIRECT


@pytest.mark.parametrize(
    ("text", "descriptors"),
    [
        ("chain too long", [PackedDescriptor(0, 1, 0, AVAIL | NEXT)] * 4),
        ("not available", [PackedDescriptor(0, 1, 0, AVAIL | NEXT)]),
        ("length is 0 or no multiple", [PackedDescriptor(0, 0, 0, AVAIL | INDIRECT)]),
        ("length is 0 or no multiple", [PackedDescriptor(0, 24, 0, AVAIL | INDIRECT)]),
        ("chain too long", [PackedDescriptor(0, 16 * 5, 0, AVAIL | INDIRECT)]),
        ("INDIRECT together with NEXT", [PackedDescriptor(0, 16, 0, AVAIL | INDIRECT | NEXT)]),
        (
            "INDIRECT inside",
            [PackedDescriptor(0, 1, 0, AVAIL | NEXT), PackedDescriptor(0, 16, 0, AVAIL | INDIRECT)],
        ),
        (
            "readable element after",
            [PackedDescriptor(0, 1, 0, AVAIL | NEXT | WRITE), PackedDescriptor(0, 1, 0, AVAIL)],
        ),
    ],
)
def test_driver_breach(text: str, descriptors: list[PackedDescriptor]) -> None:
    """The golden device refuses malformed chains."""
    rig = Rig(4)
    _post_raw(rig, *descriptors)
    with pytest.raises(DriverBreach, match=text):
        rig.device.next_buffer()


def test_driver_breach_without_indirect_or_event_idx() -> None:
    """What was not negotiated is refused."""
    rig = Rig(4, indirect=False)
    _post_raw(rig, PackedDescriptor(0, 16, 0, AVAIL | INDIRECT))
    with pytest.raises(DriverBreach, match="without VIRTIO_F_INDIRECT_DESC"):
        rig.device.next_buffer()
    rig = Rig(4)
    rig.add([1], [])
    rig.take()
    rig.complete()
    rig.memory.write_u16(rig.driver.driver_addr + 2, EventFlags.DESC)
    with pytest.raises(DriverBreach, match="event suppression flags"):
        rig.device.should_interrupt()


def test_driver_breach_slot_reused_while_held() -> None:
    """A slot that the device holds is not the driver's."""
    rig = Rig(1)
    rig.add([1], [])
    rig.take()
    _post_raw(rig, PackedDescriptor(0, 1, 0, avail_bits(0)))
    with pytest.raises(DriverBreach, match="still holds"):
        rig.device.next_buffer()


def test_indirect_ignores_reserved_bits() -> None:
    """WRITE beside INDIRECT, and in the table everything but WRITE, means nothing [§2.8.7]."""
    rig = Rig(4)
    addr = rig.allocator.alloc(64, 16)
    noise = NEXT | INDIRECT | AVAIL
    rig.memory.write(
        addr,
        PackedDescriptor(1, 2, 99, noise).encode()
        + PackedDescriptor(3, 4, 98, noise | WRITE).encode(),
    )
    rig.memory.grant(addr, 32)
    _post_raw(rig, PackedDescriptor(addr, 32, 7, AVAIL | INDIRECT | WRITE))
    chain = rig.device.next_buffer()
    assert chain is not None
    assert (chain.id, chain.slots) == (7, 1)
    assert (chain.readable, chain.writable) == ([(1, 2)], [(3, 4)])
