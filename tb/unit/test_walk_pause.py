"""Walk comes to rest between buffers on demand, and forgets one virtqueue meanwhile."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from virtqueue_helper import Moves, nothing_more, until
from walk_bench import QUEUES, Bench
from walk_links import SplitRig
from walk_rig import Rig

from lib.port import reader
from lib.sim import params, simulate
from lib.streams import cycles


class Pauses:
    """Raises and withdraws `pause`, and checks that at rest nothing moves."""

    def __init__(self, dut: Any):
        self.dut = dut
        self.rests = 0
        self.done = False
        self._resting = reader(dut.resting)
        self._valid = [reader(dut.segment__valid), reader(dut.buffer__valid)]

    async def begin(self, limit: int = 30_000) -> None:
        """Pause, and wait for rest."""
        self.dut.pause.value = 1
        await cycles(self.dut)
        await until(self.dut, self._resting, limit)
        self.rests += 1

    async def rest(self, count: int) -> None:
        """Some cycles of rest, in which nothing is given."""
        for _ in range(count):
            await cycles(self.dut)
            assert self._resting(), "rest lasts as long as the pause"
            assert not any(valid() for valid in self._valid)

    async def end(self) -> None:
        """Go on."""
        self.dut.pause.value = 0
        await cycles(self.dut)

    async def at_random(self) -> None:
        """Until `done`; pauses that are withdrawn before rest are among them."""
        while not self.done:
            await cycles(self.dut, random.choice([1, 2, 5, 30]))
            if random.random() < 0.3:
                self.dut.pause.value = 1
                await cycles(self.dut, random.randint(1, 6))
            else:
                await self.begin()
                await self.rest(random.choice([1, 3, 40]))
            await self.end()


def make_rig(dut: Any, **options: Any) -> Rig:
    """Packed or split, as the bench is built."""
    return (SplitRig if params().split else Rig)(dut, **options)


async def issue_taken(dut: Any, queue: int) -> int:
    """The pointer that the fetch sees."""
    dut.issue_queue.value = queue
    await cycles(dut, 3)
    return int(dut.issue_taken.value)


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def pauses_lose_nothing(dut: Any) -> None:
    """Pauses at any moment of random traffic: every buffer once, in order, and right."""
    rig = make_rig(dut, stall=random.choice([0.0, 0.2]), size=16, latency=(3, 40))
    for queue in range(QUEUES):
        for _ in range(40):
            rig.plan(queue, rig.random_case())
    pauses = Pauses(dut)
    await rig.start()
    task = cocotb.start_soon(pauses.at_random())
    await rig.serve()
    pauses.done = True
    await task
    assert pauses.rests > 10
    await nothing_more(dut, rig.segment, rig.buffer)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def a_chain_that_has_begun_is_finished(dut: Any) -> None:
    """No rest before its end, however late that comes; none of the next buffer is touched."""
    rig = make_rig(dut, stall=0.0)
    pauses = Pauses(dut)
    await rig.start()
    case, behind = rig.direct([(k << 8, 9 + k, 1) for k in range(3)]), rig.direct([(1, 2, 1)])
    rig.cases[0].extend([case, behind])
    await rig.put(0, case.ring[0])
    await rig.commit(0)
    rig.request.queue(
        [{"queue": 0, "buffers": 1}] * 2 if rig.pull else [{"queue": 0, "buffers": 2}]
    )
    await cycles(dut, 20)
    dut.pause.value = 1
    for descriptor in (*case.ring[1:], *behind.ring):
        for _ in range(100):
            await cycles(dut)
            assert not int(dut.resting.value)
        await rig.put(0, descriptor)
    await rig.commit(0)
    assert await rig.compare() == 0
    await pauses.begin()
    await pauses.rest(100)
    assert await issue_taken(dut, 0) == 3
    await pauses.end()
    assert await rig.compare() == 0


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def rest_comes_after_the_last_output(dut: Any) -> None:
    """As long as a segment or a record waits to be taken, a buffer is inside."""
    rig = make_rig(dut, stall=0.1)
    pauses = Pauses(dut)
    await rig.start()
    for _ in range(2):
        rig.plan(1, rig.table([(k, 5, 1) for k in range(3)]))
    await rig.fill()
    for sink in (rig.segment, rig.buffer):
        sink.stall = 1.0
        await cycles(dut, 3)
        rig.request.queue([{"queue": 1, "buffers": 1}])
        await cycles(dut, 300)
        dut.pause.value = 1
        for _ in range(50):
            await cycles(dut)
            assert not int(dut.resting.value)
        sink.stall = 0.1
        await pauses.begin()
        assert await rig.compare() == 1
        await pauses.rest(10)
        await pauses.end()


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def a_request_outlives_a_pause(dut: Any) -> None:
    """The time of a pause does not count as waiting; a buffer that came meanwhile is found."""
    rig, wait = make_rig(dut, stall=0.0), params().wait_cycles
    pauses, given = Pauses(dut), Moves(dut, "buffer")
    await rig.start()
    for moment in (0, 1, 2, 3, 4, wait // 2, wait - 10):
        for supplied in (False, True):
            rig.plan(0, rig.direct([(random.getrandbits(60), 60, 1)]))
            await rig.fill()
            rig.request.queue([{"queue": 0, "buffers": 1}])
            assert await rig.compare() == 0  # no dry spell now
            rig.request.queue([{"queue": 0, "buffers": 1}])
            await cycles(dut, moment)
            await pauses.begin(limit=20)
            await pauses.rest(3 * wait)
            if supplied:
                rig.plan(0, rig.direct([(random.getrandbits(60), 60, 1)]))
                await rig.fill()
                await pauses.rest(10)
            given.cycles.clear()
            await pauses.end()
            if not supplied:
                await cycles(dut, wait - 5)
                assert not given.cycles, "the wait began anew"
            assert await rig.answer() == (0, not supplied)
    await nothing_more(dut, rig.segment, rig.buffer)


async def forget(rig: Rig, queue: int) -> None:
    """The reset of a virtqueue: what the store holds is gone."""
    rig.dut.forget.value, rig.dut.forget_queue.value = 1, queue
    await cycles(rig.dut)
    rig.dut.forget.value, rig.dut.forget_queue.value = 0, random.randrange(QUEUES)
    await cycles(rig.dut, 2)
    assert not int(rig.dut.busy.value)
    rig.pointer[queue] = 0
    rig.cases[queue].clear()


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def a_virtqueue_is_forgotten(dut: Any) -> None:
    """What it had is gone, a waiting request gets a buffer of its new life; others keep theirs."""
    rig = make_rig(dut, stall=0.0)
    pauses = Pauses(dut)
    await rig.start()
    for _ in range(12):
        victim = random.randrange(QUEUES)
        before = {}
        for queue in range(QUEUES):
            for _ in range(random.randint(0, 2)):  # at most 6 descriptors: the store holds 8
                rig.plan(queue, rig.direct(rig.random_segments(3)))
        await rig.fill()
        dut.pause.value = 1
        await cycles(dut, 2)
        asked = rig.pull or random.random() < 0.5
        if asked:
            rig.request.queue([{"queue": victim, "buffers": 1}])
        await pauses.begin()
        await pauses.rest(random.choice([1, 10]))
        for queue in range(QUEUES):
            before[queue] = await issue_taken(dut, queue)
        await forget(rig, victim)
        before[victim] = 0
        for queue in range(QUEUES):
            assert await issue_taken(dut, queue) == before[queue]
        await pauses.rest(10)
        await pauses.end()
        await cycles(dut, 10)
        assert len(rig.buffer) == 0
        rig.plan(victim, rig.direct([(random.getrandbits(60), 77, 1)]))
        if asked and rig.result is not None:
            assert await rig.result.receive() == {"queue": victim, "exhausted": 1}
            asked = False
        await rig.fill()
        if not asked:
            rig.request.queue([{"queue": victim, "buffers": 1}])
        assert await rig.compare() == victim
        if rig.result is not None:
            await rig.result.receive()
        # The others have what they had.
        for queue in range(QUEUES):
            while rig.cases[queue]:
                rig.request.queue([{"queue": queue, "buffers": 1}])
                assert await rig.compare() == queue
                if rig.result is not None:
                    await rig.result.receive()


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def a_dry_spell_is_forgotten(dut: Any) -> None:
    """After its reset a virtqueue is waited for again; the others are as dry as before."""
    rig, wait = make_rig(dut, stall=0.0), params().wait_cycles
    pauses, asked, given = Pauses(dut), Moves(dut, "request"), Moves(dut, "buffer")
    await rig.start()

    async def waited(queue: int) -> bool:
        rig.request.queue([{"queue": queue, "buffers": 1}])
        assert await rig.answer() == (queue, True)
        await cycles(dut)
        return given.cycles[-1] - asked.cycles[-1] >= wait

    for queue in range(QUEUES):
        assert await waited(queue)
    for victim in (1, 0, 2):
        await pauses.begin()
        await forget(rig, victim)
        await pauses.end()
        assert [await waited(queue) for queue in range(QUEUES)] == [
            queue == victim for queue in range(QUEUES)
        ]


TESTS = [
    "pauses_lose_nothing", "a_chain_that_has_begun_is_finished",
    "rest_comes_after_the_last_output", "a_virtqueue_is_forgotten",
]  # fmt: skip
WAITING = ["a_request_outlives_a_pause", "a_dry_spell_is_forgotten"]


@pytest.mark.parametrize("pull", [False, True])
@pytest.mark.parametrize(
    ("width", "batch", "depth", "rings"), [(64, 4, 8, ("packed",)), (256, 16, 64, ("split",))]
)
def test_walk_pause(width: int, batch: int, depth: int, rings: tuple[str, ...], pull: bool) -> None:
    """Both formats, both kinds of path."""
    wait_cycles = 150
    simulate(
        Bench(width, batch, depth, pull, wait_cycles, rings),
        module=__name__,
        name=f"walk_pause_{width}_{'pull' if pull else 'push'}",
        testcase=TESTS + (WAITING if pull else []),
        params={
            "width": width, "batch": batch, "depth": depth, "pull": pull,
            "split": rings == ("split",), "wait_cycles": wait_cycles,
        },
        waive=["result__valid"] if pull else [],
    )  # fmt: skip
