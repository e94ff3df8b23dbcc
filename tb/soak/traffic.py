"""One case on the simulated device: traffic, comparison."""

from __future__ import annotations

import random
from typing import Any

from cocotb.triggers import Timer, with_timeout
from cocotb.utils import get_sim_time

from lib.golden import Journal, PairDriver, Twin, compare
from lib.streams import cycles
from soak.case import Case
from soak.system import SoakSystem
from virtio_model.driver.queue import DriverQueue
from virtio_model.spec.features import Feature, has
from virtio_model.spec.status import DeviceStatus

__all__ = ["CaseFailed", "Traffic", "run_case"]

_HANG_NS = 200_000
"""Without any news; the host answers within 3 us."""
_SHORTEST_BUFFER = 40


class CaseFailed(AssertionError):
    """The device did not do what the golden one does."""


class Traffic:
    """Moves the frames of a case both ways, journalled."""

    def __init__(self, system: SoakSystem, case: Case) -> None:
        self.system, self.case = system, case
        self.draw = random.Random(case.seed ^ 0x5EED)
        self.journal = Journal()
        self.pairs = [
            PairDriver(number, pair.net, self.journal) for number, pair in enumerate(system.pairs)
        ]
        count = len(self.pairs)
        self.to_send: list[list[bytes]] = [[] for _ in range(count)]
        self.to_come: list[list[bytes]] = [[] for _ in range(count)]
        for frames in (self.to_send, self.to_come):
            for _ in range(case.frames):
                frames[self.draw.randrange(count)].append(self._frame())
        self.sent = [0] * count
        self.offered = [0] * count

    def _frame(self) -> bytes:
        longest = self.draw.choice([min(100, self.case.longest), self.case.longest])
        return self.draw.randbytes(self.draw.randint(14, longest))

    def _framing(self, length: int, queue: DriverQueue) -> tuple[tuple[int, ...], bool] | None:
        """Cuts, and whether in a table; None where there is no room now."""
        case, draw = self.case, self.draw
        wanted = draw.randint(0, min(case.cuts, queue.size - 1, length - 1))
        cuts = tuple(sorted(draw.sample(range(1, length), wanted)))
        indirect = "indirect_desc" in case.features and draw.random() < case.tables
        if queue.free_slots < (1 if indirect else len(cuts) + 1):
            return None
        return cuts, indirect

    def _buffer_length(self) -> int:
        whole = self.case.longest + 12 + self.draw.randint(0, 40)
        if self.draw.random() < self.case.short:
            return self.draw.randint(_SHORTEST_BUFFER, whole)
        return whole

    def _send(self, pair: PairDriver) -> int:
        frames = self.to_send[pair.number]
        given = 0
        for _ in range(self.draw.randint(1, self.case.batch)):
            if self.sent[pair.number] == len(frames):
                break
            frame = frames[self.sent[pair.number]]
            framing = self._framing(len(frame) + 12, pair.net.tx)
            if framing is None:
                break
            pair.send(frame, *framing, self.draw.randrange(64))
            self.sent[pair.number] += 1
            given += 1
        return given

    def _post(self, pair: PairDriver) -> int:
        given = 0
        for _ in range(self.draw.randint(1, self.case.batch)):
            length = self._buffer_length()
            framing = self._framing(length, pair.net.rx)
            if framing is None:
                break
            pair.post(length, *framing, self.draw.randrange(64))
            given += 1
        return given

    def _offer(self, pair: PairDriver) -> int:
        """Let frames come in from the wire, as many as there are buffers."""
        at, frames = pair.number, self.to_come[pair.number]
        room = pair.net.rx.outstanding - (self.offered[at] - pair.consumed)
        given = 0
        while given < room and self.offered[at] < len(frames) and self.system.source.waiting < 32:
            self.system.source.send(frames[self.offered[at]], dest=at)
            self.offered[at] += 1
            given += 1
        return given

    def _poll(self) -> int:
        return sum(pair.reap() + pair.receive() for pair in self.pairs)

    @property
    def _done(self) -> bool:
        return all(
            pair.reaped == len(self.to_send[pair.number])
            and pair.consumed == len(self.to_come[pair.number])
            for pair in self.pairs
        )

    async def run(self) -> None:
        """Until everything came back."""
        system, interrupts = self.system, self.system.host.interrupts
        while not self._done:
            given = 0
            for pair in self.draw.sample(self.pairs, len(self.pairs)):
                given += self._send(pair)
                await system.kick(2 * pair.number + 1)
                given += self._post(pair)
                await system.kick(2 * pair.number)
                given += self._offer(pair)
            before = len(interrupts.received)
            if given and self._sleeps_at_once():
                await self._wait_for_interrupt(before)
                continue
            news = self._poll()
            if news or given:
                await Timer(self.draw.choice((20, 100, 100, 1000)), "ns")
            elif self.case.interrupts == "off":
                await self._wait_for_news()
            else:
                await self._wait_for_interrupt(before)
        await self._until(lambda: len(system.sink.frames) >= self.case.frames, "frame at the port")
        await cycles(system.dut, 100)

    def _sleeps_at_once(self) -> bool:
        """Whether to sleep with work in the device, as a driver between two bursts does."""
        held = any(self._coming(pair) or pair.net.tx.outstanding for pair in self.pairs)
        return self.case.interrupts == "idle" and held and self.draw.random() < 0.5

    def _coming(self, pair: PairDriver) -> int:
        """Receive buffers that will come back."""
        return self.offered[pair.number] - pair.consumed

    async def _wait_for_news(self) -> None:
        start = get_sim_time("ns")
        while not self._poll():
            await Timer(500, "ns")
            if get_sim_time("ns") > start + _HANG_NS:
                raise CaseFailed(f"no used buffer within {_HANG_NS} ns; {self._standing()}")

    async def _wait_for_interrupt(self, before: int) -> None:
        """Nothing to do: an interrupt has to come for the next used buffer."""
        interrupts = self.system.host.interrupts
        if self.case.interrupts == "idle":
            waiting = [self._arm(pair) for pair in self.pairs]
            if not any(waiting):
                await self._until(lambda: len(interrupts.received) > before, "interrupt")
            for queue in self.system.queues:
                queue.disable_interrupts()
        else:
            await self._until(lambda: len(interrupts.received) > before, "interrupt")

    def _arm(self, pair: PairDriver) -> bool:
        """Ask for an interrupt, perhaps a few buffers later; whether some wait already."""
        coming, held = self._coming(pair), pair.net.tx.outstanding
        later = self.draw.choice((0, 0, 3, 40, 1000))
        if not has(self.system.accepted, Feature.EVENT_IDX):
            later = 0
        # Of these, as many will be used for sure.
        rx = pair.net.rx.enable_interrupts(max(0, min(later, coming - 1)))
        tx = pair.net.tx.enable_interrupts(max(0, min(later, held - 1)))
        return rx or tx

    async def _until(self, done: Any, what: str) -> None:
        start = get_sim_time("ns")
        while not done():
            await Timer(200, "ns")
            if get_sim_time("ns") > start + _HANG_NS:
                raise CaseFailed(f"no {what} within {_HANG_NS} ns; {self._standing()}")

    def _standing(self) -> str:
        lines = [
            f"pair {pair.number}: {self.sent[pair.number]}/{len(self.to_send[pair.number])} sent, "
            f"{pair.reaped} reaped, {len(pair.used[1].entries)} used; "
            f"{self.offered[pair.number]}/{len(self.to_come[pair.number])} offered, "
            f"{pair.consumed} taken, {len(pair.used[0].entries)} used, "
            f"{pair.net.rx.outstanding} posted"
            for pair in self.pairs
        ]
        return f"{len(self.system.sink.frames)} left the port; " + "; ".join(lines)

    async def judge(self, twin: Twin) -> None:
        """Compare with the golden device; the rules of the bus and of interrupts."""
        system = self.system
        try:
            await self._judge(twin)
            system.host.check()
        except CaseFailed:
            raise
        except Exception as error:
            raise CaseFailed(f"{type(error).__name__}: {error}") from error

    async def _judge(self, twin: Twin) -> None:
        system = self.system
        status = await system.pci.status()
        if status & DeviceStatus.DEVICE_NEEDS_RESET:
            raise CaseFailed(f"the device needs a reset: status {status:#x}")
        if self.case.interrupts == "off" and system.interrupts:
            raise CaseFailed(f"{len(system.interrupts)} interrupts that nobody wanted")
        if system.sink.errors:
            raise CaseFailed("a frame was marked as bad at the port")
        system.rings.audit().check()
        for queue in system.queues:
            queue.audit()
        port: list[list[bytes]] = [[] for _ in self.pairs]
        for frame, pair in zip(system.sink.frames, system.sink.dests, strict=True):
            port[pair].append(frame)
        twin.replay(self.journal, self.to_come, self.pairs)
        checks = compare(system.memory, self.pairs, twin, port)
        if failed := [check for check in checks if not check.passed]:
            raise CaseFailed("; ".join(f"{check.name}: {check.detail}" for check in failed))

    def close(self) -> None:
        """Stop listening."""
        for pair in self.pairs:
            pair.close()


async def run_case(system: SoakSystem, case: Case) -> dict[str, float]:
    """Do it all; figures. Raises `CaseFailed`."""
    start = get_sim_time("ns")
    try:
        twin = await with_timeout(system.prepare(case), 2000, "us")
    except Exception as error:
        raise CaseFailed(f"bring-up: {type(error).__name__}: {error}") from error
    traffic = Traffic(system, case)
    try:
        await traffic.run()
        await traffic.judge(twin)
    except CaseFailed:
        raise
    except Exception as error:
        raise CaseFailed(f"{type(error).__name__}: {error}") from error
    finally:
        traffic.close()
    frames = [frame for way in (traffic.to_send, traffic.to_come) for some in way for frame in some]
    return {
        "buffers": case.buffers,
        "bytes": sum(map(len, frames)),
        "us": (get_sim_time("ns") - start) / 1000,
        "unused": sum(pair.net.unused for pair in traffic.pairs),
        "interrupts": len(system.interrupts),
    }
