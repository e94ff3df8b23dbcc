"""The golden entropy device, and the generator of the seeded source."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtio_model.device.entropy import GoldenEntropy, SeededBytes
from virtio_model.device.make import make_device_queue
from virtio_model.driver.make import make_queue
from virtio_model.errors import DriverBreach
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.spec.features import Feature, mask

RINGS = (mask([Feature.VERSION_1]), mask([Feature.VERSION_1, Feature.RING_PACKED]))
LARGEST = 100


@given(
    sizes=st.lists(st.lists(st.integers(1, 90), min_size=1, max_size=3), min_size=1, max_size=20),
    ring=st.sampled_from(RINGS),
)
def test_golden_entropy_fills_buffers(sizes: list[list[int]], ring: int) -> None:
    """However buffers are cut, they hold the bytes of the source, one after the other."""
    memory = GuestMemory(1 << 16)
    allocator = Allocator(memory)
    queue = make_queue(memory, allocator, 64, ring)
    device = GoldenEntropy(
        memory, make_device_queue(memory, queue, ring), SeededBytes(5, 8), LARGEST
    )
    source = SeededBytes(5, 8)
    for lengths in sizes:
        elements = [(allocator.alloc(length), length) for length in lengths]
        queue.add([], elements)
        expected = source(min(sum(lengths), LARGEST))
        assert device.process() == [expected]
        used = queue.poll()
        assert used is not None
        assert used.length == len(expected) >= 1
        assert b"".join(memory.read(*item) for item in elements)[: used.length] == expected


def test_golden_entropy_refuses_readable_buffers() -> None:
    """The queue carries writable buffers only. [virtio 1.4 §5.4.6.1]"""
    memory = GuestMemory(1 << 16)
    queue = make_queue(memory, Allocator(memory), 8, RINGS[0])
    device = GoldenEntropy(memory, make_device_queue(memory, queue, RINGS[0]), SeededBytes(5, 8))
    queue.add([(memory.base + 0x8000, 4)], [(memory.base + 0x9000, 4)])
    with pytest.raises(DriverBreach, match="readable element"):
        device.process()


def test_seeded_bytes_are_those_of_xorshift64() -> None:
    """The start of the sequence with Marsaglia's own seed; what a beat has left is dropped."""
    words = [8748534153485358512, 3040900993826735515, 3453997556048239312]
    data = b"".join(word.to_bytes(8, "little") for word in words)
    assert SeededBytes(88172645463325252, 8)(20) == data[:20]
    source = SeededBytes(88172645463325252, 16)
    assert source(3) == data[:3]
    assert source(8) == data[16:]


def test_seeded_bytes_refuse_nonsense() -> None:
    """A state of 0 would stay 0; a beat is made of whole words."""
    with pytest.raises(ValueError, match="seed"):
        SeededBytes(0, 8)
    with pytest.raises(ValueError, match="beat"):
        SeededBytes(1, 12)
