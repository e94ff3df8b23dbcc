"""SplitFetch against split rings in Python: what is available is found, once, in order."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from split_fetch_rig import Rig, drive
from virtqueue_helper import until

from lib.sim import simulate
from lib.streams import cycles
from virtio_rtl.virtqueue.fetch import Fetch

SIZES = {64: (4, 8), 128: (16, 32), 256: (16, 128), 512: (8, 64)}
"""Width to (batch, depth)."""


async def rests(rig: Rig) -> None:
    """Everywhere the driver is asked to notify, and nothing is read any more."""
    queues = range(len(rig.drivers))
    await until(rig.dut, lambda: all(rig.wants_notifications(q) for q in queues), 2000)
    await until(rig.dut, lambda: rig.dut.idle.value == 1 and not rig.pending, 2000)
    await cycles(rig.dut, 300)
    before = len(rig.guest.reads)
    await cycles(rig.dut, 300)
    assert len(rig.guest.reads) == before
    assert rig.dut.idle.value == 1
    assert rig.failed.count == 0


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(event_idx=[False, True], order=["up", "down", "pairs", "wild"])
async def finds_every_chain_once(dut: Any, event_idx: bool, order: str) -> None:
    """Random rings, chains, places, speeds and moments of reading: all arrive, in order."""
    sizes = random.sample([1, 2, 4, 8], 2) + random.sample([16, 32, 64, 128], 2)
    random.shuffle(sizes)
    stall = random.choice([0.0, 0.2])
    rig = Rig(dut, sizes, stall=stall, event_idx=event_idx, order=order)
    await rig.start()
    chains = 60
    tasks = [cocotb.start_soon(drive(driver, chains)) for driver in rig.drivers]
    for task in tasks:
        await task
    await until(dut, lambda: rig.delivered == [chains] * 4, 60_000)
    await rests(rig)
    assert all(rig.announced)


@pytest.mark.parametrize("width", [64, 128, 256, 512])
def test_split_fetch(width: int) -> None:
    batch, depth = SIZES[width]
    simulate(
        Fetch(width, 4, 2, batch, depth, rings=("split",)),
        module=__name__,
        name=f"split_fetch_{width}",
        params={"width": width, "batch": batch, "depth": depth},
    )
