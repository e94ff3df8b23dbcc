"""PackedFetch in the longest rings, 32768 slots and 32767, across their ends, at high addresses."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from aged_rows import aged
from packed_fetch_rig import Driver, Rig
from virtqueue_helper import until

from lib.sim import simulate
from lib.streams import cycles
from virtio_rtl.virtqueue import fetch_issue, fetch_receive
from virtio_rtl.virtqueue.fetch import Fetch

SIZES = [32768, 32767]
START = 32767 - 150
"""Slot at which a test begins, in the first lap."""

FAR = {
    0: {"descriptor_area": (1 << 63) - 0x4_0010, "device_area": (1 << 62) - 4},
    1: {"descriptor_area": (3 << 62) - 0x4_0020, "device_area": (1 << 32) - 4},
}
"""A carry runs through all of an address; the rings begin anywhere in their cache line."""


async def across(driver: Driver) -> None:
    """Chains up to the ring's last slots, one over its end, and more behind it."""
    while (left := driver.size - driver.slot) > 4:
        await driver.add(random.randint(1, min(left - 1, random.choice([1, 3, 40]))))
    await driver.add(left + random.randint(1, 40))
    assert driver.wrap == 0
    for _ in range(40):
        await driver.add(random.choice([1, 1, 2, random.randint(3, 100)]))


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.2])
async def the_longest_rings_wrap(dut: Any, stall: float) -> None:
    """Chains across the end of both rings: all arrive, in order, and the wrap counters toggle."""
    rig = Rig(dut, SIZES, stall=stall, areas=FAR)
    for driver in rig.drivers:
        driver.slot = driver.used_slot = START
    await rig.start()
    for task in [cocotb.start_soon(across(driver)) for driver in rig.drivers]:
        await task
    await until(dut, lambda: not any(driver.expected for driver in rig.drivers), 60_000)
    await until(dut, lambda: not any(rig.guest.flags), 1000)
    await cycles(dut, 300)
    assert rig.failed.count == 0
    for queue, size in enumerate(SIZES):
        reads = [(slot, count) for read, slot, count in rig.guest.reads if read == queue]
        assert 0 in {slot for slot, _ in reads}
        assert size in {slot + count for slot, count in reads}


@pytest.mark.parametrize("width", [256])
def test_packed_fetch_wraps(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, depth = 16, 128
    aged(monkeypatch, {"index": START}, fetch_issue, fetch_receive)
    simulate(
        Fetch(width, 4, 2, batch, depth, rings=("packed",)),
        module=__name__,
        name=f"packed_fetch_wraps_{width}",
        params={"width": width, "batch": batch, "depth": depth},
    )
