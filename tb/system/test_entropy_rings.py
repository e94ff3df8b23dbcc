"""The entropy device with slow rings behind a root complex: dry, too slow, and failed."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from cocotb.utils import get_sim_time
from system_helper import counter

from lib.entropy_system import EntropySystem, entropy_config
from lib.ring_monitor.attach import attach
from lib.sim import simulate
from lib.streams import cycles
from virtio_model.errors import DriverComplaint
from virtio_model.spec.status import DeviceStatus
from virtio_rtl.top import VirtioDevice

FORMATS = ("split", "packed")
FEATURES = ("indirect_desc", "event_idx", "ring_reset", "suspend")
PERIOD = 16
"""Cycles from sample to sample."""
SAMPLES = 4000
"""Then the rings stick: after the start-up test, which takes 1024, and some bytes."""
RINGS = {
    "source": "ring_oscillator", "stand_in": True, "sample_cycles": PERIOD,
    "stand_in_samples": SAMPLES, "dry_after_us": 52,
}  # fmt: skip
"""No byte for 164 us from a reset on, then 8 every 33 us: dry at first, and never again. For real
rings the configuration refuses this.
"""
RESETS = (("split", "device"), ("packed", "function"))


def config() -> Any:
    return entropy_config("net-x1", **RINGS)


def make_system(dut: Any, ring: str) -> EntropySystem:
    return EntropySystem(dut, config(), ring=ring, features=FEATURES)


async def taken_up(system: EntropySystem) -> None:
    """Kick, and wait until the device has the requests: it reads nothing any more."""
    await system.kick(0)
    reads = -1
    while reads != system.memory_reads:
        reads = system.memory_reads
        await cycles(system.dut, 600)  # several times what a read takes


async def wait_in_vain(system: EntropySystem, count: int = 6) -> None:
    """Requests that get no answer."""
    while len(system.waiting) < count and system.ask(random.randint(1, 200)):
        pass
    await taken_up(system)
    assert system.poll() == 0
    assert system.waiting


async def few_bytes(system: EntropySystem, count: int) -> None:
    """Requests that get all of a few bytes."""
    for _ in range(count):
        assert system.ask(random.randint(1, 8))
    await system.kick(0)
    await system.finish(60_000)


async def needs_reset(system: EntropySystem) -> bool:
    """Whether DEVICE_NEEDS_RESET is set."""
    return bool(await system.pci.status() & DeviceStatus.DEVICE_NEEDS_RESET)


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(("ring", FORMATS))
async def a_dry_source_holds_nothing_up(dut, ring):
    """Virtqueue, device and function are reset while requests wait; all bytes come then."""
    system = make_system(dut, ring)
    monitor = attach(system)
    await system.bring_up()
    await wait_in_vain(system)
    await system.reset_queue(0, random.choice([16, 64]))
    await wait_in_vain(system)
    await system.pci.reset()
    await system.start()
    await wait_in_vain(system)
    await system.reset_queue(0)
    await few_bytes(system, 3)
    await wait_in_vain(system)
    await system.reset_queue(0)
    assert not await needs_reset(system)
    await system.pci.reset()
    await system.start()
    await few_bytes(system, 2)
    monitor.finish().check()


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(("ring", FORMATS))
async def a_slow_source_is_suspended(dut, ring):
    """Each request gets a byte at least, but not all that it has room for."""
    system = make_system(dut, ring)
    monitor = attach(system)
    await system.bring_up()
    await few_bytes(system, 1)
    before = system.bytes_given
    for _ in range(4):
        assert system.ask(100)
    await taken_up(system)
    await cycles(dut, random.randint(0, 500))
    await system.suspend()
    await cycles(dut, 100)
    await system.resume()
    assert system.poll() == 4
    assert 4 <= system.bytes_given - before < 200
    await few_bytes(system, 1)
    monitor.finish().check()


async def starts_anew(system: EntropySystem, how: str) -> None:
    """A reset of the device or the function cures everything."""
    if how == "device":
        await system.pci.reset()
    else:
        await system.function_level_reset()
        await system.restore()
    await system.start()
    assert not await needs_reset(system)
    await wait_in_vain(system, 2)
    await system.reset_queue(0)
    await few_bytes(system, 2)


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize((("ring", "how"), RESETS))
async def a_dry_source_fails_a_suspend(dut, ring, how):
    """DEVICE_NEEDS_RESET, which the driver takes for an answer; a reset cures it."""
    system = make_system(dut, ring)
    await system.bring_up()
    await wait_in_vain(system)
    with pytest.raises(DriverComplaint, match="the device needs a reset"):
        await system.suspend()
    # A driver that only waits for SUSPEND is not kept waiting either.
    for _ in range(20):
        if await system.pci.status() & DeviceStatus.SUSPEND:
            break
    else:
        raise AssertionError("not suspended")
    assert 0 in system.interrupts  # configuration change: the status
    assert await counter(system, "entropy_failed") == 1
    assert system.bytes_given == 0
    await starts_anew(system, how)


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize((("ring", "how"), RESETS))
async def rings_that_stick(dut, ring, how):
    """No byte of what came behind; the driver is told; all but random bytes goes on."""
    system = make_system(dut, ring)
    monitor = attach(system)
    await system.bring_up()
    begun = get_sim_time("ns")
    while not await needs_reset(system):
        if len(system.waiting) < 3:
            system.ask(random.randint(1, 24))
            await system.kick(0)
        await cycles(dut, 100)
        system.poll()
        # The repetition count takes 81; the other test needs some hundred samples more.
        elapsed = (get_sim_time("ns") - begun) * config().clock_mhz / 1000
        assert elapsed < (SAMPLES + 100) * PERIOD
    system.poll()
    # What the stand-in gave before it stuck, bit for bit, and no more.
    assert 0 < system.bytes_given <= (SAMPLES - 1024) // 2 // 8
    assert 0 in system.interrupts
    assert await counter(system, "entropy_failed") == 1
    await wait_in_vain(system)
    await system.reset_queue(0, random.choice([16, 64]))
    await wait_in_vain(system)
    with pytest.raises(DriverComplaint, match="the device needs a reset"):
        await system.suspend()
    assert await counter(system, "entropy_failed") == 1
    monitor.finish().check()
    await starts_anew(system, how)


@pytest.mark.sweep
def test_entropy_rings():
    simulate(VirtioDevice(config()), module=__name__, name="entropy_rings_system")
