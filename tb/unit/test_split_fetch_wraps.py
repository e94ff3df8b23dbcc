"""SplitFetch where numbers end: avail.idx behind 65535, rings of 32768, high addresses."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from aged_rows import aged
from split_fetch_rig import Driver, Rig, drive
from virtqueue_helper import until

from lib.sim import simulate
from lib.streams import cycles
from virtio_rtl.virtqueue import split_states
from virtio_rtl.virtqueue.fetch import Fetch

LONGEST = 32768
START = 65536 - 60
"""Buffers that each virtqueue has had when a test begins; a ring of 32768 ends there as well."""

LONG = 6
"""Descriptors of a chain: from all over a long table, each of them is a read of its own."""

FAR = {
    "descriptor_area": (1 << 63) - 0x4_0010,
    "driver_area": (3 << 62) - 0x8000 - 2,
    "device_area": (1 << 62) - 0x2_0004,
}
"""A carry runs through all of an address in each area; the table begins at 0xF0 of its block."""


async def begin(rig: Rig) -> None:
    """Let the drivers be where the device is, and the device ask for the next buffer."""
    for driver in rig.drivers:
        driver.index = driver.planned = START
        driver.put_index(START)
    await rig.start()
    queues = range(len(rig.drivers))
    for queue in queues:
        rig.ring(queue)
    await until(rig.dut, lambda: all(rig.wants_notifications(queue) for queue in queues))


async def offer(driver: Driver, *chains: list[int]) -> None:
    """Make chains of just these descriptors available, all at once."""
    before = driver.index
    for taken in chains:
        for index in taken:
            driver.free_list.remove(index)
        for index, content in driver.plan(len(taken), taken):
            driver.put(index, content)
        driver.put_entry(driver.planned, taken[0])
        driver.planned += 1
    driver.publish()
    await driver.pause()
    driver.kick(before)


async def across(driver: Driver) -> None:
    """Chains up to the ring's end, some at the ends and the middle of the table, and more."""
    last, middle = driver.size - 1, driver.size // 2
    await drive(driver, 65533 - driver.planned, LONG)
    await until(driver.rig.dut, lambda: driver.free == driver.size)
    await offer(
        driver,
        [last], [middle, last - 1, 1], [0],  # in the ring's last three entries
        [last - 2, middle - 1], [2], [middle + 1, 3],
    )  # fmt: skip
    await drive(driver, 60, LONG)


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(event_idx=[False, True])
async def the_available_index_wraps(dut: Any, event_idx: bool) -> None:
    """Every buffer arrives, in order, before and behind 65535, in a ring of 32768 and others."""
    sizes = [LONGEST, 1, *random.sample([2, 4, 16, 256, LONGEST], 2)]
    stall = random.choice([0.1, 0.3])
    rig = Rig(dut, sizes, stall=stall, event_idx=event_idx, areas={0: FAR})
    await begin(rig)
    tasks = [cocotb.start_soon(across(rig.drivers[0]))]
    tasks += [cocotb.start_soon(drive(driver, 120, LONG)) for driver in rig.drivers[1:]]
    for task in tasks:
        await task
    await until(dut, lambda: rig.delivered == [d.index - START for d in rig.drivers], 60_000)
    await until(dut, lambda: all(rig.wants_notifications(queue) for queue in range(4)))
    await cycles(dut, 300)
    assert min(driver.index for driver in rig.drivers) > 65536
    assert rig.failed.count == 0
    read = {(area, place) for queue, area, place, _ in rig.guest.reads if queue == 0}
    ends = {(area, place + count) for queue, area, place, count in rig.guest.reads if queue == 0}
    assert {("ring", 0), ("table", 0)} <= read
    assert {("ring", LONGEST), ("table", LONGEST)} <= ends


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(jump=[LONGEST + 1, 40_000, -1])
async def an_index_that_jumps_is_reported(dut: Any, jump: int) -> None:
    """More available than the longest ring has, across the wrap as well: one error, no more."""
    rig = Rig(dut, [16, LONGEST], stall=0.1, event_idx=False)
    await begin(rig)
    driver = rig.drivers[1]
    await driver.add(1)
    await until(dut, lambda: rig.delivered[1] == 1, 1000)
    driver.put_index(driver.index + jump)
    driver.kick()
    await until(dut, lambda: rig.failed.count == 1, 1000)
    await rig.drivers[0].add(1)
    await until(dut, lambda: rig.delivered[0] == 1, 1000)
    assert rig.delivered[1] == 1


@pytest.mark.parametrize("width", [256])
def test_split_fetch_wraps(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, depth = 16, 128
    aged(monkeypatch, {"position": START, "known": START}, split_states)
    simulate(
        Fetch(width, 4, 2, batch, depth, rings=("split",)),
        module=__name__,
        name=f"split_fetch_wraps_{width}",
        params={"width": width, "batch": batch, "depth": depth},
    )
