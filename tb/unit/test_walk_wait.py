"""Waiting for a buffer where other virtqueues wait behind: WalkWait, and Walk on a pull path."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import cocotb
import pytest
from virtqueue_helper import Moves, nothing_more, spread, until
from walk_bench import QUEUES, Bench
from walk_rig import Rig

from lib.sim import params, simulate
from lib.streams import cycles, reset, start_clock
from virtio_rtl.virtqueue.walk_wait import WalkWait


class Patience:
    """Visits virtqueues as the walker does."""

    def __init__(self, dut: Any):
        self.dut = dut
        start_clock(dut)
        dut.queue.value = dut.waiting.value = dut.found.value = dut.enabled.value = 0

    async def clear(self) -> None:
        await reset(self.dut)
        await cycles(self.dut, params().queues + 1)

    async def visit(
        self, queue: int, *, enabled: bool = True, buffer_after: int = 10_000, linger: int = 0
    ) -> int | None:
        """Wait for a buffer that comes after some cycles; the cycles until told to give up.

        None if the buffer came first. `linger`: cycles in which a told one keeps on asking.
        """
        dut = self.dut
        dut.queue.value = queue
        await cycles(dut)
        dut.enabled.value = int(enabled)
        for waited in range(buffer_after):
            dut.waiting.value = 1
            await cycles(dut)
            if int(dut.give_up.value):
                for _ in range(linger):
                    await cycles(dut)
                    assert int(dut.give_up.value), "there is still no buffer"
                dut.waiting.value = 0
                return waited
        dut.waiting.value, dut.found.value = 0, 1
        await cycles(dut)
        assert not int(dut.give_up.value)
        dut.found.value = 0
        return None


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def waits_once_for_each_dry_spell(dut: Any) -> None:
    """The first to find no buffer waits, later ones do not, until a buffer is found."""
    given, queues = params().wait_cycles, params().queues
    patience = Patience(dut)
    await patience.clear()
    dry: set[int] = set()
    busy = random.sample(range(queues), min(queues, 4))
    for _ in range(400):
        queue = random.choice(busy)
        enabled = random.random() < 0.85
        after = random.choice([0, 1, given - 1, given, given + 1, 10_000])
        want = 0 if queue in dry or not enabled else given
        told = await patience.visit(
            queue, enabled=enabled, buffer_after=after, linger=random.choice([0, 0, 1, 5])
        )
        if after <= want:
            assert told is None
            dry.discard(queue)
        else:
            assert told == want
            if enabled:
                dry.add(queue)
        for _ in range(random.choice([0, 0, 1, 3])):
            dut.queue.value = random.randrange(queues)
            await cycles(dut)
            assert not int(dut.give_up.value), "nobody waits"


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def reset_forgets_dry_virtqueues(dut: Any) -> None:
    """After a reset every virtqueue is waited for again."""
    given, queues = params().wait_cycles, params().queues
    patience = Patience(dut)
    await patience.clear()
    for want in (given, 0):
        for queue in range(queues):
            assert await patience.visit(queue) == want
    await patience.clear()
    for queue in range(queues):
        assert await patience.visit(queue) == given


# The walker.


class Stamped(Rig):
    """A rig that knows when requests were taken and records given."""

    def __init__(self, dut: Any, **options: Any):
        super().__init__(dut, stall=0.0, **options)
        self.asked, self.given = Moves(dut, "request"), Moves(dut, "buffer")

    def ask(self, *queues: int) -> None:
        self.request.queue({"queue": queue, "buffers": 1} for queue in queues)

    async def cycles_to_absent(self, queue: int) -> int:
        """Ask a virtqueue that has no buffer; the cycles from the request to the record."""
        self.ask(queue)
        assert await self.answer() == (queue, True)
        await cycles(self.dut)
        return self.given.cycles[-1] - self.asked.cycles[-1]

    async def supply(self, queue: int, count: int = 1) -> None:
        """Make buffers of one descriptor available."""
        for k in range(count):
            self.plan(queue, self.direct([(random.getrandbits(64), 60 + k, 1)]))
        await self.fill()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_dry_virtqueue_is_waited_for_once(dut: Any) -> None:
    """The first request waits, to the cycle; later ones do not; a buffer starts a new spell."""
    rig, wait = Stamped(dut, disabled=(2,)), params().wait_cycles
    await rig.start()
    at_once = await rig.cycles_to_absent(2)
    assert at_once < 10, "a virtqueue that is not enabled is not waited for"
    assert await rig.cycles_to_absent(2) == at_once
    for queue in (0, 1):
        assert await rig.cycles_to_absent(queue) == at_once + wait
    for queue in (0, 0, 1, 2, 0):
        assert await rig.cycles_to_absent(queue) == at_once
    await rig.supply(0)
    rig.ask(0)
    assert await rig.compare() == 0
    assert await rig.cycles_to_absent(1) == at_once
    assert await rig.cycles_to_absent(0) == at_once + wait
    assert await rig.cycles_to_absent(0) == at_once
    await nothing_more(dut, rig.segment, rig.buffer)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_buffer_ends_the_waiting(dut: Any) -> None:
    """Whenever it comes, also around the cycle in which the time is over: then, or it stays."""
    rig, wait = Stamped(dut), params().wait_cycles
    await rig.start()
    too_late = []
    for moment in (0, wait // 2, *range(wait - 12, wait + 4)):
        await rig.supply(0)
        rig.ask(0)
        assert await rig.compare() == 0  # no dry spell now
        rig.ask(0)
        await cycles(dut, moment)
        await rig.supply(0)
        queue, missing = await rig.answer()
        assert queue == 0
        too_late.append(missing)
        if missing:
            rig.ask(0)
            assert await rig.compare() == 0
    assert too_late == sorted(too_late)
    assert set(too_late) == {False, True}


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def others_are_served(dut: Any) -> None:
    """Requests in random order, one virtqueue of three dry: it costs the others one wait."""
    rig, wait = Stamped(dut), params().wait_cycles
    await rig.start()
    for queue in (0, 2):
        await rig.supply(queue, rig.depth)
    order = [0, 2] * rig.depth + [1] * (2 * rig.depth)
    random.shuffle(order)
    rig.ask(*order)
    for queue in order:
        if queue == 1:
            assert await rig.answer() == (1, True)
        else:
            assert await rig.compare() == queue
    await nothing_more(dut, rig.segment, rig.buffer)
    assert spread(rig.given.cycles) <= wait + 6 * len(order)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def answers_come_in_the_order_of_requests(dut: Any) -> None:
    """Chains and tables on two virtqueues of three, everybody stalling, eight requests ahead."""
    rig = Rig(dut, stall=0.2)
    for queue in (0, 2):
        for _ in range(20):
            rig.plan(queue, rig.random_case())
    await rig.start()
    pending: deque[int] = deque()
    while any(rig.cases):
        while len(pending) < 8:
            pending.append(random.randrange(QUEUES))
            rig.request.queue([{"queue": pending[-1], "buffers": 1}])
        queue, missing = await rig.answer()
        assert queue == pending.popleft()
        assert missing or queue != 1
    for queue in pending:
        assert await rig.answer() == (queue, True)
    await nothing_more(dut, rig.segment, rig.buffer)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def the_rest_of_a_chain_is_waited_for(dut: Any) -> None:
    """However long it takes: a chain that has begun is not given up, even if a dry spell was on."""
    rig, wait = Stamped(dut), params().wait_cycles
    await rig.start()
    await rig.cycles_to_absent(0)
    case = rig.direct([(k << 8, 9 + k, 1) for k in range(3)])
    rig.cases[0].append(case)
    for descriptor in case.ring:
        await cycles(dut, 3 * wait)
        assert len(rig.buffer) == 0
        await rig.put(0, descriptor)
        await rig.commit(0)
        if descriptor is case.ring[0]:
            rig.ask(0, 0)
    assert await rig.compare() == 0
    assert await rig.answer() == (0, True)
    await cycles(dut)
    assert spread(rig.given.cycles[-2:]) > wait


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def joined_requests_wait_together(dut: Any) -> None:
    """Forty at once for a virtqueue without a buffer: one wait, then one answer a cycle."""
    rig, wait = Stamped(dut), params().wait_cycles
    await rig.start()
    rig.ask(*[0] * 40)
    await until(dut, lambda: len(rig.given.cycles) == 40, wait + 100)
    for _ in range(40):
        assert await rig.answer() == (0, True)
    assert spread(rig.given.cycles[:30]) == 30
    # One of three finds a buffer in time; for the others a new wait begins.
    rig.ask(1, 1, 1)
    await cycles(dut, wait // 2)
    await rig.supply(1)
    assert await rig.compare() == 1
    for _ in range(2):
        assert await rig.answer() == (1, True)
    await cycles(dut)
    assert spread(rig.given.cycles[-3:]) > wait
    assert spread(rig.given.cycles[-2:]) == 2
    await nothing_more(dut, rig.segment, rig.buffer)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def buffers_that_come_while_nobody_listens(dut: Any) -> None:
    """Answers are held up while buffers arrive: each request gets one answer, each buffer once."""
    rig, wait = Stamped(dut), params().wait_cycles
    await rig.start()
    rig.buffer.stall = 1.0
    rig.ask(*[0] * 60)
    await cycles(dut, wait + 100)
    await rig.supply(0, 5)
    rig.buffer.stall = 0.2
    missing = [(await rig.answer())[1] for _ in range(60)]
    assert missing.count(False) == 5
    assert missing[0]
    assert missing[-1]
    await nothing_more(dut, rig.segment, rig.buffer)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def three_cycles_a_buffer_between_virtqueues(dut: Any) -> None:
    """Every request for another virtqueue than the last: three cycles, two more a rearm."""
    rig = Stamped(dut)
    await rig.start()
    for queue in range(QUEUES):
        await rig.supply(queue, rig.depth)
    order = list(range(QUEUES)) * rig.depth
    rig.ask(*order)
    for queue in order:
        assert await rig.compare() == queue
    rearms = QUEUES * (rig.depth // rig.batch)
    assert spread(rig.given.cycles) <= 3 * len(order) + 2 * rearms
    await cycles(dut, 5)
    assert rig.rearmed == [rig.depth // rig.batch] * QUEUES


PATIENCE_TESTS = ["waits_once_for_each_dry_spell", "reset_forgets_dry_virtqueues"]

WALK_TESTS = [
    "a_dry_virtqueue_is_waited_for_once", "a_buffer_ends_the_waiting", "others_are_served",
    "answers_come_in_the_order_of_requests", "the_rest_of_a_chain_is_waited_for",
    "joined_requests_wait_together", "buffers_that_come_while_nobody_listens",
    "three_cycles_a_buffer_between_virtqueues",
]  # fmt: skip


@pytest.mark.parametrize(("queues", "wait_cycles"), [(2, 1), (5, 20), (128, 7)])
def test_walk_wait(queues: int, wait_cycles: int) -> None:
    simulate(
        WalkWait(queues, wait_cycles), module=__name__, name=f"walk_wait_{queues}",
        testcase=PATIENCE_TESTS, params={"queues": queues, "wait_cycles": wait_cycles},
    )  # fmt: skip


@pytest.mark.parametrize(("width", "batch", "depth"), [(64, 4, 8), (256, 16, 64)])
def test_walk_of_several_virtqueues(width: int, batch: int, depth: int) -> None:
    wait_cycles = 150
    simulate(
        Bench(width, batch, depth, pull=True, wait_cycles=wait_cycles),
        module=__name__,
        name=f"walk_several_{width}",
        testcase=WALK_TESTS,
        params={
            "width": width, "batch": batch, "depth": depth, "pull": True,
            "wait_cycles": wait_cycles,
        },
        waive=["result__valid"],
    )  # fmt: skip
