"""Carries hostile runs out, one after the other, with a device reset between them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import cocotb

from lib.device_system import DeviceSystem
from lib.hostile.actions import (
    Action,
    BusFault,
    Config,
    Flip,
    FunctionReset,
    Incoming,
    Kick,
    Register,
    Wait,
    Write,
)
from lib.hostile.arena import ARENA, ARENA_BYTES
from lib.hostile.neighbour import Neighbour
from lib.hostile.opening import Opening
from lib.hostile.oracle import WriteOracle
from lib.hostile.plan import Plan
from lib.hostile.setup import Ring, Setup
from lib.pcie.host import BusError
from lib.pcie.latency import ReadLatency
from lib.streams import cycles
from virtio_model.errors import ModelError
from virtio_model.spec.status import DeviceStatus
from virtio_rtl.regs.maps import NOTIFY

__all__ = ["HostileRun", "Outcome"]

_LIVE = (
    DeviceStatus.ACKNOWLEDGE
    | DeviceStatus.DRIVER
    | DeviceStatus.FEATURES_OK
    | DeviceStatus.DRIVER_OK
)
OPENING_LIMIT = 4000
ANSWER_LIMIT = 4000
"""Cycles. The device answers at once, but a request may find the link full of completions."""
NEIGHBOUR_TIMEOUTS = 20
"""Completion time-outs, as a limit. A read that is never answered costs one, and what is behind
it waits: a few may come together."""
_BUSY = 20
"""Accesses in `_BUSY_CYCLES` that only a long hostile buffer can be the reason of."""
_BUSY_CYCLES = 2000


@dataclass(frozen=True)
class Outcome:
    """What a run has shown.

    Parameters
    ----------
    seed
        Of the plan.
    cycles
        From reset to reset.
    reset, neighbour
        Cycles until the reset was done, and until the neighbour's buffers were through.
    halted
        The device asked for a reset.
    busy
        The neighbour was not waited for, behind a long hostile buffer.
    faults
        What is wrong; empty if all is well.
    """

    seed: int
    cycles: int
    reset: int
    neighbour: int
    halted: bool
    busy: bool
    faults: tuple[str, ...]


class HostileRun:
    """Carries out plans on a system that was brought up once; a device type's is a subclass.

    Parameters
    ----------
    system
        Of `make_hostile_system`, after `bring_up`.

    Each run: reset, set-up with the plan's ring format and features, a clean buffer in every
    virtqueue, then the plan's actions beside the neighbour's traffic, then a reset. What must
    hold: the device answers, the neighbour's buffers all come back, nothing is written that was
    not given (`WriteOracle`), no PCIe rule is broken, and the reset ends, all within limits in
    cycles.
    """

    SHARED = False
    """All virtqueues share a pipeline: a long buffer in one delays the others."""

    def __init__(self, system: DeviceSystem) -> None:
        self.system = system
        self.setup = Setup(system)
        system.memory.grant(ARENA, ARENA_BYTES, writable=True)
        self._oracle = WriteOracle(system.memory, system.host.target)
        self.reset_limit = system.config.timeout_cycles + 2000
        self._neighbour_limit = NEIGHBOUR_TIMEOUTS * system.config.timeout_cycles
        self._express = 0
        self._msix = 0

    # For a device type

    def features_of(self, plan: Plan) -> int:
        """What is negotiated."""
        raise NotImplementedError

    def make_neighbour(self, plan: Plan, features: int) -> Neighbour:
        """The neighbour of a run."""
        raise NotImplementedError

    def make_opening(self, plan: Plan) -> Opening:
        """What the opening of a run must lead to."""
        raise NotImplementedError

    def clean_up(self) -> None:
        """Forget the run before, outside of the host."""

    def come_in(self, action: Incoming) -> None:
        """Something comes in for the hostile virtqueues."""

    async def serves_on(self, plan: Plan, neighbour: Neighbour) -> list[str]:
        """What is wrong with a device that asks for no reset, when all is over."""
        return []

    async def settle(self, found: list[str]) -> None:
        """Wait for what the device has left to do outside of the host, after a reset."""

    async def finish(self) -> list[str]:
        """What is wrong after the last run."""
        return []

    # For all

    async def prepare(self) -> None:
        """Find the registers in configuration space; once, after `bring_up`."""
        self._express = await self.system.capability(0x10)
        self._msix = await self.system.capability(0x11)
        await self.setup.reset(self.reset_limit)

    async def run(self, plan: Plan) -> Outcome:
        """One run; the device is left in reset, ready for the next one."""
        began = self.setup.now
        self._clean_up(plan)
        features = self.features_of(plan)
        neighbour = self.make_neighbour(plan, features)
        own = [Ring(place.size, place.desc, place.driver, place.device) for place in plan.places]
        self.setup.vectors()
        self.setup.start(features, [*own, *neighbour.rings])
        found: list[str] = []
        halted, busy, took = False, False, 0
        try:
            found += await self._open(plan, neighbour)
            task = cocotb.start_soon(neighbour.run())
            for action in plan.actions:
                await self.do(action)
            if not plan.intruder:
                took, busy = await self._wait_for(task)
                if not busy:
                    found += neighbour.compare() if took >= 0 else [neighbour.state]
            elif not task.done():
                task.cancel()
            halted = await self._answers(found)
            if not (plan.intruder or halted or busy or found):
                found += await self.serves_on(plan, neighbour)
        except (ModelError, BusError, AssertionError) as error:
            if not plan.intruder or isinstance(error, BusError):
                found.append(f"{type(error).__name__}: {error}")
        if plan.intruder:
            await self._repair()
        reset = await self._reset(found)
        areas = [a for ring in neighbour.rings for a in (ring.desc, ring.driver, ring.device)]
        found += self._oracle.judge(plan, areas)
        found += self.system.host.violations[:3]
        neighbour.close()
        return Outcome(plan.seed, self.setup.now - began, reset, took, halted, busy, tuple(found))

    def _clean_up(self, plan: Plan) -> None:
        """As before the first run, as far as a driver and a host can see it."""
        system, target = self.system, self.system.host.target
        random.seed(plan.seed)
        system.memory.write(ARENA, bytes(ARENA_BYTES))
        self.clean_up()
        system.host.interrupts.received.clear()
        system.host.violations.clear()
        target.sample = plan.sample
        target.split_on_all_boundaries = plan.pieces
        target.latency = ReadLatency(100, (40, 300), seed=plan.seed)
        self._oracle.begin()

    async def _open(self, plan: Plan, neighbour: Neighbour) -> list[str]:
        """A clean buffer in every virtqueue."""
        if (status := await self.setup.read_status()) != _LIVE:
            return [f"device status {status:#x} after the set-up"]
        opening = self.make_opening(plan)
        neighbour.begin()
        for action in plan.opening:
            await self.do(action)
        neighbour.come_in()
        end = self.setup.now + OPENING_LIMIT
        while not (neighbour.poll(1) and opening.done()):
            if self.setup.now > end:
                return [f"the opening did not end: {neighbour.state}; {opening.state}"]
            await cycles(self.system.dut, 20)
        return opening.compare()

    async def _wait_for(self, task: Any) -> tuple[int, bool]:
        """Cycles until the neighbour is done, or -1; whether the device is too busy for that."""
        began = self.setup.now
        while not task.done() and self.setup.now < began + self._neighbour_limit:
            await cycles(self.system.dut, 20)
        if task.done():
            task.result()
            return self.setup.now - began, False
        task.cancel()
        before = self._oracle.accesses
        await cycles(self.system.dut, _BUSY_CYCLES)
        return -1, self.SHARED and self._oracle.accesses >= before + _BUSY

    async def _answers(self, found: list[str]) -> bool:
        """Read the device status; whether the device asks for a reset."""
        began = self.setup.now
        status = await self.setup.read_status()
        if self.setup.now - began > ANSWER_LIMIT:
            found.append(f"no answer for {self.setup.now - began} cycles")
        return bool(status & DeviceStatus.DEVICE_NEEDS_RESET)

    async def _reset(self, found: list[str]) -> int:
        system = self.system
        try:
            took = await self.setup.reset(self.reset_limit)
        except (AssertionError, BusError) as error:
            found.append(str(error))
            took = self.reset_limit
        system.host.target.faults.clear()
        await self.settle(found)
        return took

    async def _repair(self) -> None:
        """Undo what was done to configuration space."""
        access = self.system.access
        await access.config_write(4, 6, 2)
        await access.config_write(self._msix + 2, 0x8000, 2)

    async def do(self, action: Action) -> None:
        """Carry out one action; only waiting and configuration space take time."""
        system, memory = self.system, self.system.memory
        match action:
            case Wait(count):
                await cycles(system.dut, count)
            case Write(address, data, _):
                memory.write(address, data)
            case Flip(address, data):
                old = memory.read(address, len(data))
                memory.write(address, bytes(a ^ b for a, b in zip(old, data, strict=True)))
            case Kick(queue, value, size):
                data = value.to_bytes(4, "little")
                self.setup.write(NOTIFY.start + 4 * queue, data, (1 << size) - 1)
            case Register(offset, data, first, last):
                self.setup.write(offset, data, first, last)
            case Incoming():
                self.come_in(action)
            case BusFault(start, end, kind, count):
                system.host.fault(start, end, kind, count)
            case Config(register, value):
                offset = 4 if register == "command" else self._msix + 2
                await system.access.config_write(offset, value, 2)
            case FunctionReset(count):
                control = await system.access.config_read(self._express + 8, 2)
                await system.access.config_write(self._express + 8, control | 0x8000, 2)
                await cycles(system.dut, count)
                await system.restore()
