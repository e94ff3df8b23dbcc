"""Device status, resets, and what the driver is told of changes."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge
from common_config_bench import Bench, negotiate_words, run
from transport_helper import (
    BASE,
    NEEDS_RESET,
    NO_VECTOR,
    CommonModel,
    negotiate,
    strobe,
)  # fmt: skip

from lib.streams import cycles, unpack
from virtio_rtl.types.virtqueue import QueueConfig


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def driver_ok_needs_features_ok(dut: Any) -> None:
    """DRIVER_OK counts only once FEATURES_OK is set, not even in the same write."""
    bench = Bench(dut)
    await bench.start()
    await bench.bus.write(0x14, 7, 1)
    assert await bench.bus.read(0x14, 1) == 3
    await negotiate_words(bench.bus, BASE)
    await bench.bus.write(0x14, 15, 1)
    assert await bench.bus.read(0x14, 1) == 11
    assert int(dut.driver_ok.value) == 0
    await bench.bus.write(0x14, 15, 1)
    assert await bench.bus.read(0x14, 1) == 15
    assert int(dut.driver_ok.value) == 1
    await bench.bus.write(0x14, 1, 1)  # bits do not go away
    assert await bench.bus.read(0x14, 1) == 15


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def reset_of_a_running_device_drains(dut: Any) -> None:
    """Status keeps its value until reset_done; writes meanwhile have no effect at all."""
    bench = Bench(dut)
    await bench.start()
    bench.answer.delay = lambda: 400
    bus = bench.bus
    await negotiate(bus, BASE)
    await bus.write(0x16, 1, 2)
    await bus.write(0x10, 1, 2)
    await bus.write(0x20, 0x1234_5678_9ABC_D000, 8)
    await bus.write(0x1C, 1, 2)
    await bench.enabled.receive()
    await bus.write(0x14, 0, 1)
    await cycles(dut, 1)
    assert int(dut.driver_ok.value) == 0
    assert int(dut.reset_request.value) == 1
    polls = 0
    while await bus.read(0x14, 1):
        assert int(dut.reset_request.value) == 1 or polls > 10
        polls += 1
        if polls < 10:  # later ones might land behind the reset
            await bus.write(0x14, 1, 1)
            await bus.write(0x00, 3)
            await bus.write(0x1A, 0, 2)
            assert await bus.read(0x00) == 0
            assert await bus.read(0x1A, 2) == NO_VECTOR
    assert polls > 10
    assert int(dut.reset_request.value) == 0
    fresh = CommonModel(bench.model.device, bench.kind)
    for select in range(bench.model.device.num_queues):
        await bus.write(0x16, select, 2)
        fresh.registers[0x16] = select
        for offset in range(0, 0x40, 4):
            assert await bus.read(offset) == fresh.read(offset)
        dut.lookup_0__queue.value = select
        await cycles(dut, 2)
        seen = unpack(QueueConfig, int(dut.lookup_0__config.value))
        assert seen == fresh.queues.config(select)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def reset_before_driver_ok_holds_the_bus(dut: Any) -> None:
    """Accesses wait for the end of the reset, so that none is lost; also if status was 0."""
    bench = Bench(dut)
    await bench.start()
    bench.answer.delay = lambda: 100
    for before in (0, 1, 11):
        if before == 11:
            await negotiate(bench.bus, BASE, status=11)
        elif before:
            await bench.bus.write(0x14, before, 1)
        count = bench.answer.count
        await bench.bus.write(0x14, 0, 1)
        await bench.bus.write(0x14, 1, 1)  # what drivers do that do not wait
        assert bench.answer.count == count + 1
        assert await bench.bus.read(0x14, 1) == 1
        await bench.reset_device()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def function_reset_clears_at_once(dut: Any) -> None:
    """A function reset returns everything, the generation too, and ends a device reset."""
    bench = Bench(dut)
    await bench.start()
    bench.answer.delay = lambda: 100
    bus = bench.bus
    for resetting in (False, True):
        await strobe(dut, "config_changed")
        await strobe(dut, "config_read")
        await negotiate(bus, BASE)
        assert await bus.read(0x15, 1) == 1
        await bus.write(0x10, 2, 2)
        if resetting:
            await bus.write(0x14, 0, 1)
            await cycles(dut, 10)
        await strobe(dut, "function_reset")
        await cycles(dut, 1)
        assert int(dut.reset_request.value) == 0
        fresh = CommonModel(bench.model.device, bench.kind)
        for offset in range(0, 0x40, 4):
            assert await bus.read(offset) == fresh.read(offset)
        await cycles(dut, 150)
        await negotiate(bus, BASE)  # a late reset_done does no harm
        await bench.reset_device()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def device_error_raises_needs_reset(dut: Any) -> None:
    """The bit is set at once; the driver is told once, and only with DRIVER_OK."""
    bench = Bench(dut)
    await bench.start()
    bus = bench.bus
    await strobe(dut, "device_error")
    assert await bus.read(0x14, 1) == NEEDS_RESET
    await cycles(dut, 20)
    assert len(bench.interrupts) == 0
    await bench.reset_device()
    await bus.write(0x14, NEEDS_RESET, 1)
    assert await bus.read(0x14, 1) == 0  # not the driver's to set
    await negotiate(bus, BASE)
    await strobe(dut, "device_error")
    assert (await bench.interrupts.receive()).config == 1
    assert await bus.read(0x14, 1) == 15 | NEEDS_RESET
    await strobe(dut, "device_error")
    await cycles(dut, 20)
    assert len(bench.interrupts) == 0
    await bench.reset_device()
    assert await bus.read(0x14, 1) == 0


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def needs_reset_shows_before_its_notification(dut: Any) -> None:
    """When the notification is offered, the bit reads as set already: also right at DRIVER_OK."""
    bench = Bench(dut)
    await bench.start()
    for lead in range(8):
        await negotiate(bench.bus, BASE, status=11)
        bench.bus.request.queue([{"address": 0x14, "write": 1, "data": 15, "byte_enable": 1}])
        await cycles(dut, lead)
        await strobe(dut, "device_error")
        await cycles(dut, 30)
        status = await bench.bus.read(0x14, 1)
        assert status == 15 | NEEDS_RESET
        # Set after DRIVER_OK, or in the same cycle: told. Set before: nobody to tell yet. The
        # write is done one cycle after it has come, which is two after it was queued.
        assert len(bench.interrupts) == (lead >= 2), lead
        bench.interrupts.now()
        await bench.reset_device()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def config_changes_notify_once_driver_ok(dut: Any) -> None:
    """A change notifies only with DRIVER_OK; changes not yet told melt into one."""
    bench = Bench(dut)
    bench.interrupts.stall = 1.0
    await bench.start()
    await strobe(dut, "config_notify")
    await negotiate(bench.bus, BASE)
    await cycles(dut, 10)
    assert int(dut.interrupt__valid.value) == 0
    for _ in range(3):
        await strobe(dut, "config_notify")
    await cycles(dut, 5)
    bench.interrupts.stall = 0.0
    await cycles(dut, 10)
    assert len(bench.interrupts) == 1
    assert bench.interrupts.now() == {"function": 0, "queue": 0, "config": 1}


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def generation_tells_of_every_change(dut: Any) -> None:
    """Between two config reads that can differ, the generation differs; else it stands still."""
    bench = Bench(dut)
    await bench.start()
    version = shown = 0  # of the configuration; what the driver has seen last
    generation = await bench.bus.read(0x15, 1)
    for _ in range(300):
        for _ in range(random.choice([0, 1, 1, 2, 256])):
            await strobe(dut, "config_changed")
            version += 1
            await RisingEdge(dut.clk)
        both = random.random() < 0.2
        dut.config_changed.value = int(both)
        await strobe(dut, "config_read")
        dut.config_changed.value = 0
        seen = version + (random.getrandbits(1) if both else 0)
        version += both
        after = await bench.bus.read(0x15, 1)
        if seen != shown:
            assert after != generation
        elif not both:
            # At most one more for a change that came together with the read before.
            assert (after - generation) & 0xFF <= 1
        shown, generation = seen, after
    for _ in range(2):  # all told: stands still
        await strobe(dut, "config_read")
    settled = await bench.bus.read(0x15, 1)
    await strobe(dut, "config_read")
    assert await bench.bus.read(0x15, 1) == settled


@pytest.mark.parametrize(
    ("pairs", "vectors", "kind"), [(1, 4, "whole"), (3, 2, "whole"), (1, 4, "plain")]
)
def test_reset(pairs: int, vectors: int, kind: str) -> None:
    """Status and resets in simulation."""
    run(__name__, "transport_reset", pairs=pairs, vectors=vectors, kind=kind)
