"""Rules of the driver side that hold for both ring formats, and what breaks them."""

from __future__ import annotations

import pytest
from ring_rig import Rig

from virtio_model.errors import DriverBreach, QueueFull
from virtio_model.memory import GuestMemory


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("indirect", [False, True])
def test_lists_stay_within_the_device_limit(packed: bool, indirect: bool) -> None:
    """A list that is longer than the device allows is refused by both sides."""
    rig = Rig(8, packed=packed, max_chain=2)
    rig.add([4], [4], indirect)
    assert rig.take() is not None
    with pytest.raises(QueueFull, match="longer than the device allows"):
        rig.add([4, 4], [4], indirect)
    rig = Rig(8, packed=packed, max_chain=2)
    rig.driver.max_chain = 8  # a driver that does not know
    rig.add([4, 4], [4], indirect)
    with pytest.raises(DriverBreach, match="too long"):
        rig.device.next_buffer()


class _Order(GuestMemory):
    """Notes in which order the driver touches two places."""

    watched: tuple[int, int]
    seen: list[str]

    def write(self, addr: int, data: bytes) -> None:
        super().write(addr, data)
        self.seen.append("write")

    def read(self, addr: int, length: int) -> bytes:
        start, end = self.watched
        if start <= addr < end:
            self.seen.append("look")
        return super().read(addr, length)


def _watch(rig: Rig) -> _Order:
    """Watch all writes of the driver, and its reads of the device area."""
    memory = rig.memory
    memory.__class__ = _Order
    assert isinstance(memory, _Order)
    area = rig.driver.device_addr
    memory.watched = (area, area + (4 if rig.packed else 6 + 8 * rig.size))
    memory.seen = []
    return memory


def _decided_late(seen: list[str]) -> bool:
    """Whether the device area was read, and behind everything that was written."""
    return "look" in seen and "write" not in seen[seen.index("look") :]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("event_idx", [False, True])
def test_device_area_is_read_after_the_buffer_is_available(packed: bool, event_idx: bool) -> None:
    """Between making a buffer available and deciding on a kick stands a barrier.

    A driver that looks first is found by the same check, and it does lose a notification.
    """
    rig = Rig(8, packed=packed, event_idx=event_idx)
    for _ in range(20):
        memory = _watch(rig)
        rig.add([3], [])
        rig.driver.needs_kick()
        assert _decided_late(memory.seen)
        rig.take()
        rig.complete()
        rig.poll()

    rig.device.enable_notifications(False)
    memory = _watch(rig)
    early = rig.driver.needs_kick()
    rig.device.enable_notifications(True)
    rig.add([3], [])
    assert not _decided_late(memory.seen)
    assert not early, "the driver that looked too early stays silent"
    assert rig.driver.needs_kick(), "and the device waits for it"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("event_idx", [False, True])
def test_interrupt_without_a_used_buffer(packed: bool, event_idx: bool) -> None:
    """A driver that is told of nothing finds nothing, and the next buffer all the same."""
    rig = Rig(4, packed=packed, event_idx=event_idx)
    for _ in range(10):
        assert rig.driver.poll() is None
        rig.driver.enable_interrupts()
        rig.add([5], [7])
        assert rig.driver.poll() is None
        rig.take()
        assert rig.driver.poll() is None
        rig.driver.audit()
        rig.complete()
        assert rig.poll()
        assert rig.driver.poll() is None
    rig.drain()
