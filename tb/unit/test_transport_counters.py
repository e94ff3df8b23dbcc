"""Event counters."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge
from register_helper import RegisterInitiator
from transport_helper import strobe

from lib.sim import params, simulate
from lib.streams import cycles, reset, start_clock
from virtio_rtl.regs.maps import Counter
from virtio_rtl.transport.counters import Counters


async def start(dut: Any, stall: float = 0.0) -> RegisterInitiator:
    """Start with quiet inputs, wait for the first clear."""
    start_clock(dut)
    dut.events.value = dut.clear.value = 0
    bus = RegisterInitiator(dut, stall=stall)
    await reset(dut)
    await bus.read(0x4000)
    return bus


def lag() -> int:
    """How many cycles a read may lag."""
    return max(params().count, 4) + 4


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def every_event_counts_once(dut: Any) -> None:
    """Strobes of all counters at random, up to one each cycle, while the host reads."""
    bus = await start(dut, stall=0.3)
    count = params().count
    for density in (0.05, 0.5, 1.0):
        totals = [await bus.read(0x4000 + 4 * i) for i in range(count)]

        async def read_now_and_then() -> None:
            for _ in range(30):
                await bus.read(0x4000 + 4 * random.randrange(count))

        reader = cocotb.start_soon(read_now_and_then())
        for _ in range(500):
            events = sum((random.random() < density) << i for i in range(count))
            dut.events.value = events
            totals = [total + (events >> i & 1) for i, total in enumerate(totals)]
            await RisingEdge(dut.clk)
        dut.events.value = 0
        await reader
        await cycles(dut, lag())
        assert [await bus.read(0x4000 + 4 * i) for i in range(count)] == totals
        await bus.write(0x4000, 12345)  # read only
        assert await bus.read(0x4000) == totals[0]
    assert await bus.read(0x4000 + 4 * count) == 0
    assert await bus.read(0x4FFC) == 0


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def clear_starts_again_from_zero(dut: Any) -> None:
    """After a clear all counters are 0, whenever it comes; then they count again."""
    bus = await start(dut)
    count = params().count
    for wait in range(12):
        dut.events.value = (1 << count) - 1
        await cycles(dut, 20 + wait)
        dut.events.value = 0
        await strobe(dut, "clear")
        assert [await bus.read(0x4000 + 4 * i) for i in range(count)] == [0] * count
        await strobe(dut, "events")
        await cycles(dut, lag())
        assert await bus.read(0x4000) == 1


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_read_lags_no_more_than_said(dut: Any) -> None:
    """An event shows within the documented number of cycles."""
    bus = await start(dut)
    for wait in range(2 * lag()):
        before = await bus.read(0x4000)
        await cycles(dut, wait)
        await strobe(dut, "events")
        await cycles(dut, lag() - 2)  # two pass until the read begins
        assert await bus.read(0x4000) == before + 1


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def stops_at_the_maximum(dut: Any) -> None:
    """One by one and in bursts: never past the maximum, never back to 0."""
    bus = await start(dut)
    maximum = (1 << params().bits) - 1
    total = 0
    for burst in [1] * (maximum - 2) + [5, 40, 1, 7]:
        dut.events.value = 1
        await cycles(dut, burst)
        dut.events.value = 0
        total += burst
        await cycles(dut, lag())
        assert await bus.read(0x4000) == min(total, maximum)
    assert await bus.read(0x4004) == 0


@pytest.mark.parametrize("count", [1, 4, 5, 20])
def test_counters(count: int) -> None:
    """The counters in simulation."""
    counters = [Counter(f"c{i}", "") for i in range(count)]
    context = {"count": count}
    tests = ["every_event_counts_once", "clear_starts_again_from_zero"]
    tests.append("a_read_lags_no_more_than_said")
    name = f"counters_{count}"
    simulate(Counters(counters), module=__name__, name=name, params=context, testcase=tests)


@pytest.mark.parametrize("bits", [1, 6])
def test_saturation(bits: int) -> None:
    """Narrow counters stop at their maximum."""
    counters = [Counter("a", ""), Counter("b", "")]
    context = {"count": 2, "bits": bits}
    name = f"counters_narrow_{bits}"
    tests = ["stops_at_the_maximum"]
    dut = Counters(counters, bits)
    simulate(dut, module=__name__, name=name, params=context, testcase=tests)


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
@pytest.mark.parametrize("count", [0, 1025])
def test_bad_counts_are_refused(count: int) -> None:
    """No counters, or more than their region holds, are refused."""
    with pytest.raises(ValueError, match="counters"):
        Counters([Counter(f"c{i}", "") for i in range(count)])
