"""Random hostile drivers: the device does not hang, harms nobody else, and recovers by reset."""

from __future__ import annotations

from typing import Any

import cocotb
import pytest

from lib.hostile import draw_plan, hostile_config, make_hostile_run, make_hostile_system
from lib.sim import choose_seed, params, simulate
from virtio_rtl.top import VirtioDevice


@cocotb.test(timeout_time=4, timeout_unit="ms")
@cocotb.parametrize(("ring", ["split", "packed"]), ("intruder", [False, True]))
async def hostile_runs(dut: Any, ring: str, intruder: bool) -> None:
    """Broken rings beside a well-behaved pair; registers attacked at any time."""
    device = params().device
    system = make_hostile_system(dut, hostile_config(device=device))
    await system.bring_up()
    hostile = make_hostile_run(system)
    await hostile.prepare()
    first = params().seed
    for seed in range(first, first + params().runs):
        plan = draw_plan(seed, device=device, ring=ring, intruder=intruder)
        outcome = await hostile.run(plan)
        assert not outcome.faults, f"{outcome.faults}\n{plan.show()}"
    outcome = await hostile.run(draw_plan(first, device=device, ring=ring, intruder=False))
    assert not outcome.faults
    assert not await hostile.finish()


@pytest.mark.parametrize("device", ["net", "blk"])
def test_hostile_random(device: str) -> None:
    name = f"hostile_random_{device}"
    simulate(
        VirtioDevice(hostile_config(device=device)),
        module=__name__,
        name=name,
        params={"device": device, "runs": 15, "seed": choose_seed(name)},
    )
