"""The ring monitor: silent while both sides keep the rules, in every format and feature."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ring_monitor_rig import LIMIT, VECTOR, Watched

from lib.ring_monitor import RingMonitor
from virtio_model.memory import GuestMemory

FORMATS = pytest.mark.parametrize("packed", [True, False], ids=["packed", "split"])
PIECES = st.lists(st.integers(1, 300), max_size=3)


@FORMATS
@given(
    seed=st.integers(0, 1 << 30),
    bits=st.integers(0, 3),
    event_idx=st.booleans(),
    in_order=st.booleans(),
    any_order=st.booleans(),
    steps=st.lists(
        st.tuples(st.sampled_from("aaatttcccppnkei"), PIECES, PIECES, st.booleans()), max_size=60
    ),
)
@settings(max_examples=80)
def test_clean_traffic(
    packed: bool,
    seed: int,
    bits: int,
    event_idx: bool,
    in_order: bool,
    any_order: bool,
    steps: list[tuple[str, list[int], list[int], bool]],
) -> None:
    """Driver model and golden device break no rule, whatever they do one after the other."""
    rig = Watched(
        1 << bits,
        packed=packed,
        seed=seed,
        event_idx=event_idx,
        in_order=in_order,
        any_order=any_order and not in_order,
    )
    for step, readable, writable, indirect in steps:
        segments = len(readable) + len(writable)
        if step == "a" and 0 < segments <= rig.size:
            if rig.driver.free_slots >= segments:
                rig.add(readable, writable, indirect)
                rig.kick()
        elif step == "t":
            rig.take()
        elif step == "c":
            rig.complete()
            rig.notify()
        elif step == "p":
            rig.poll()
        elif step == "n":
            rig.driver.disable_interrupts()
        elif step == "i":
            rig.driver.enable_interrupts()
        elif step == "k":
            rig.kick()
        elif step == "e":
            rig.device.enable_notifications(len(readable) % 2 == 0)
    while rig.take():
        pass
    while rig.complete():
        rig.notify()
    rig.monitor.finish().check()
    rig.drain()


@FORMATS
def test_kicks_may_be_under_way_together(packed: bool) -> None:
    """A doorbell may arrive when the driver is further; a later one never tells less."""
    rig = Watched(8, packed=packed, drawn=False)
    places = []
    for _ in range(3):
        rig.add([10], [])
        places.append(rig.driver.notification_data())
    for place in places[:2]:
        rig.monitor.kick(0, place)
    rig.monitor.report.check()
    rig.monitor.kick(0, places[0])
    assert rig.rows() == {"drv-packed-desc-03" if packed else "fact-drv-notify-01"}


@FORMATS
def test_a_kick_that_arrives_late_tells_less(packed: bool) -> None:
    """One sent before the last buffers were added does not forbid the kick for those."""
    rig = Watched(8, packed=packed, drawn=False, kick_flight=2.0)
    rig.add([10], [])
    rig.device.enable_notifications(False)
    rig.add([10], [])
    rig.monitor.kick(0)  # for the first one
    rig.device.enable_notifications()
    assert rig.driver.needs_kick()
    rig.device.enable_notifications(False)
    rig.add([10], [])
    rig.monitor.kick(0)  # for the second one
    rig.monitor.finish().check()


@FORMATS
def test_an_audit_is_not_the_end(packed: bool) -> None:
    """What was found can be forgotten, and the monitor goes on."""
    rig = Watched(8, packed=packed)
    other = 7
    for _ in range(2):
        rig.add([10], [20])
        rig.kick()
        rig.take()
        rig.complete()
        rig.notify()
        rig.monitor.audit().check()
        rig.monitor.kick(other)
        assert rig.monitor.audit().rows == {"drv-pci-kick-03"}
        rig.monitor.report.clear()
        assert rig.monitor.report.count == 0


@FORMATS
def test_a_virtqueue_is_used_until_its_reset_is_done(packed: bool) -> None:
    """A device finishes what it has begun, and says so, after a reset was asked for."""
    rig = Watched(8, packed=packed)
    rig.add([10], [20])
    rig.kick()
    rig.take()
    rig.monitor.ask_queue_reset(0)
    rig.complete()
    rig.notify()
    rig.monitor.queue_reset_done(0)
    rig.monitor.report.check()
    rig.monitor.interrupt(VECTOR)
    assert rig.rows() == {"basic-vqreset-01"}


@FORMATS
def test_an_interrupt_may_be_of_a_virtqueue_in_reset(packed: bool) -> None:
    """Where virtqueues share a vector, it is not laid upon another one that has used nothing."""
    rig = Watched(8, packed=packed)
    areas = [rig.allocator.alloc(128) for _ in range(3)]
    rig.monitor.enable_queue(1, 4, *areas, VECTOR)
    rig.monitor.interrupt(VECTOR)
    assert rig.monitor.report.count == 1
    rig.monitor.report.clear()
    rig.monitor.ask_queue_reset(1)
    rig.monitor.interrupt(VECTOR)
    rig.monitor.report.check()
    rig.monitor.queue_reset_done(1)
    rig.monitor.interrupt(VECTOR)
    assert rig.monitor.report.count == 1


@FORMATS
@pytest.mark.parametrize("place", [0, 1])
def test_wishes_may_change_before_the_device_looks(packed: bool, place: int) -> None:
    """What was used before may be decided: only the last buffer's interrupt can still be due."""
    rig = Watched(8, packed=packed, event_idx=True)
    rig.driver.enable_interrupts(1)
    for _ in range(2):
        rig.add([], [20])
        rig.take()
        rig.complete()
    rig.driver.enable_interrupts(place)
    for _ in range(int(LIMIT) + 1):
        rig.memory.device_read(rig.driver.driver_addr, 4)
    assert bool(rig.rows()) == (place == 1)


@FORMATS
@pytest.mark.parametrize("late", [False, True])
def test_the_device_looks_after_each_time(packed: bool, late: bool) -> None:
    """What was used twice in silence may be told twice if the driver soon listens: not more, and
    not when the device must have looked long ago."""
    rig = Watched(8, packed=packed, drawn=False)
    rig.driver.disable_interrupts()
    for _ in range(2):
        rig.add([], [20])
        rig.take()
        rig.complete()
    if late:
        for _ in range(int(LIMIT) + 1):
            rig.memory.device_read(rig.driver.driver_addr, 4)
    rig.driver.enable_interrupts()
    rig.monitor.interrupt(VECTOR)  # for what was used and not told yet, in any case
    assert rig.monitor.report.count == 0
    rig.monitor.interrupt(VECTOR)
    assert (rig.monitor.report.count == 1) == late
    rig.monitor.interrupt(VECTOR)
    assert rig.monitor.report.count == 1 + late


def test_the_monitor_lets_go() -> None:
    """After `finish` memory is as it was, and nothing more is reported."""
    memory = GuestMemory(1 << 16, raise_faults=False)
    monitor = RingMonitor(memory)
    memory.device_read(0, 4)
    assert monitor.finish().rows == {"basic-status-01"}
    count = monitor.report.count
    memory.device_write(0, b"1234")
    memory.write(0, b"1234")
    assert memory.read(0, 4) == b"1234"
    assert monitor.report.count == count
