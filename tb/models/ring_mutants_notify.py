"""Breaches of the virtqueue rules by a device: event suppression, interrupts, resets, suspend."""

from __future__ import annotations

import struct

from ring_monitor_rig import LIMIT, VECTOR, Watched
from ring_mutants import Mutant, catalogue, element, use

__all__ = ["NOTIFY_MUTANTS"]

NOTIFY_MUTANTS: list[Mutant] = []
_mutant = catalogue(NOTIFY_MUTANTS)


# The device's event suppression and interrupts


@_mutant("fact-packed-event-03", True)
def reserved_event_flags(rig: Watched) -> None:
    rig.memory.device_write(rig.driver.device_addr, struct.pack("<HH", 0, 4))


@_mutant("fact-packed-event-01", True)
def event_for_a_slot_without_event_idx(rig: Watched) -> None:
    rig.memory.device_write(rig.driver.device_addr, struct.pack("<HH", 0, 2))


@_mutant("fact-packed-event-02", True, event_idx=True)
def event_outside_of_the_ring(rig: Watched) -> None:
    rig.memory.device_write(rig.driver.device_addr, struct.pack("<HH", 4, 2))


@_mutant("fact-packed-event-01/split-usednotif-03")
def interrupt_before_used(rig: Watched) -> None:
    rig.monitor.interrupt(VECTOR)
    use(rig, 0, 0)


@_mutant("fact-packed-event-01/split-usednotif-02")
def interrupt_although_disabled(rig: Watched) -> None:
    rig.driver.disable_interrupts()
    use(rig, 0, 0)
    rig.monitor.interrupt(VECTOR)


@_mutant("fact-packed-event-02/split-usednotif-06", event_idx=True)
def interrupt_before_the_event(rig: Watched) -> None:
    rig.driver.enable_interrupts(1)
    use(rig, 0, 0)
    rig.monitor.interrupt(VECTOR)


@_mutant("fact-packed-event-01/split-usednotif-03")
def interrupt_forgotten(rig: Watched) -> None:
    use(rig, 0, 0)
    for _ in range(int(LIMIT) + 2):
        rig.memory.device_read(rig.driver.desc_addr, 16)


@_mutant("fact-packed-event-02/split-usednotif-05", event_idx=True)
def interrupt_for_the_event_forgotten(rig: Watched) -> None:
    rig.driver.enable_interrupts()
    use(rig, 0, 0)
    for _ in range(int(LIMIT) + 2):
        rig.memory.device_read(rig.driver.desc_addr, 16)


@_mutant("pci-usednotif-01")
def interrupt_by_a_vector_of_nobody(rig: Watched) -> None:
    rig.monitor.interrupt(VECTOR + 1)


# The device's life


@_mutant("basic-status-01", live=False)
def access_before_driver_ok(rig: Watched) -> None:
    rig.memory.device_read(rig.driver.desc_addr, 16)


@_mutant("basic-reset-02")
def access_behind_the_reset(rig: Watched) -> None:
    rig.monitor.ask_reset()
    rig.memory.device_read(rig.driver.desc_addr, 16)
    rig.monitor.reset_done()
    rig.memory.device_read(rig.driver.desc_addr, 16)


@_mutant("basic-vqreset-01")
def access_behind_the_queue_reset(rig: Watched) -> None:
    rig.monitor.ask_queue_reset(0)
    rig.monitor.queue_reset_done(0)
    rig.memory.device_read(element(rig, 0, "readable"), 10)


@_mutant("basic-vqreset-01")
def interrupt_behind_the_queue_reset(rig: Watched) -> None:
    use(rig, 0, 0)
    rig.monitor.ask_queue_reset(0)
    rig.monitor.queue_reset_done(0)
    rig.monitor.interrupt(VECTOR)


@_mutant("init-suspend-03")
def access_while_suspended(rig: Watched) -> None:
    rig.monitor.life.ask_suspend()
    rig.monitor.life.suspended()
    rig.memory.device_read(rig.driver.desc_addr, 16)
