"""Carries hostile runs out, one after the other, with a device reset between them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import cocotb

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
from lib.net_features import wanted_features
from lib.net_system import NetSystem
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
PORT_LIMIT = 2000
_PORT_PAUSE = 16
"""Between two frames that are there, the port pauses for less."""
NEIGHBOUR_LIMIT = 20_000
"""Cycles. A read that is never answered costs a time-out, and frames behind one that has no buffer
wait for it: a few of each may come together."""


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
        Cycles until the reset was done, and until the neighbour's frames were through.
    halted
        The device asked for a reset.
    faults
        What is wrong; empty if all is well.
    """

    seed: int
    cycles: int
    reset: int
    neighbour: int
    halted: bool
    faults: tuple[str, ...]


class HostileRun:
    """Carries out plans on a system that was brought up once.

    Parameters
    ----------
    system
        Of `make_hostile_system`, after `bring_up`.

    Each run: reset, set-up with the plan's ring format and features, a clean buffer in every
    virtqueue, then the plan's actions beside the neighbour's traffic, then a reset. What must
    hold: the device answers, the neighbour's frames all arrive, nothing is written that was not
    given (`WriteOracle`), no PCIe rule is broken, and the reset ends, all within limits in cycles.
    """

    def __init__(self, system: NetSystem) -> None:
        self.system = system
        self.setup = Setup(system)
        system.memory.grant(ARENA, ARENA_BYTES, writable=True)
        self._oracle = WriteOracle(system.memory, system.host.target)
        self._reset_limit = system.config.timeout_cycles + 2000
        self._express = 0
        self._msix = 0

    async def prepare(self) -> None:
        """Find the registers in configuration space; once, after `bring_up`."""
        self._express = await self.system.capability(0x10)
        self._msix = await self.system.capability(0x11)
        await self.setup.reset(self._reset_limit)

    async def run(self, plan: Plan) -> Outcome:
        """One run; the device is left in reset, ready for the next one."""
        began = self.setup.now
        self._clean_up(plan)
        features = wanted_features(plan.ring, plan.features)
        neighbour = Neighbour(self.system, self.setup, plan, features)
        own = [Ring(place.size, place.desc, place.driver, place.device) for place in plan.places]
        self.setup.vectors()
        self.setup.start(features, [*own, *neighbour.rings])
        found: list[str] = []
        halted, took = False, 0
        try:
            found += await self._open(plan, neighbour)
            task = cocotb.start_soon(neighbour.run())
            for action in plan.actions:
                await self._do(action)
            if not plan.intruder:
                took = await self._wait_for(task)
                found += neighbour.compare() if task.done() else [neighbour.state]
            elif not task.done():
                task.cancel()
            halted = await self._answers(found)
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
        return Outcome(plan.seed, self.setup.now - began, reset, took, halted, tuple(found))

    def _clean_up(self, plan: Plan) -> None:
        """As before the first run, as far as a driver and a host can see it."""
        system, target = self.system, self.system.host.target
        random.seed(plan.seed)
        system.memory.write(ARENA, bytes(ARENA_BYTES))
        system.sink.frames.clear()
        system.sink.dests.clear()
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
        opening = Opening(self.system, plan)
        neighbour.begin()
        for action in plan.opening:
            await self._do(action)
        neighbour.receive()
        end = self.setup.now + OPENING_LIMIT
        while not (neighbour.poll(1) and opening.done()):
            if self.setup.now > end:
                return [f"the opening did not end: {neighbour.state}; {opening.state}"]
            await cycles(self.system.dut, 20)
        return opening.compare()

    async def _wait_for(self, task: Any) -> int:
        began = self.setup.now
        while not task.done() and self.setup.now < began + NEIGHBOUR_LIMIT:
            await cycles(self.system.dut, 20)
        if not task.done():
            task.cancel()
            return NEIGHBOUR_LIMIT
        task.result()
        return self.setup.now - began

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
            took = await self.setup.reset(self._reset_limit)
        except (AssertionError, BusError) as error:
            found.append(str(error))
            took = self._reset_limit
        system.host.target.faults.clear()
        system.source.clear()
        end = self.setup.now + 4000
        while not system.source.idle and self.setup.now < end:
            await cycles(system.dut, 10)
        if not system.source.idle:
            found.append("the receive port takes no frame after a reset")
        await self._last_frames(found)
        return took

    async def _last_frames(self, found: list[str]) -> None:
        """Wait for the frames that the device had whole before it was reset: it sends them."""
        end, quiet = self.setup.now + PORT_LIMIT, 0
        while quiet < _PORT_PAUSE:
            await cycles(self.system.dut)
            quiet = 0 if int(self.system.dut.net_tx__tvalid.value) else quiet + 1
            if self.setup.now > end:
                found.append("the transmit port goes on sending after a reset")
                return

    async def _repair(self) -> None:
        """Undo what was done to configuration space."""
        access = self.system.access
        await access.config_write(4, 6, 2)
        await access.config_write(self._msix + 2, 0x8000, 2)

    async def _do(self, action: Action) -> None:
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
            case Incoming(length, bad):
                system.source.send(random.randbytes(length), bad=bad)
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
