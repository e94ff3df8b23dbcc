"""Scheduler and Service: which virtqueue is next; nothing is lost, nobody starves."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge
from virtqueue_helper import Moves, until

from lib.port import reader
from lib.sim import params, simulate
from lib.streams import StreamSink, StreamSource, cycles, reset, start_clock
from virtio_rtl.types.virtqueue import WorkItem
from virtio_rtl.virtqueue.scheduler import Scheduler
from virtio_rtl.virtqueue.service import BurstRequest, BurstResult, Service

DOORBELLS, REARMS = 3, 4


_MAKING = 3
"""Cycles in which an item is being made."""


class Rig:
    """Scheduler with its sources; `log` has everything that moved, by cycle."""

    def __init__(self, dut: Any, *, stall: float):
        self.dut = dut
        start_clock(dut)
        dut.enable.value = 0
        dut.hold.value = 0
        self.doorbells = [StreamSource(dut, f"doorbell_{i}", stall=stall) for i in range(DOORBELLS)]
        self.rearms = [StreamSource(dut, f"rearm_{i}", stall=stall) for i in range(REARMS)]
        self.work = StreamSink(dut, "work", WorkItem, stall=stall)
        self.log: list[tuple[str, int, int, int]] = []  # kind, virtqueue, doorbell, cycle
        cocotb.start_soon(self._watch())

    async def _watch(self) -> None:
        def ports(name: str) -> Any:
            return [
                reader(getattr(self.dut, f"{name}__{p}")) for p in ("valid", "ready", "payload")
            ]

        inputs = [(ports(f"doorbell_{i}"), 1) for i in range(DOORBELLS)]
        inputs += [(ports(f"rearm_{i}"), 0) for i in range(REARMS)]
        work = ports("work")
        offered = False
        edge = RisingEdge(self.dut.clk)
        cycle = 0
        while True:
            await edge
            cycle += 1
            if work[0]() and not offered:
                bits = work[2]()
                self.log.append(("work", bits & 0xFFFF, bits >> 16, cycle))
            offered = bool(work[0]()) and not work[1]()
            for (valid, ready, payload), doorbell in inputs:
                if valid() and ready():
                    self.log.append(("in", payload(), doorbell, cycle))

    async def start(self, enable: int = 1) -> None:
        """Reset, wait until the lists are clear, look at the first round after DRIVER_OK."""
        await reset(self.dut)
        await cycles(self.dut, params().queues + 4)
        self.dut.enable.value = enable

    async def quiet(self) -> None:
        """Wait until nothing moves."""
        for source in (*self.doorbells, *self.rearms):
            await source.idle()
        await until(self.dut, lambda: not int(self.dut.work__valid.value), 20_000)
        while True:
            before = self.work.count
            await cycles(self.dut, 60)
            if self.work.count == before:
                return


def check(log: list[tuple[str, int, int, int]]) -> Counter[str]:
    """Every reason gets its item, every item has a reason of its own.

    A reason that comes while the virtqueue's item is being made may be part of it, or not.
    """
    found: Counter[str] = Counter()
    reasons: dict[int, list[tuple[int, int]]] = {}
    looks: dict[int, list[tuple[int, int]]] = {}
    for kind, queue, doorbell, cycle in log:
        (looks if kind == "work" else reasons).setdefault(queue, []).append((cycle, doorbell))
        found[kind] += 1
    for queue, came in reasons.items():
        for cycle, doorbell in came:
            after = [rung for look, rung in looks.get(queue, []) if look > cycle][:2]
            assert after, f"virtqueue {queue} was not looked at"
            assert any(after) or not doorbell, f"virtqueue {queue}: the doorbell was lost"
    for queue, items in looks.items():
        since = -_MAKING
        for number, (cycle, rung) in enumerate(items):
            between = [(c, d) for c, d in reasons.get(queue, []) if since - _MAKING < c < cycle]
            assert between, f"virtqueue {queue} was looked at without a reason"
            assert not rung or any(d for _, d in between) or number == 0
            since = cycle
    return found


async def first_round(rig: Rig) -> None:
    """After DRIVER_OK every virtqueue is looked at once, in order."""
    queues = params().queues
    assert await rig.work.take(queues) == [{"queue": q, "doorbell": 1} for q in range(queues)]
    await cycles(rig.dut, 20)
    assert len(rig.work) == 0
    rig.log.clear()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def every_reason_gets_its_look(dut: Any) -> None:
    """Random doorbells and rearms: each is followed by a look, none has a look without reason."""
    rig = Rig(dut, stall=random.choice([0.1, 0.5]))
    await rig.start()
    await first_round(rig)
    for source in (*rig.doorbells, *rig.rearms):
        hot = random.randrange(params().queues)
        source.queue(random.choice([hot, random.randrange(params().queues)]) for _ in range(80))
    for _ in range(20):
        rig.work.stall = random.choice([0.0, 0.5, 0.95])
        await cycles(dut, 40)
    rig.work.stall = 0.1
    await rig.quiet()
    found = check(rig.log)
    assert found["in"] == 80 * (DOORBELLS + REARMS)
    assert found["work"] < found["in"] - 20, "nothing coalesced"


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def doorbells_coalesce(dut: Any) -> None:
    """A hundred doorbells of a virtqueue that waits are one look; one that is out, one more."""
    rig = Rig(dut, stall=0.0)
    await rig.start()
    await first_round(rig)
    rig.work.stall = 1.0
    await cycles(dut, 2)
    queue = params().queues - 1
    rig.doorbells[0].queue([queue] * 100)
    rig.rearms[0].queue([queue] * 50)
    await cycles(dut, 400)
    assert rig.doorbells[0].count == 100
    rig.work.stall = 0.0
    await rig.quiet()
    # One that was out already, or even taken, when the others came; one for all the others.
    items = await rig.work.take(len(rig.work))
    assert 2 <= len(items) <= 3
    assert all(item.queue == queue for item in items)
    assert items[-1].doorbell == 1


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def nothing_before_driver_ok(dut: Any) -> None:
    """Early doorbells are kept; DRIVER_OK looks at every virtqueue, also after a stop."""
    queues = params().queues
    rig = Rig(dut, stall=0.0)
    await rig.start(enable=0)
    rig.doorbells[1].queue([queues - 1] * 3)
    rig.rearms[2].queue([0])
    await cycles(dut, 50)
    assert rig.doorbells[1].count == 3
    assert len(rig.work) == 0
    for _ in range(2):
        dut.enable.value = 1
        await cycles(dut, 3 * queues + 60)
        got = Counter(item.queue for item in await rig.work.take(len(rig.work)))
        assert set(got) == set(range(queues))
        assert max(got.values()) <= 2
        dut.enable.value = 0
        await cycles(dut, 10)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def nothing_new_while_held(dut: Any) -> None:
    """While it is held no look begins; afterwards every reason gets its look."""
    queues = params().queues
    rig = Rig(dut, stall=0.0)
    await rig.start()
    await first_round(rig)
    for direct in (1, 0):
        dut.hold.value = 1
        await cycles(dut, 3)
        before = rig.work.count
        rung = random.sample(range(queues), 1 if direct else max(1, queues // 2))
        rig.doorbells[0].queue(rung)
        rig.rearms[0].queue([rung[0]] * 3)
        await cycles(dut, 5 * queues + 20)
        assert rig.work.count == before
        dut.hold.value = 0
        await rig.quiet()
        items = await rig.work.take(len(rig.work))
        assert {item.queue for item in items} == set(rung)
        for queue in rung:
            assert any(item.doorbell for item in items if item.queue == queue)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def virtqueues_take_turns(dut: Any) -> None:
    """With all of them rung all the time, looks go round; a flood of one starves nobody."""
    queues = params().queues
    rig = Rig(dut, stall=0.0)
    await rig.start()
    await first_round(rig)
    moves = Moves(dut, "work")
    rig.doorbells[0].queue(list(range(queues)) * 4)
    rig.doorbells[1].queue([0] * (8 * queues))
    rig.rearms[1].queue([0] * (8 * queues))
    await rig.quiet()
    items = await rig.work.take(len(rig.work))
    order = [item.queue for item in items]
    assert set(order) == set(range(queues))
    for queue in range(1, queues):
        places = [place for place, other in enumerate(order) if other == queue]
        assert len(places) >= 1
    for one, two in itertools.pairwise(order):  # never twice in a row while others are waiting
        assert queues <= 4 or one != two or one == 0
    # While there is work, an item goes out at least in every third cycle.
    busy = moves.cycles[: queues + 1]
    assert busy[-1] - busy[0] <= 3 * queues


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def an_idle_list_costs_one_cycle(dut: Any) -> None:
    """A doorbell that finds nothing else to do is offered in the next cycle."""
    rig = Rig(dut, stall=0.0)
    came, left = Moves(dut, "doorbell_0"), Moves(dut, "work")
    await rig.start()
    await first_round(rig)
    for _ in range(5):
        rig.doorbells[0].queue([random.randrange(params().queues)])
        await cycles(dut, 20)
        assert left.cycles[-1] - came.cycles[-1] == 1


@pytest.mark.parametrize("queues", [1, 2, 6, 64])
def test_scheduler(queues: int) -> None:
    simulate(
        Scheduler(queues, DOORBELLS, REARMS),
        module=__name__,
        name=f"scheduler_{queues}",
        testcase=[
            "every_reason_gets_its_look", "doorbells_coalesce", "nothing_before_driver_ok",
            "nothing_new_while_held",
            "virtqueues_take_turns", "an_idle_list_costs_one_cycle",
        ],
        params={"queues": queues},
    )  # fmt: skip


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def bursts_serve_all_that_is_committed(dut: Any) -> None:
    """Buffers come at random; bursts of up to `burst` of them leave none behind, and are fair."""
    queues, burst = params().queues, params().burst
    start_clock(dut)
    stall = random.choice([0.0, 0.3])
    committed = StreamSource(dut, "committed", stall=stall)
    requests = StreamSink(dut, "request", BurstRequest, stall=stall)
    results = StreamSource(dut, "result", BurstResult, stall=stall)
    available = [0] * queues
    served: list[int] = []

    async def walk() -> None:
        while True:
            request = await requests.receive()
            assert request.buffers == burst
            await cycles(dut, random.choice([1, 1, 5, 40]))
            taken = min(available[request.queue], burst)
            available[request.queue] -= taken
            # Sampled before the result is seen: what is committed from now on is announced.
            exhausted = int(taken < burst)
            served.append(request.queue)
            await results.send({"queue": request.queue, "exhausted": exhausted})

    await reset(dut)
    cocotb.start_soon(walk())
    for _ in range(120):
        queue = random.randrange(queues)
        available[queue] += random.choice([1, 1, 3, 3 * burst])
        committed.queue([queue])
        if random.random() < 0.5:
            await cycles(dut, random.choice([1, 10, 50]))
    await committed.idle()
    await until(dut, lambda: not any(available), 20_000)
    calm = -1
    while calm != len(served):  # comes to rest
        calm = len(served)
        await cycles(dut, 200)
    # Everything at once: each virtqueue once in the first round.
    served.clear()
    for queue in range(queues):
        available[queue] = 2 * burst
    committed.queue(range(queues))
    await until(dut, lambda: not any(available), 20_000)
    assert set(served[: 2 * queues]) == set(range(queues))


@pytest.mark.parametrize(("queues", "burst"), [(2, 16), (5, 1), (64, 4)])
def test_service(queues: int, burst: int) -> None:
    simulate(
        Service(queues, burst),
        module=__name__,
        name=f"service_{queues}",
        testcase="bursts_serve_all_that_is_committed",
        params={"queues": queues, "burst": burst},
    )
