"""Suspend and resume, as a driver sees it through BAR 0. [virtio 1.4 §3.4]"""

from __future__ import annotations

import random
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge
from transport_bench import DEVICE, ISR, NOTIFY, Bench, run, seen, set_up_queue
from transport_helper import (
    BASE,
    NEEDS_RESET,
    RING_RESET,
    STATUS,
    SUSPEND,
    CommonModel,
    config,
    negotiate,
    strobe,
)

from lib.sim import params
from lib.streams import cycles, reset

STATE = 0x14
ASLEEP, AWAKE = 27, 15
FEATURES = BASE | SUSPEND | STATUS


async def suspended(bench: Bench) -> None:
    """Suspend, and wait until it shows."""
    await bench.bus.write(STATE, random.choice([ASLEEP, ASLEEP | 4, 16]), 1)
    while (status := await bench.bus.read(STATE, 1)) & ~NEEDS_RESET != ASLEEP:
        assert status & ~NEEDS_RESET == AWAKE  # both bits change at once


async def running(bench: Bench, features: int = FEATURES) -> None:
    """A driver with MSI-X that is notified of everything by vector 1."""
    bench.control(msix=1)
    await negotiate(bench.bus, features, status=11)
    await bench.bus.write(0x10, 1, 2)
    await set_up_queue(bench.bus, 0, 1)
    await bench.bus.write(STATE, 15, 1)
    assert await bench.bus.read(STATE, 1) == 15


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def comes_to_rest_first(dut: Any) -> None:
    """The status shows suspension only once nothing is inside and all was told; then resumes."""
    bench = Bench(dut, stall=0.2)
    bus = bench.bus
    await reset(dut)
    await running(bench)
    for _ in range(4):
        bench.engine(rested=0, fetch_idle=0)
        await bus.write(STATE, AWAKE | 16, 1)
        await bus.write(STATE, AWAKE, 1)  # neither ends it
        await bus.write(STATE, AWAKE | 16, 1)
        for rested, fetch_idle in ((0, 0), (0, 1), (1, 0)):
            bench.engine(rested=rested, fetch_idle=fetch_idle)
            await cycles(dut, 60)
            assert int(dut.pause.value) == 1
            assert int(dut.hold.value) == rested
            assert (int(dut.resetting.value), int(dut.suspending.value)) == (0, 1)
            assert int(dut.driver_ok.value) == 1
            assert await bus.read(STATE, 1) == AWAKE
        bench.vectors.stall = 1.0
        await bench.interrupts.send({"queue": 0})  # of the last buffer
        bench.engine(rested=1, fetch_idle=1)
        await cycles(dut, 60)
        assert await bus.read(STATE, 1) == AWAKE
        bench.vectors.stall = 0.2
        while await bus.read(STATE, 1) != ASLEEP:
            pass
        assert seen(bench.vectors) == [1]
        assert int(dut.driver_ok.value) == int(dut.suspending.value) == 0
        await bus.write(STATE, ASLEEP, 1)
        await cycles(dut, 100)
        assert await bus.read(STATE, 1) == ASLEEP
        assert (int(dut.pause.value), int(dut.hold.value)) == (1, 1)
        await bus.write(STATE, random.choice([AWAKE, ASLEEP | 4, 4]), 1)
        assert await bus.read(STATE, 1) == AWAKE
        await cycles(dut, 5)
        assert int(dut.driver_ok.value) == 1
        assert (int(dut.pause.value), int(dut.hold.value)) == (0, 0)
        await bench.interrupts.send({"queue": 0})
        assert await bench.vectors.receive() == 1


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def changes_are_told_on_resume(dut: Any) -> None:
    """Link changes and DEVICE_NEEDS_RESET, from the request on: nothing before the resume, one
    notification then; a field does not change before either.
    """
    bench = Bench(dut)
    bus = bench.bus
    await reset(dut)
    await running(bench)
    dut.live.value = shown = 1
    assert await bench.vectors.receive() == 1
    await bus.read(DEVICE + 4)  # that was a change, too
    broken = False
    for step in range(24):
        generation = await bus.read(0x15, 1)
        bench.engine(rested=0, fetch_idle=1)
        await bus.write(STATE, ASLEEP, 1)
        link = shown if step % 3 == 0 else 1 - shown
        early = random.getrandbits(1)  # before it is suspended, or after
        if early:
            await cycles(dut, 3)
            dut.live.value = link
        bench.engine(rested=1, fetch_idle=1)
        while await bus.read(STATE, 1) & 16 == 0:
            pass
        dut.live.value = link
        fails = step == 20
        if fails:
            await strobe(dut, "device_error")
            broken = True
        await bus.read(DEVICE + 4)
        await cycles(dut, 100)
        assert await bus.read(DEVICE + 6, 2) == shown
        assert await bus.read(0x15, 1) == generation
        assert await bus.read(STATE, 1) == ASLEEP | (NEEDS_RESET if broken else 0)
        assert seen(bench.vectors) == []
        await bus.write(STATE, AWAKE, 1)
        await cycles(dut, 30)
        assert seen(bench.vectors) == [1] * (link != shown or fails)
        assert await bus.read(DEVICE + 6, 2) == link
        assert (await bus.read(0x15, 1) != generation) == (link != shown)
        shown = link


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def an_error_at_any_moment_is_told(dut: Any) -> None:
    """DEVICE_NEEDS_RESET in each cycle around the moment of suspension: one notification, before
    the suspended status shows or after the resume, never between and never lost.
    """
    bench = Bench(dut)
    bus = bench.bus
    await reset(dut)
    late = 0
    for wait in range(50):
        await running(bench)
        await bus.write(STATE, ASLEEP, 1)
        await cycles(dut, wait)
        await strobe(dut, "device_error")
        while int(dut.driver_ok.value):
            await RisingEdge(dut.clk)
        before = len(seen(bench.vectors))
        await cycles(dut, 40)
        assert len(bench.vectors) == 0
        assert await bus.read(STATE, 1) == ASLEEP | NEEDS_RESET
        await bus.write(STATE, AWAKE, 1)
        await cycles(dut, 20)
        assert before + len(seen(bench.vectors)) == 1
        late += 1 - before
        await bench.reset_device()
    assert 0 < late < 50


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def writes_do_not_count(dut: Any) -> None:
    """While suspended all but the status keeps its value; a doorbell is kept for later."""
    bench = Bench(dut)
    bus = bench.bus
    await reset(dut)
    await running(bench, FEATURES | RING_RESET)
    await bus.write(0x16, 0, 2)
    await suspended(bench)
    before = [await bus.read(offset) for offset in range(0, 0x40, 4)]
    for _ in range(200):
        offset = random.randrange(0, 0x40, 4)
        enables = random.getrandbits(4)
        if offset == STATE:
            enables &= 14  # in one dword with the status
        data = random.choice([random.getrandbits(32), 0x0001_0001, 0])
        await bus.raw(address=offset, write=1, data=data, byte_enable=enables)
    assert [await bus.read(offset) for offset in range(0, 0x40, 4)] == before
    await bus.write(NOTIFY, 0, 2)
    assert (await bench.doorbells.receive()).queue == 0
    # A write of the status counts, but not what is written beside it.
    await bus.write(STATE, AWAKE | 3 << 16)
    assert await bus.read(STATE) & 0xFFFF_00FF == AWAKE
    await bus.write(0x16, 3, 2)
    assert await bus.read(0x16, 2) == 3
    assert seen(bench.enabled) == []
    assert int(dut.pause.value) == 0


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def only_a_running_device_suspends(dut: Any) -> None:
    """SUSPEND is ignored before DRIVER_OK, in the same write too, and without the feature."""
    bench = Bench(dut)
    bus = bench.bus
    await reset(dut)
    for features, writes in (
        (FEATURES, [16, 17, 19]), (FEATURES, [1, 3, "features", 11 | 16, 11 | 16, 15 | 16]),
        (BASE, [1, 3, "features", 11, 15, 31, 16]),
    ):  # fmt: skip
        status = 0
        for write in writes:
            if isinstance(write, str):
                for word in range(4):
                    await bus.write(0x08, word)
                    await bus.write(0x0C, features >> 32 * word & 0xFFFF_FFFF)
                continue
            await bus.write(STATE, write, 1)
            status |= write & ~16
            await cycles(dut, 80)
            assert await bus.read(STATE, 1) == status
            assert int(dut.pause.value) == 0
        await bench.reset_device()


@cocotb.test(timeout_time=3, timeout_unit="ms")
async def a_reset_ends_it(dut: Any) -> None:
    """A device or function reset at any moment of it: afterwards all reads as new, and runs."""
    bench = Bench(dut)
    bus = bench.bus
    await reset(dut)
    for wait in range(0, 80, 3):
        await running(bench)
        await bus.write(STATE, ASLEEP, 1)
        await cycles(dut, wait)
        if random.getrandbits(1):
            dut.stop.value = 1
            await cycles(dut, 40)
            await strobe(dut, "function_reset")
            await cycles(dut, 1)
            dut.stop.value = 0
            assert await bus.read(STATE, 1) == 0
        else:
            await bench.reset_device()
        fresh = CommonModel(config(params().pairs, params().vectors), params().kind)
        for offset in range(0, 0x40, 4):
            value = await bus.read(offset)
            if offset == STATE:
                value &= 0xFFFF_00FF
            assert value == fresh.read(offset)
        assert await bus.read(ISR, 1) == 0
        await cycles(dut, 80)
        assert int(dut.pause.value) == int(dut.hold.value) == 0
        assert await bus.read(STATE, 1) == 0


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def together_with_a_virtqueue_reset(dut: Any) -> None:
    """Asked for in either order while one is under way, both are done."""
    bench = Bench(dut)
    bus = bench.bus
    await reset(dut)
    for order in (("reset", "suspend"), ("suspend", "reset")):
        await running(bench, FEATURES | RING_RESET)
        bench.engine(rested=0, fetch_idle=1)
        await bus.write(0x16, 0, 2)
        for what in order:
            if what == "reset":
                await bus.write(0x3A, 1, 2)
            else:
                await bus.write(STATE, ASLEEP, 1)
        await cycles(dut, 20)
        bench.engine(rested=1, fetch_idle=1)
        while await bus.read(STATE, 1) != ASLEEP:
            pass
        assert await bus.read(0x3A, 2) == 0
        assert await bus.read(0x1C, 2) == 0
        await bench.reset_device()


def test_suspend() -> None:
    """A device with two queue pairs in simulation."""
    run(__name__, "transport_suspend", pairs=2, vectors=4, kind="whole")
