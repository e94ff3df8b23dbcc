"""Walk and ReadAhead: chains and indirect tables become segments and one record a buffer."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from virtqueue_helper import Moves, nothing_more, spread, until
from walk_bench import QUEUES, SEGMENTS, Bench
from walk_rig import Rig

from lib.sim import simulate
from lib.streams import cycles, reset
from virtio_rtl.virtqueue.ring_item import TABLE_ROOM


@cocotb.test(timeout_time=3, timeout_unit="ms")
async def walks_random_chains(dut: Any) -> None:
    """Chains, tables of 1 to 100 entries, broken ones, stalls: the golden segments and records."""
    rig = Rig(dut, stall=random.choice([0.0, 0.2]), size=random.choice([7, 16, 256]))
    for queue in range(QUEUES):
        for _ in range(25):
            rig.plan(queue, rig.random_case())
    slots = [sum(len(case.ring) for case in rig.cases[queue]) for queue in range(QUEUES)]
    await rig.start()
    await rig.serve()
    await nothing_more(dut, rig.segment, rig.buffer)
    assert rig.rearmed == [count // rig.batch for count in slots]
    for queue in range(QUEUES):
        dut.issue_queue.value = queue
        await cycles(dut, 3)
        assert int(dut.issue_taken.value) == slots[queue] % (2 * rig.depth)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def a_table_that_cannot_be_read_is_an_error(dut: Any) -> None:
    """Also in a later chunk of the table; buffers around it are not touched."""
    rig = Rig(dut, stall=0.1)
    for count in (1, 16, 17, 40):
        segments = [(k, 5, 1) for k in range(count)]
        rig.plan(1, rig.table([(7, 7, 0)]))
        case = rig.table(segments, poison=True)
        # Addresses and lengths of what was not read are anybody's guess.
        case.error = 1
        rig.plan(1, case)
        rig.plan(1, rig.direct([(1, 2, 0)]))
    await rig.start()
    rig.whole_bursts, rig.bursts = [0] * QUEUES, [0] * QUEUES
    cocotb.start_soon(rig.pump())
    while rig.cases[1]:
        seen = await rig.buffer.receive()
        segments, record = rig.cases[1].popleft().golden(1, rig.pull, rig.size)
        got = await rig.segment.take(len(segments))
        assert [s["length"] for s in got] == [s["length"] for s in segments]
        assert [s["last"] for s in got] == [s["last"] for s in segments]
        for name in ("queue", "id", "slots", "error"):
            assert seen[name] == record[name]
    await nothing_more(dut, rig.segment, rig.buffer)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def a_chain_longer_than_the_store(dut: Any) -> None:
    """It comes in pieces; the room is given back while the chain is still being walked."""
    rig = Rig(dut, stall=0.1)
    length = 3 * rig.depth + 1
    assert length <= rig.size
    rig.plan(0, rig.direct([(k, k + 1, 0) for k in range(length)]))
    rig.plan(0, rig.direct([(1, 1, 1)]))
    await rig.start()
    await rig.serve()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def tables_wait_for_room(dut: Any) -> None:
    """Tables are asked for ahead, but never more than there is room for, whoever stalls."""
    rig = Rig(dut, stall=0.0)
    for _ in range(12):
        rig.plan(0, rig.table([(k, k + 1, 1) for k in range(16)]))
    await rig.start()
    rig.segment.stall = 1.0
    rig.whole_bursts, rig.bursts = [0] * QUEUES, [0] * QUEUES
    cocotb.start_soon(rig.pump())
    await cycles(dut, 1500)
    ahead = sum(length for _, length in rig.memory.reads) // 16
    assert TABLE_ROOM - 16 < ahead <= TABLE_ROOM + SEGMENTS + 4
    rig.segment.stall = 0.0
    while rig.cases[0]:
        await rig.compare()
    await nothing_more(dut, rig.segment, rig.buffer)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def too_many_segments_are_an_error_for_pull(dut: Any) -> None:
    """A consumer that waits for the record must get it: more segments than the FIFO holds."""
    rig = Rig(dut, stall=0.0)
    for count in (SEGMENTS - 1, SEGMENTS, SEGMENTS + 1, 100):
        rig.plan(2, rig.table([(k, k, 1) for k in range(count)]))
        rig.plan(2, rig.direct([(k, 3, 1) for k in range(min(count, 60))]))
    await rig.start()
    rig.whole_bursts, rig.bursts = [0] * QUEUES, [0] * QUEUES
    cocotb.start_soon(rig.pump())
    while rig.cases[2]:
        if rig.pull:  # the record comes although nobody takes segments
            rig.segment.stall = 1.0
            await until(dut, lambda: len(rig.buffer) > 0, 2000)
            rig.segment.stall = 0.0
        await rig.compare()
    await nothing_more(dut, rig.segment, rig.buffer)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def pull_waits_for_a_buffer(dut: Any) -> None:
    """A request that finds nothing available is served when something is."""
    rig = Rig(dut, stall=0.0)
    rig.plan(0, rig.direct([(1, 2, 1)]))
    await reset(dut)
    await cycles(dut, QUEUES + 2)
    rig.request.queue([{"queue": 0, "buffers": 1}])
    await cycles(dut, 60)
    assert len(rig.buffer) == 0
    if rig.pull:
        cocotb.start_soon(rig.fill())
        await rig.compare()
    else:
        assert await rig.result.receive() == {"queue": 0, "exhausted": 1}


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def keeps_pace(dut: Any) -> None:
    """One descriptor a cycle, and three cycles more for each batch; a table entry a cycle."""
    rig = Rig(dut, stall=0.0, latency=(20, 20))
    count = rig.depth
    for k in range(count):
        rig.plan(0, rig.direct([(k, k, 0)]))
    await reset(dut)
    await cycles(dut, QUEUES + 2)
    moves = Moves(dut, "segment")
    await rig.fill()
    bursts = [1] * count if rig.pull else [count // 2] * 2
    rig.request.queue({"queue": 0, "buffers": buffers} for buffers in bursts)
    await until(dut, lambda: len(moves.cycles) == count, 1000)
    assert spread(moves.cycles) <= count + 3 * (count // rig.batch) + 8
    while rig.cases[0]:
        await rig.compare()


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def an_indirect_descriptor_where_there_are_none(dut: Any) -> None:
    """It breaks a rule: its buffer is in error, nothing is read, and those around it are right."""
    rig = Rig(dut, stall=0.1)
    dut.packed.value = random.getrandbits(1)
    for queue in range(QUEUES):
        for _ in range(10):
            before = rig.random_segments(3) if random.random() < 0.5 else []
            case = rig.direct([*before, (random.getrandbits(60), 16, 1)])
            case.ring[-1]["indirect"] = 1
            case.error, case.bad_from = 1, len(before)
            rig.plan(queue, case)
            rig.plan(queue, rig.direct(rig.random_segments(5)))
    await rig.start()
    await rig.serve()
    await nothing_more(dut, rig.segment, rig.buffer)
    assert rig.tables.requests == 0


@pytest.mark.parametrize("pull", [False, True])
def test_walk_without_indirect(pull: bool) -> None:
    """Both formats, direct descriptors only."""
    simulate(
        Bench(128, 8, 32, pull, rings=("packed", "split"), indirect=False),
        module=__name__,
        name=f"walk_direct_{'pull' if pull else 'push'}",
        testcase=["an_indirect_descriptor_where_there_are_none", "a_chain_longer_than_the_store"],
        params={"width": 128, "batch": 8, "depth": 32, "pull": pull},
        waive=["table_request__valid", "table_request__payload", "table_packet__ready"]
        + (["result__valid"] if pull else []),
    )


TESTS = [
    "walks_random_chains", "a_table_that_cannot_be_read_is_an_error",
    "a_chain_longer_than_the_store", "tables_wait_for_room",
    "too_many_segments_are_an_error_for_pull", "pull_waits_for_a_buffer", "keeps_pace",
]  # fmt: skip


@pytest.mark.parametrize(
    ("width", "batch", "depth", "rings", "pull"),
    [
        (64, 4, 8, ("packed",), False),
        (128, 16, 32, ("packed", "split"), True),
        (256, 16, 64, ("packed",), False),
        (512, 8, 64, ("split", "packed"), True),
    ],
)
def test_walk(width: int, batch: int, depth: int, rings: tuple[str, ...], pull: bool) -> None:
    """Packed chains, also where split ones are built as well."""
    simulate(
        Bench(width, batch, depth, pull, rings=rings),
        module=__name__,
        name=f"walk_{width}_{'pull' if pull else 'push'}",
        testcase=TESTS,
        params={"width": width, "batch": batch, "depth": depth, "pull": pull},
        waive=["result__valid"] if pull else [],
    )
