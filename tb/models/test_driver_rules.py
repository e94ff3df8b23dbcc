"""Every rule that the golden devices check of a driver, broken once."""

from __future__ import annotations

import pytest
from ring_rig import Rig

from virtio_model.device.packed_queue import DevicePackedQueue
from virtio_model.device.split_queue import DeviceSplitQueue
from virtio_model.driver.queue import BUFFER_BYTES_MAX
from virtio_model.errors import DriverBreach
from virtio_model.rings.split import DescFlags, SplitDescriptor, used_event_offset

NEXT, WRITE, INDIRECT = int(DescFlags.NEXT), int(DescFlags.WRITE), int(DescFlags.INDIRECT)
SIZE = 4


def split(**features: bool) -> Rig:
    """A split virtqueue with nothing left to chance."""
    return Rig(SIZE, packed=False, drawn=False, **features)  # type: ignore[arg-type]


def expose(rig: Rig, *heads: int, index: int | None = None) -> None:
    """Write entries of the available ring, and idx behind them, as a driver would."""
    for at, head in enumerate(heads):
        rig.memory.write_u16(rig.driver.driver_addr + 4 + 2 * at, head)
    rig.memory.write_u16(rig.driver.driver_addr + 2, len(heads) if index is None else index)


def post(rig: Rig, *descriptors: SplitDescriptor, head: int = 0) -> None:
    """Write the descriptor table from slot 0 on, and make one buffer available."""
    for at, descriptor in enumerate(descriptors):
        rig.memory.write(rig.driver.desc_addr + 16 * at, descriptor.encode())
    expose(rig, head)


def post_table(rig: Rig, *entries: SplitDescriptor) -> None:
    """Make a buffer available that is an indirect table."""
    addr = rig.allocator.alloc(16 * len(entries))
    rig.memory.grant(addr, 16 * len(entries))
    rig.memory.write(addr, b"".join(entry.encode() for entry in entries))
    post(rig, SplitDescriptor(addr, 16 * len(entries), INDIRECT))


def refuses(rig: Rig, text: str) -> None:
    """The device finds a breach in the next buffer."""
    with pytest.raises(DriverBreach, match=text):
        rig.device.next_buffer()


D = SplitDescriptor


@pytest.mark.parametrize(
    ("text", "descriptors"),
    [
        ("loop", [D(0, 1, NEXT, 0)]),
        ("loop", [D(0, 1, NEXT, 1), D(0, 1, NEXT, 2), D(0, 1, NEXT, 1)]),
        ("outside the table", [D(0, 1, NEXT, SIZE)]),
        ("outside the table", [D(0, 1, NEXT, 0xFFFF)]),
        ("readable element after", [D(0, 1, NEXT | WRITE, 1), D(0, 1, 0, 0)]),
        ("INDIRECT together with NEXT", [D(0, 16, INDIRECT | NEXT, 1)]),
        ("length is 0 or no multiple", [D(0, 0, INDIRECT)]),
        ("length is 0 or no multiple", [D(0, 24, INDIRECT)]),
        ("more than 2", [D(0, (1 << 32) - 1, NEXT, 1), D(0, 2, 0)]),
    ],
)
def test_bad_chain(text: str, descriptors: list[SplitDescriptor]) -> None:
    """Each malformed chain in the descriptor table is told by its own text."""
    rig = split()
    post(rig, *descriptors)
    refuses(rig, text)


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("loop", [D(0, 1, NEXT, 0)]),
        ("chain too long", [D(0, 1, NEXT, at + 1) for at in range(SIZE)] + [D(0, 1)]),
        ("next is outside the indirect table", [D(0, 1, NEXT, 1)]),
        ("next is outside the indirect table", [D(0, 1, NEXT, 0xFFFF), D(0, 1)]),
        ("INDIRECT inside", [D(0, 16, INDIRECT)]),
        ("readable element after", [D(0, 1, NEXT | WRITE, 1), D(0, 1)]),
    ],
)
def test_bad_indirect_table(text: str, entries: list[SplitDescriptor]) -> None:
    """Each malformed indirect table is told by its own text."""
    rig = split()
    post_table(rig, *entries)
    refuses(rig, text)


def test_longest_chains_are_legal() -> None:
    """As many descriptors as the queue has, direct and indirect, and 2^32 bytes."""
    rig = split()
    post(rig, *(D(0, 1, NEXT, at + 1) for at in range(SIZE - 1)), D(0, 1))
    chain = rig.device.next_buffer()
    assert chain is not None
    assert (chain.slots, chain.readable_length) == (SIZE, SIZE)
    rig = split()
    post_table(rig, *(D(0, 1, NEXT, at + 1) for at in range(SIZE - 1)), D(0, 1))
    assert rig.device.next_buffer() is not None
    rig = split()
    post(rig, D(0, 1 << 31, NEXT | WRITE, 1), D(0, 1 << 31, WRITE))
    chain = rig.device.next_buffer()
    assert chain is not None
    assert chain.writable_length == BUFFER_BYTES_MAX


def test_indirect_behind_direct_descriptors() -> None:
    """A chain may end in a table; WRITE beside INDIRECT means nothing."""
    rig = split()
    addr = rig.allocator.alloc(32)
    rig.memory.grant(addr, 32)
    rig.memory.write(addr, D(3, 4, NEXT | WRITE, 1).encode() + D(5, 6, WRITE, 99).encode())
    post(rig, D(1, 2, NEXT, 2), D(), D(addr, 32, INDIRECT | WRITE, 77))
    chain = rig.device.next_buffer()
    assert chain is not None
    assert (chain.readable, chain.writable) == ([(1, 2)], [(3, 4), (5, 6)])
    assert (chain.id, chain.slots) == (0, 2)


def test_indirect_without_the_feature() -> None:
    """What was not negotiated is refused."""
    rig = split(indirect=False)
    post_table(rig, D(0, 1))
    refuses(rig, "without VIRTIO_F_INDIRECT_DESC")


@pytest.mark.parametrize("head", [SIZE, 0xFFFF])
def test_head_outside_the_table(head: int) -> None:
    """An entry of the available ring names a descriptor."""
    rig = split()
    expose(rig, head)
    refuses(rig, "outside the table")


@pytest.mark.parametrize("index", [SIZE + 1, 0x8000, 0xFFFF])
def test_available_idx_beyond_the_ring(index: int) -> None:
    """Not more is available than there are descriptors; backwards is a long way forwards."""
    rig = split()
    expose(rig, index=index)
    refuses(rig, "moved back or beyond the ring")


def test_available_idx_moved_back() -> None:
    """What was made available stays so."""
    rig = split()
    post(rig, D(0, 1), D(0, 1))
    expose(rig, 0, 1)
    assert rig.device.next_buffer() is not None
    expose(rig, 0)
    refuses(rig, "moved back")


def test_descriptor_in_two_buffers() -> None:
    """A descriptor that the device holds is not the driver's, head or not."""
    rig = split()
    post(rig, D(0, 1, NEXT, 1), D(0, 1), D(0, 1, NEXT, 1))
    expose(rig, 0, 2)
    assert rig.device.next_buffer() is not None
    refuses(rig, "still holds")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("what", ["descriptor", "table", "data"])
def test_held_memory_changed(packed: bool, what: str) -> None:
    """Descriptors, tables and readable bytes stay as they are until the buffer is used."""
    rig = Rig(SIZE, packed=packed, drawn=False)
    buffer = rig.add([8], [8], indirect=True)
    chain = rig.take()
    assert chain is not None
    table = rig.memory.read_u64(rig.driver.desc_addr)
    place = {
        "descriptor": rig.driver.desc_addr + 8,
        "table": table + 8,
        "data": buffer.readable.segments[0].addr + 7,
    }[what]
    rig.memory.write(place, bytes([rig.memory.read(place, 1)[0] ^ 0x55]))
    with pytest.raises(DriverBreach, match="changed what the device holds"):
        rig.complete()


def test_writable_bytes_are_nobodys_to_watch() -> None:
    """What the device itself writes is no change by the driver."""
    rig = split()
    rig.add([4], [8])
    chain = rig.take()
    assert chain is not None
    chain.write_all(rig.memory, b"12345678")
    rig.device.complete(chain, 8)


@pytest.mark.parametrize(
    ("text", "descriptors", "head"),
    [
        ("next is not the descriptor behind", [D(0, 1, NEXT, 2), D(), D(0, 1)], 0),
        ("descriptor table is not used in order", [D(), D(0, 1)], 1),
    ],
)
def test_in_order_table(text: str, descriptors: list[SplitDescriptor], head: int) -> None:
    """With IN_ORDER the descriptor table is used from slot 0 on, round and round."""
    rig = split(in_order=True)
    post(rig, *descriptors, head=head)
    refuses(rig, text)
    rig = split()
    post(rig, *descriptors, head=head)
    assert rig.device.next_buffer() is not None


def test_in_order_indirect_table() -> None:
    """With IN_ORDER indirect tables are in order, too."""
    entries = [D(0, 1, NEXT, 2), D(), D(0, 1)]
    rig = split(in_order=True)
    post_table(rig, *entries)
    refuses(rig, "indirect table is not in order")
    rig = split()
    post_table(rig, *entries)
    assert rig.device.next_buffer() is not None


@pytest.mark.parametrize(
    ("flags", "event_idx"), [(2, False), (0x8000, False), (1, True), (2, True)]
)
def test_available_flags(flags: int, event_idx: bool) -> None:
    """0 or 1, with EVENT_IDX 0."""
    rig = split(event_idx=event_idx)
    rig.memory.write_u16(rig.driver.driver_addr, flags)
    with pytest.raises(DriverBreach, match=r"invalid avail\.flags"):
        rig.device.should_interrupt()


def test_used_event_may_be_anything() -> None:
    """Without EVENT_IDX it means nothing."""
    rig = split()
    rig.memory.write_u16(rig.driver.driver_addr + used_event_offset(SIZE), 0x1234)
    rig.add([1], [])
    rig.take()
    rig.complete()
    assert rig.device.should_interrupt()


@pytest.mark.parametrize("area", ["desc", "driver_area", "device_area"])
@pytest.mark.parametrize("packed", [False, True])
def test_misaligned_area(packed: bool, area: str) -> None:
    """Each area has its alignment."""
    rig = Rig(SIZE, packed=packed, drawn=False)
    areas = {
        "desc": rig.driver.desc_addr,
        "driver_area": rig.driver.driver_addr,
        "device_area": rig.driver.device_addr,
    }
    areas[area] += 8 if area == "desc" else 2 if packed or area == "device_area" else 1
    kind = DevicePackedQueue if packed else DeviceSplitQueue
    with pytest.raises(DriverBreach, match="misaligned"):
        kind(rig.memory, SIZE, *areas.values())


def test_used_flags_not_cleared() -> None:
    """The driver zeroes used.flags when it allocates the ring."""
    rig = split()
    rig.memory.write_u16(rig.driver.device_addr, 1)
    with pytest.raises(DriverBreach, match="not 0 in a new used ring"):
        rig.new_device()


@pytest.mark.parametrize("packed", [False, True])
def test_completing_what_cannot_be_completed(packed: bool) -> None:
    """Misuse of the golden device is told from breaches of a driver."""
    rig = Rig(SIZE, packed=packed, in_order=True)
    for _ in range(2):
        rig.add([], [8])
        rig.take()
    (_, first), (_, second) = rig.taken
    for chains, length, text in (
        ([], 0, "only buffers that are held"),
        ([second], 0, "in the order of fetching"),
        ([second, first], 0, "in the order of fetching"),
        ([first, second], 9, "do not fit"),
    ):
        with pytest.raises(ValueError, match=text):
            rig.device.complete_batch(chains, length)
    rig.device.complete_batch([first, second], 8)
    with pytest.raises(ValueError, match="only buffers that are held"):
        rig.device.complete(first)
    rig = Rig(SIZE, packed=packed)
    for _ in range(2):
        rig.add([], [8])
        rig.take()
    with pytest.raises(ValueError, match="needs VIRTIO_F_IN_ORDER"):
        rig.device.complete_batch([chain for _, chain in rig.taken])
