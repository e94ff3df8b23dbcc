"""Bringing the virtqueues to rest, against a virtqueue engine that takes its time."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge

from lib.port import reader
from lib.sim import params, simulate
from lib.streams import cycles, reset, start_clock
from virtio_rtl.transport.quiesce import Quiesce

LASTING = 16
OUTPUTS = ("resetting", "pause", "hold", "forget", "forget_queue", "suspend_done")


class Engine:
    """The virtqueue engine, the interrupts and the status register; checks every cycle."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.read = {name: reader(getattr(dut, name)) for name in OUTPUTS}
        self.forgotten: list[int] = []
        self.asked: list[int] = []
        self.suspensions = 0
        self.wants_suspend = False
        self.suspended = False
        self.quiet = 0
        self.since_forget = 100
        self.gaps: list[int] = []  # cycles between one forgotten virtqueue and the next
        self.levels = {"rested": 0, "fetch_idle": 0, "told": 1}
        for name in ("reset_request", "reset_queue", "suspend_request", "suspended"):
            getattr(dut, name).value = 0
        for name, value in self.levels.items():
            getattr(dut, name).value = value
        start_clock(dut)

    async def start(self) -> None:
        """Reset; from then on every cycle is checked."""
        await reset(self.dut)
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        edge = RisingEdge(self.dut.clk)
        while True:
            await edge
            self.check({name: read() for name, read in self.read.items()})

    def check(self, now: dict[str, int]) -> None:
        """What the outputs say in one cycle, then the levels of the next one."""
        dut, levels = self.dut, self.levels
        assert now["pause"] or not now["hold"], "hold outside of pause"
        assert now["resetting"] or not now["forget"], "forgets what is not being reset"
        assert not now["resetting"] or len(self.forgotten) < len(self.asked), "resets nothing"
        self.quiet = self.quiet + 1 if now["hold"] and all(levels.values()) else 0
        self.since_forget += 1
        if now["forget"]:
            assert self.since_forget >= 4
            assert self.quiet >= LASTING or self.since_forget == 4, "forgets what is not at rest"
            self.gaps.append(self.since_forget)
            self.since_forget = 0
            self.forgotten.append(now["forget_queue"])
        if now["suspend_done"]:
            assert self.wants_suspend
            assert self.quiet >= LASTING
            assert self.since_forget >= 4
            self.wants_suspend, self.suspended = False, True
            self.suspensions += 1
            dut.suspend_request.value, dut.suspended.value = 0, 1
        elif self.suspended:
            assert now["hold"], "work while suspended"
        # Rest comes some time after the level that asks for it; before, it comes and goes.
        for name, level in (("rested", "pause"), ("fetch_idle", "hold")):
            if not now[level]:
                levels[name] = random.getrandbits(1)
            elif not levels[name]:
                levels[name] = int(random.random() < 0.05)
            elif self.quiet == 0:
                levels[name] = int(random.random() < 0.97)
        levels["told"] = int(random.random() < (0.99 if levels["told"] else 0.2))
        if self.quiet:  # at rest for good, but for what a moment may still show
            levels = self.levels = dict.fromkeys(levels, 1) if self.quiet > 3 else levels
        for name, value in levels.items():
            getattr(dut, name).value = value

    async def ask(self, queue: int) -> None:
        """Ask for the reset of a virtqueue, if that is not under way."""
        if self.asked.count(queue) > self.forgotten.count(queue):
            return
        self.asked.append(queue)
        self.dut.reset_request.value, self.dut.reset_queue.value = 1, queue
        await cycles(self.dut, 1)
        self.dut.reset_request.value = 0
        self.dut.reset_queue.value = random.getrandbits(16)

    def suspend(self) -> None:
        """Ask for suspension."""
        if not self.suspended:
            self.wants_suspend = True
            self.dut.suspend_request.value = 1

    def resume(self) -> None:
        """Resume, if suspended."""
        self.suspended = False
        self.dut.suspended.value = 0

    async def settles(self) -> None:
        """Wait until all that was asked for is done."""
        while len(self.forgotten) < len(self.asked) or self.wants_suspend:
            if self.suspended:
                self.resume()
            await cycles(self.dut, 1)


@cocotb.test(timeout_time=3, timeout_unit="ms")
async def everything_asked_for_is_done_at_rest(dut: Any) -> None:
    """Resets in the order asked for, each once; suspensions; and then the engine goes on."""
    engine = Engine(dut)
    await engine.start()
    queues, built = params().queues, params().built
    for _ in range(60):
        for _ in range(random.randint(1, 12)):
            kind = random.choice(built)
            if kind == "ring_reset":
                await engine.ask(random.randrange(queues))
            elif random.random() < 0.4:
                engine.suspend()
            if random.random() < 0.2:
                engine.resume()
            await cycles(dut, random.choice([1, 1, 2, 30]))
        await engine.settles()
        engine.resume()
        await cycles(dut, 12)
        assert engine.read["pause"]() == engine.read["hold"]() == 0
    assert engine.forgotten == engine.asked
    assert bool(engine.asked) == ("ring_reset" in built)
    assert bool(engine.suspensions) == ("suspend" in built)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def all_virtqueues_at_once(dut: Any) -> None:
    """Every virtqueue may wait for its reset; all are forgotten in one rest, four cycles each."""
    engine = Engine(dut)
    await engine.start()
    if "ring_reset" not in params().built:
        return
    order = random.sample(range(params().queues), params().queues)
    for queue in order:
        await engine.ask(queue)
    await engine.settles()
    assert engine.forgotten == order
    assert set(engine.gaps[1:]) <= {4}
    await cycles(dut, 6)
    assert engine.read["pause"]() == 0


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_reset_ends_it_at_any_time(dut: Any) -> None:
    """Whatever was under way: nothing of it after the reset, and new requests are served."""
    engine = Engine(dut)
    await engine.start()
    built = params().built
    for wait in range(80):
        if "ring_reset" in built:
            await engine.ask(random.randrange(params().queues))
        if "suspend" in built and random.getrandbits(1):
            engine.suspend()
        await cycles(dut, wait)
        dut.rst.value = 1
        await cycles(dut, 2)
        engine.wants_suspend = False
        engine.resume()
        dut.suspend_request.value = 0
        await cycles(dut, 2)
        dut.rst.value = 0
        engine.asked.clear()
        engine.forgotten.clear()
        await cycles(dut, random.choice([1, 60]))
        assert engine.read["pause"]() == engine.read["hold"]() == 0
        assert not engine.forgotten


@pytest.mark.parametrize(
    ("queues", "built"),
    [
        (1, ["ring_reset", "suspend"]), (6, ["ring_reset", "suspend"]),
        (100, ["ring_reset", "suspend"]), (2, ["ring_reset"]), (2, ["suspend"]),
    ],
)  # fmt: skip
def test_quiesce(queues: int, built: list[str]) -> None:
    """The room in simulation."""
    left_out = {"ring_reset": ["resetting", "forget", "forget_queue"], "suspend": ["suspend_done"]}
    simulate(
        Quiesce(queues, ring_reset="ring_reset" in built, suspend="suspend" in built),
        module=__name__,
        name=f"quiesce_{queues}_{'_'.join(built)}",
        params={"queues": queues, "built": built},
        waive=[name for kind, names in left_out.items() if kind not in built for name in names],
    )
