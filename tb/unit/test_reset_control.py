"""ResetControl: stop, drain, clear, answer."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge

from lib.port import reader
from lib.sim import params, simulate
from lib.streams import cycles, reset, start_clock
from virtio_rtl.transport.reset import ResetControl

LASTING = 15
"""Cycles for which `idle` must last."""


class Watch:
    """All outputs, cycle by cycle; requests fall in the cycle after they were answered."""

    PORTS = ("stop", "engine_reset", "device_done", "function_done")

    def __init__(self, dut: Any):
        self.dut = dut
        self.trace: list[dict[str, int]] = []
        self._read = {name: reader(getattr(dut, name)) for name in self.PORTS}
        for name in ("device_request", "function_request", "busy"):
            getattr(dut, name).value = 0
        dut.idle.value = 1
        start_clock(dut)
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        while True:
            await RisingEdge(self.dut.clk)
            now = {name: read() for name, read in self._read.items()}
            self.trace.append(now)
            for kind in ("device", "function"):
                if now[f"{kind}_done"]:
                    getattr(self.dut, f"{kind}_request").value = 0

    def times(self, name: str) -> list[int]:
        """Cycles in which an output was high."""
        return [cycle for cycle, now in enumerate(self.trace) if now[name]]


@cocotb.test(timeout_time=200, timeout_unit="us")
async def drains_clears_and_answers(dut: Any) -> None:
    """Either request, or both: stop until the answer, one reset strobe after a lasting idle."""
    watch = Watch(dut)
    await reset(dut)
    for kinds in (["device"], ["function"], ["device", "function"]) * 4:
        await cycles(dut, random.randint(1, 9))
        watch.trace.clear()
        dut.idle.value = 0
        for kind in kinds:
            getattr(dut, f"{kind}_request").value = 1
        for _ in range(random.randint(0, 6)):  # idle, but not for long enough
            await cycles(dut, random.randint(1, 20))
            dut.idle.value = 1
            await cycles(dut, random.choice([1, 2, LASTING - 1]))
            dut.idle.value = 0
        await cycles(dut, 3)
        assert not watch.times("engine_reset")
        await cycles(dut, 1)
        drained = len(watch.trace)
        dut.idle.value = 1
        busy = random.choice([0, 1, 50])
        dut.busy.value = busy > 0
        while not watch.times("engine_reset"):
            await cycles(dut, 1)
        cleared = watch.times("engine_reset")[0]
        assert cleared - drained >= LASTING
        await cycles(dut, busy)
        free = len(watch.trace)
        dut.busy.value = 0
        await cycles(dut, params().settle + 10)
        for kind in ("device", "function"):
            done = watch.times(f"{kind}_done")
            assert len(done) == (kind in kinds)
            assert all(cycle >= max(cleared + params().settle, free - 1) for cycle in done)
        assert len(watch.times("engine_reset")) == 1
        stop = watch.times("stop")
        assert stop == list(range(stop[0], stop[-1] + 1)), "work was let in during the drain"
        assert stop[0] <= 3
        answered = max(watch.times(f"{kinds[0]}_done"))
        assert answered <= stop[-1] <= answered + 1


@cocotb.test(timeout_time=200, timeout_unit="us")
async def idle_must_last_to_the_end(dut: Any) -> None:
    """Whenever idle breaks off, the reset waits for it to last again."""
    watch = Watch(dut)
    await reset(dut)
    for length in range(1, LASTING + 3):
        watch.trace.clear()
        dut.idle.value = 0
        dut.device_request.value = 1
        await cycles(dut, 5)
        dut.idle.value = 1
        await cycles(dut, length)
        dut.idle.value = 0
        await cycles(dut, 10)
        broke = bool(watch.times("engine_reset"))
        assert broke == (length > LASTING), f"idle for {length} cycles"
        dut.idle.value = 1
        await cycles(dut, LASTING + params().settle + 20)
        assert len(watch.times("engine_reset")) == 1
        assert len(watch.times("device_done")) == 1


@cocotb.test(timeout_time=200, timeout_unit="us")
async def a_request_that_comes_late_gets_its_own_reset(dut: Any) -> None:
    """A function reset asked for after the engine was reset is answered by a second round."""
    watch = Watch(dut)
    await reset(dut)
    dut.device_request.value = 1
    while not watch.times("engine_reset"):
        await cycles(dut, 1)
    dut.function_request.value = 1
    await cycles(dut, 2 * (LASTING + params().settle) + 40)
    resets, device, function = (
        watch.times(name) for name in ("engine_reset", "device_done", "function_done")
    )
    assert len(resets) == 2
    assert len(device) == len(function) == 1
    assert resets[0] < device[0] < resets[1] < function[0]


@pytest.mark.parametrize("settle", [1, 40])
def test_reset_control(settle: int) -> None:
    simulate(
        ResetControl(settle), module=__name__, name=f"reset_control_{settle}",
        params={"settle": settle},
    )  # fmt: skip
