"""The entropy driver model: what it asks for, and what it believes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtio_model.device.make import make_device_queue
from virtio_model.driver.entropy import EntropyDriver
from virtio_model.driver.framing import Framing
from virtio_model.driver.make import make_queue
from virtio_model.errors import DriverComplaint, QueueFull
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.spec.features import Feature, mask

RINGS = (mask([Feature.INDIRECT_DESC]), mask([Feature.INDIRECT_DESC, Feature.RING_PACKED]))


class Rig:
    """The driver, and the device side of its queue."""

    def __init__(self, ring: int, size: int = 8) -> None:
        self.memory = GuestMemory(1 << 16)
        self.allocator = Allocator(self.memory)
        queue = make_queue(self.memory, self.allocator, size, ring)
        self.driver = EntropyDriver(self.memory, self.allocator, queue)
        self.device = make_device_queue(self.memory, queue, ring)

    def answer(self, data: bytes) -> None:
        """Put bytes into the next buffer, which is writable throughout."""
        chain = self.device.next_buffer()
        assert chain is not None
        assert not chain.readable
        self.device.complete(chain, chain.write_all(self.memory, data))


@given(
    sizes=st.lists(st.tuples(st.integers(1, 200), st.integers(1, 200)), min_size=1, max_size=20),
    cuts=st.lists(st.integers(-20, 200), max_size=4),
    indirect=st.booleans(),
    skew=st.integers(0, 63),
    ring=st.sampled_from(RINGS),
)
def test_the_used_length_says_how_many_bytes_arrived(
    sizes: list[tuple[int, int]], cuts: list[int], indirect: bool, skew: int, ring: int
) -> None:
    """Buffers are writable only; data ends where the used length does, however they are cut."""
    rig = Rig(ring)
    before = rig.allocator.outstanding
    framing = Framing(writable=tuple(cuts), indirect=indirect, skew=skew)
    for number, (room, count) in enumerate(sizes):
        rig.driver.request(room, framing=framing, cookie=number)
        assert rig.driver.poll() is None
        data = bytes((number + n) % 256 for n in range(min(room, count)))
        rig.answer(data)
        got = rig.driver.poll()
        assert got is not None
        assert (got.cookie, got.data) == (number, data)
        assert got.rest == bytes([EntropyDriver.FILL]) * (room - len(data))
    assert rig.allocator.outstanding == before


@pytest.mark.parametrize("ring", RINGS)
def test_driver_complains_about_an_empty_answer(ring: int) -> None:
    """At least one byte arrives in every buffer."""
    rig = Rig(ring)
    rig.driver.request(16)
    rig.answer(b"")
    with pytest.raises(DriverComplaint, match="without a random byte"):
        rig.driver.poll()


@pytest.mark.parametrize("ring", RINGS)
def test_entropy_requests_taken_back_after_a_reset(ring: int) -> None:
    """What the queue held is freed, and told by its cookies; a full queue leaks nothing."""
    rig = Rig(ring, size=2)
    before = rig.allocator.outstanding
    rig.driver.request(16, cookie="one")
    rig.driver.request(16, cookie="two", framing=Framing(writable=(3,), indirect=True))
    with pytest.raises(QueueFull):
        rig.driver.request(16)
    rig.answer(b"x")
    assert rig.driver.poll() is not None
    assert rig.driver.take_back() == ["two"]
    assert rig.allocator.outstanding == before
