"""Walk on split virtqueues: chains that are linked through indirect tables, wherever they lead."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from virtqueue_helper import Moves, nothing_more, spread, until
from walk_bench import QUEUES, Bench
from walk_links import Entry, SplitRig, chain_of

from lib.sim import simulate
from lib.streams import cycles, reset


def serve(rig: SplitRig) -> None:
    """Ask for all that is planned, behind the test's back."""
    rig.whole_bursts, rig.bursts = [0] * QUEUES, [0] * QUEUES
    cocotb.start_soon(rig.pump())


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def walks_random_tables(dut: Any) -> None:
    """In order, with gaps, to and fro, loops, beyond the table, indirect in it, behind direct ones.

    The golden segments and records, whoever stalls.
    """
    rig = SplitRig(
        dut, stall=random.choice([0.0, 0.2]), size=random.choice([1, 7, 16, 256]), latency=(3, 40)
    )
    for queue in range(QUEUES):
        for _ in range(40):
            rig.plan(queue, rig.random_case())
    slots = [sum(len(case.ring) for case in rig.cases[queue]) for queue in range(QUEUES)]
    await rig.start()
    await rig.serve()
    await nothing_more(dut, rig.segment, rig.buffer)
    assert rig.rearmed == [count // rig.batch for count in slots]


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def entries_in_order_need_no_single_read(dut: Any) -> None:
    """Nor do gaps: single reads are for chains that go back, or past what was asked for ahead."""
    rig = SplitRig(dut, stall=0.1, size=32)
    segments = [(k, k + 1, 1) for k in range(20)]
    for count in (20, 21, 100):
        rig.plan(0, rig.linked(chain_of(count, list(range(20)), segments)))
        rig.plan(
            0, rig.linked(chain_of(32, [0, *sorted(random.sample(range(1, 32), 19))], segments))
        )
    await rig.start()
    serve(rig)
    while rig.cases[0]:
        await rig.compare()
    assert rig.jumps.requests == 0
    await nothing_more(dut, rig.segment, rig.buffer)


async def widest_table(dut: Any, size: int) -> SplitRig:
    """A chain to and fro in 32768 entries; then one whose length no table needs."""
    rig = SplitRig(dut, stall=0.0, size=size, latency=(3, 10))
    # Entry 65535 is the last that a link can name.
    tables = [([0, 32767, 1, 32766, 5, 4, 20000], 16 * 32768), ([0, 0xFFFF], 0xFFFF_FFF0)]
    for number, (order, length) in enumerate(tables, 1):
        case = rig.linked([Entry((0, 0, 0))], length=length)
        base = case.ring[-1]["address"] = number << 40
        for place, following in zip(order, [*order[1:], None], strict=True):
            rig.memory.set(base + 16 * place, Entry((place, place + 1, 0), following).to_bytes())
        case.segments = [(place, place + 1, 0) for place in order]
        rig.plan(1, case)
        rig.plan(1, rig.table([(1, 2, 0)]))
    await rig.start()
    serve(rig)
    while rig.cases[1]:
        await rig.compare()
    await nothing_more(dut, rig.segment, rig.buffer)
    return rig


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def a_table_of_32768_entries(dut: Any) -> None:
    """On a virtqueue as large, the table is read ahead whole; single reads are for going back."""
    rig = await widest_table(dut, 32768)
    assert rig.jumps.requests == 6


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_table_larger_than_the_virtqueue(dut: Any) -> None:
    """No more of it is read ahead than a chain may have; what is behind needs single reads."""
    rig = await widest_table(dut, 64)
    assert rig.jumps.requests == 7
    assert sum(length for _, length in rig.memory.reads) < 16 * (2 * 64 + 20)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def longest_chains(dut: Any) -> None:
    """As many descriptors as table and virtqueue allow are no error, in any order; one more is."""
    rig = SplitRig(dut, stall=0.1, size=20)
    for count in (19, 20, 21):
        segments = [(k, k + 1, 0) for k in range(count)]
        backwards = [0, *range(count - 1, 0, -1)]
        for order in (list(range(count)), backwards):
            for rest in (0, 9):
                case = rig.linked(chain_of(count + rest, order, segments))
                assert case.error == (count > 20)
                rig.plan(2, case)
        table = chain_of(count, backwards, segments)
        table[backwards[-1]].next = backwards[-1]
        rig.plan(2, rig.linked(table))
    await rig.start()
    serve(rig)
    while rig.cases[2]:
        await rig.compare()
    await nothing_more(dut, rig.segment, rig.buffer)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def what_cannot_be_read_is_an_error(dut: Any) -> None:
    """A chunk that is used, or a single descriptor; a chunk that nobody needs is not."""
    rig = SplitRig(dut, stall=0.1, size=64)
    bad: set[int] = set()
    rig.tables.fail = rig.jumps.fail = lambda address: address in bad
    segments = [(k, 5, 0) for k in range(40)]
    plans = [  # order of the chain, what cannot be read, index of the first that is not there
        (list(range(40)), 0, 0),
        (list(range(40)), 16, 16),
        ([*range(16), *range(32, 48)], 16, None),
        (list(range(16)), 16, None),
        ([0, 30, 20, 10], 20, 2),
        ([0, 30, 20, 10], 10, 3),
    ]
    broken = []
    for order, place, index in plans:
        table = chain_of(48, order, segments[: len(order)])
        case = rig.linked(table)
        bad.add(case.ring[-1]["address"] + 16 * place)
        broken.append(index)
        rig.plan(1, case)
        rig.plan(1, rig.direct([(1, 2, 0)]))
        broken.append(None)
    await rig.start()
    serve(rig)
    for index in broken:
        if index is None:
            await rig.compare()
            continue
        record = await rig.buffer.receive()
        case = rig.cases[1].popleft()
        assert (record.error, record.id, record.slots) == (1, case.ring[-1]["id"], 1)
        got = []
        while not got or not got[-1].last:
            got.append(await rig.segment.receive())
        assert index < len(got) <= index + 2
        assert [s.length for s in got] == [5] * index + [0] * (len(got) - index)
        assert [s.address for s in got[:index]] == [a for a, _, _ in case.segments[:index]]
    await nothing_more(dut, rig.segment, rig.buffer)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def tables_in_order_keep_pace(dut: Any) -> None:
    """An entry a cycle, also of a split table."""
    rig = SplitRig(dut, stall=0.0, latency=(20, 20))
    for _ in range(8):
        rig.plan(0, rig.table([(k, k + 1, 0) for k in range(16)]))
    await reset(dut)
    await cycles(dut, QUEUES + 2)
    moves = Moves(dut, "segment")
    await rig.fill()
    rig.request.queue({"queue": 0, "buffers": n} for n in ([1] * 8 if rig.pull else [8]))
    await until(dut, lambda: len(moves.cycles) == 128, 1000)
    # The reads of the first four tables are made ahead; the last ones come in time.
    per_entry = 2 if len(dut.table_packet__payload) < 128 else 1
    assert spread(moves.cycles[:64]) <= 64 * per_entry
    while rig.cases[0]:
        await rig.compare()


@pytest.mark.parametrize(
    ("width", "batch", "depth", "rings", "pull"),
    [
        (64, 4, 8, ("split",), True),
        (128, 16, 32, ("packed", "split"), False),
        (256, 16, 64, ("split", "packed"), True),
        (512, 8, 64, ("split",), False),
    ],
)
def test_walk_split(width: int, batch: int, depth: int, rings: tuple[str, ...], pull: bool) -> None:
    """Where split virtqueues are built alone, and beside packed ones."""
    simulate(
        Bench(width, batch, depth, pull, rings=rings),
        module=__name__,
        name=f"walk_split_{width}_{'pull' if pull else 'push'}",
        params={"width": width, "batch": batch, "depth": depth, "pull": pull},
        waive=["result__valid"] if pull else [],
    )
