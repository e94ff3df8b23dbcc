"""Every rule of the ring monitor, broken once: it tells the breach by its row."""

from __future__ import annotations

import pytest
from ring_monitor_rig import Watched
from ring_mutants import Mutant
from ring_mutants_device import DEVICE_MUTANTS
from ring_mutants_driver import DRIVER_MUTANTS
from ring_mutants_notify import NOTIFY_MUTANTS

from lib.ring_monitor import DEVICE, DRIVER


def start(mutant: Mutant) -> Watched:
    """Four slots; slot 0 holds a read-only buffer, slots 1 and 2 one with 20 writable bytes."""
    rig = Watched(4, packed=mutant.packed, drawn=False, **mutant.options)
    rig.memory.raise_faults = False
    rig.add([10], [])
    rig.add([10], [20])
    rig.kick()
    assert rig.monitor.report.count == (0 if mutant.options.get("live", True) else 1)
    rig.monitor.report.breaches.clear()
    return rig


@pytest.mark.parametrize("mutant", DEVICE_MUTANTS + NOTIFY_MUTANTS, ids=lambda mutant: mutant.name)
def test_device(mutant: Mutant) -> None:
    """What a broken device does is told by its row, and nothing is laid upon the driver."""
    rig = start(mutant)
    mutant.deed(rig)
    found = rig.monitor.finish()
    assert mutant.row in {breach.row for breach in found.of(DEVICE)}, found.breaches
    assert not found.of(DRIVER)


@pytest.mark.parametrize("mutant", DRIVER_MUTANTS, ids=lambda mutant: mutant.name)
def test_driver(mutant: Mutant) -> None:
    """What a broken driver does is told by its row, and nothing is laid upon the device."""
    rig = start(mutant)
    mutant.deed(rig)
    found = rig.monitor.finish()
    assert mutant.row in {breach.row for breach in found.of(DRIVER)}, found.breaches
    assert not found.of(DEVICE)
