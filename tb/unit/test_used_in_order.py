"""Used with IN_ORDER: one entry for a batch of buffers that were only read."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from used_rig import INPUTS, LINGER, LINGER_CROWDED, QUEUES, READ_ONLY, Rig, Write
from virtqueue_helper import Moves, spread

from lib.sim import params, simulate
from lib.streams import cycles, reset
from virtio_rtl.virtqueue.used import Used

RECEIVE, TRANSMIT = 0, 1


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def random_batches_of_both_kinds(dut: Any) -> None:
    """Mostly read-only buffers on odd virtqueues, some that were written; chains, stalls, laps."""
    sizes = [1, 2, 3, 17, 64, 100] if params().ring == "packed" else [1, 2, 8, 16, 64, 32768]
    random.shuffle(sizes)
    rig = Rig(dut, sizes, stall=random.choice([0.0, 0.3]))
    await reset(dut)
    for _ in range(120):
        queue = random.randrange(QUEUES)
        size = rig.rings[queue].size
        longest = min(size, random.choice([1, 1, 2, 9]))
        for _ in range(random.choice([1, 1, 3, 20, 40])):
            written = None if queue % 2 == RECEIVE else random.choice([0] * 12 + [77])
            rig.put(queue, random.randint(1, longest), written)
        if random.random() < 0.3:
            dut.busy.value = random.getrandbits(1)
            await cycles(dut, random.choice([1, 10, 100]))
    writes = await rig.check()
    # It is used at all, and never where it must not be.
    skipped = [sum(write.buffers - write.entries for write in of) for of in writes]
    assert sum(skipped[TRANSMIT::2]) > 0
    assert sum(skipped[RECEIVE::2]) == 0


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def one_entry_stands_for_a_batch(dut: Any) -> None:
    """Sixteen buffers a write, whatever their chains are; the ring's end alone cuts earlier."""
    batch = params().batch
    rig = Rig(dut, [64, 1024] * 3, stall=0.0)
    await reset(dut)
    for slots in (1, 3):
        for _ in range(4 * batch):
            rig.put(TRANSMIT, slots, 0)
        writes = (await rig.check())[TRANSMIT]
        assert writes == [Write(1, batch)] * 4
        writes.clear()
    rig.put(TRANSMIT, 1, 0)
    await rig.check()
    for _ in range(batch):
        rig.put(TRANSMIT, 2, 0)
    assert (await rig.check())[TRANSMIT] == [Write(1, 1), Write(1, batch)], "not aligned, and whole"


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_written_buffer_ends_the_batch(dut: Any) -> None:
    """Its entry names it, with its length, and stands for those before it as well."""
    rig = Rig(dut, [64] * QUEUES, stall=0.0)
    await reset(dut)
    for _ in range(3):
        rig.put(TRANSMIT, 1, 0)
    rig.put(TRANSMIT, 1, 5)
    rig.put(TRANSMIT, 1, 6)
    rig.put(TRANSMIT, 1, 0)
    rig.put(TRANSMIT, 1, 0)
    writes = (await rig.check())[TRANSMIT]
    # The one that comes first and was written begins a batch in full, which goes on like that.
    assert writes == [Write(1, 4), Write(3, 3)]


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_buffer_with_room_is_never_skipped(dut: Any) -> None:
    """A receive buffer that comes back empty is written for itself: skipped means filled."""
    rig = Rig(dut, [64] * QUEUES, stall=0.0)
    await reset(dut)
    for _ in range(40):
        rig.put(RECEIVE, 1, 0)
    writes = (await rig.check())[RECEIVE]
    assert all(write.entries == write.buffers for write in writes)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def skipping_costs_no_time(dut: Any) -> None:
    """A completion a cycle without an end, for a batch is one entry: one request every 16."""
    rig = Rig(dut, [1024] * QUEUES, stall=0.0, latency=(0, 0))
    came = Moves(dut, "completion_1")
    await reset(dut)
    for _ in range(16 * 20):
        rig.put(TRANSMIT, 1, 0)
    await rig.check()
    assert spread(came.cycles) <= 16 * 20 + 4


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_lone_one_is_not_delayed(dut: Any) -> None:
    """The same three cycles."""
    rig = Rig(dut, [128] * QUEUES, stall=0.0)
    dut.busy.value = 0
    came, left = Moves(dut, "completion_1"), Moves(dut, "request")
    await reset(dut)
    await cycles(dut, QUEUES)
    requests = 1 if rig.packed else 2
    for _ in range(5):
        rig.put(TRANSMIT, 1, 0)
        await rig.check()
    later = int(rig.packed and params().width == 64)
    assert [start + 3 + later for start in came.cycles] == left.cycles[::requests]


@pytest.mark.parametrize("ring", ["packed", "split"])
@pytest.mark.parametrize("width", [64, 128, 512])
def test_used_in_order(width: int, ring: str) -> None:
    simulate(
        Used(width, QUEUES, INPUTS, 16, LINGER, LINGER_CROWDED, read_only=READ_ONLY),
        module=__name__,
        name=f"used_in_order_{ring}_{width}",
        params={"width": width, "batch": 16, "ring": ring, "in_order": True},
    )


@pytest.mark.parametrize("ring", ["packed", "split"])
def test_in_order_in_one_format(ring: str) -> None:
    """The other format is not built."""
    simulate(
        Used(256, QUEUES, INPUTS, 4, LINGER, LINGER_CROWDED, rings=(ring,), read_only=READ_ONLY),
        module=__name__,
        name=f"used_in_order_{ring}_only",
        testcase=["random_batches_of_both_kinds", "one_entry_stands_for_a_batch"],
        params={"width": 256, "batch": 4, "ring": ring, "in_order": True},
    )
