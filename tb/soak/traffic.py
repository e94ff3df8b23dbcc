"""One case on the simulated device: traffic, comparison."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from cocotb.triggers import Timer, with_timeout
from cocotb.utils import get_sim_time

from lib.golden import Check
from soak.case import Case
from soak.system import SoakSystem
from virtio_model.driver.queue import DriverQueue
from virtio_model.spec.features import Feature, has
from virtio_model.spec.status import DeviceStatus

__all__ = ["CaseFailed", "Traffic", "run_case"]


class CaseFailed(AssertionError):
    """The device did not do what the golden one does."""


class Traffic(ABC):
    """Drives a case and compares it; a device type's is a subclass."""

    HANG_NS = 200_000
    """Without any news; the host answers within 3 us."""

    def __init__(self, system: SoakSystem, case: Case) -> None:
        self.system, self.case = system, case
        self.draw = random.Random(case.seed ^ 0x5EED)

    # For a device type

    @abstractmethod
    async def give(self) -> int:
        """Make some buffers available and kick; how many."""

    @abstractmethod
    def poll(self) -> int:
        """Take what came back; how many buffers."""

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether all came back."""

    @abstractmethod
    def held(self) -> Sequence[tuple[DriverQueue, int]]:
        """Each virtqueue, and how many of its buffers will come back for sure."""

    @abstractmethod
    def compare(self, twin: Any) -> list[Check]:
        """Replay the case on the golden device, and compare."""

    @abstractmethod
    def figures(self) -> dict[str, Any]:
        """For the record: `bytes`, and more."""

    @abstractmethod
    def standing(self) -> str:
        """How far it came."""

    @abstractmethod
    def close(self) -> None:
        """Stop listening."""

    # For all

    async def run(self) -> None:
        """Until everything came back."""
        interrupts = self.system.host.interrupts
        while not self.done:
            given = await self.give()
            before = len(interrupts.received)
            if given and self._sleeps_at_once():
                await self._wait_for_interrupt(before)
                continue
            news = self.poll()
            if news or given:
                await Timer(self.draw.choice((20, 100, 100, 1000)), "ns")
            elif self.case.interrupts == "off":
                await self.until(self.poll, "used buffer")
            else:
                await self._wait_for_interrupt(before)

    def _sleeps_at_once(self) -> bool:
        """Whether to sleep with work in the device, as a driver between two bursts does."""
        if self.case.interrupts != "idle" or not any(count for _, count in self.held()):
            return False
        return self.draw.random() < 0.5

    async def _wait_for_interrupt(self, before: int) -> None:
        """Nothing to do: an interrupt has to come for the next used buffer."""
        received = self.system.host.interrupts.received
        if self.case.interrupts == "idle":
            waiting = [self._arm(queue, count) for queue, count in self.held()]
            if not any(waiting):
                await self.until(lambda: len(received) > before, "interrupt")
            for queue in self.system.queues:
                queue.disable_interrupts()
        else:
            await self.until(lambda: len(received) > before, "interrupt")

    def _arm(self, queue: DriverQueue, sure: int) -> bool:
        """Ask for an interrupt, perhaps a few buffers later; whether some wait already."""
        later = self.draw.choice((0, 0, 3, 40, 1000))
        if not has(self.system.accepted, Feature.EVENT_IDX):
            later = 0
        return queue.enable_interrupts(max(0, min(later, sure - 1)))

    async def until(self, done: Any, what: str) -> None:
        """Wait until `done()`."""
        start = get_sim_time("ns")
        while not done():
            await Timer(200, "ns")
            if get_sim_time("ns") > start + self.HANG_NS:
                raise CaseFailed(f"no {what} within {self.HANG_NS} ns; {self.standing()}")

    async def judge(self, twin: Any) -> None:
        """Compare with the golden device; the rules of the bus and of interrupts."""
        system = self.system
        status = await system.pci.status()
        if status & DeviceStatus.DEVICE_NEEDS_RESET:
            raise CaseFailed(f"the device needs a reset: status {status:#x}")
        if self.case.interrupts == "off" and system.interrupts:
            raise CaseFailed(f"{len(system.interrupts)} interrupts that nobody wanted")
        system.rings.audit().check()
        for queue in system.queues:
            queue.audit()
        if failed := [check for check in self.compare(twin) if not check.passed]:
            raise CaseFailed("; ".join(f"{check.name}: {check.detail}" for check in failed))
        system.host.check()


async def run_case(make: type[Traffic], system: SoakSystem, case: Case) -> dict[str, Any]:
    """Do it all; figures. Raises `CaseFailed`."""
    start = get_sim_time("ns")
    try:
        twin = await with_timeout(system.prepare(case), 2000, "us")
    except Exception as error:
        raise CaseFailed(f"bring-up: {type(error).__name__}: {error}") from error
    traffic = make(system, case)
    try:
        await traffic.run()
        await traffic.judge(twin)
    except CaseFailed:
        raise
    except Exception as error:
        raise CaseFailed(f"{type(error).__name__}: {error}") from error
    finally:
        traffic.close()
    return {
        "buffers": case.buffers,
        "us": (get_sim_time("ns") - start) / 1000,
        "interrupts": len(system.interrupts),
        **traffic.figures(),
    }
