"""Frames of a case, both ways."""

from __future__ import annotations

from typing import Any

from lib.golden import Check, Journal, PairDriver, Twin, compare
from lib.streams import cycles
from soak.case import Case
from soak.system import NetSoakSystem
from soak.traffic import CaseFailed, Traffic
from virtio_model.driver.queue import DriverQueue

__all__ = ["NetTraffic"]

_SHORTEST_BUFFER = 40


class NetTraffic(Traffic):
    """Moves the frames of a case both ways, journalled."""

    system: NetSoakSystem

    def __init__(self, system: NetSoakSystem, case: Case) -> None:
        super().__init__(system, case)
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

    async def give(self) -> int:
        given = 0
        for pair in self.draw.sample(self.pairs, len(self.pairs)):
            given += self._send(pair)
            await self.system.kick(2 * pair.number + 1)
            given += self._post(pair)
            await self.system.kick(2 * pair.number)
            given += self._offer(pair)
        return given

    def poll(self) -> int:
        return sum(pair.reap() + pair.receive() for pair in self.pairs)

    @property
    def done(self) -> bool:
        return all(
            pair.reaped == len(self.to_send[pair.number])
            and pair.consumed == len(self.to_come[pair.number])
            for pair in self.pairs
        )

    def held(self) -> list[tuple[DriverQueue, int]]:
        return [
            item
            for pair in self.pairs
            for item in (
                (pair.net.rx, self.offered[pair.number] - pair.consumed),
                (pair.net.tx, pair.net.tx.outstanding),
            )
        ]

    async def run(self) -> None:
        await super().run()
        sink = self.system.sink
        await self.until(lambda: len(sink.frames) >= self.case.frames, "frame at the port")
        await cycles(self.system.dut, 100)

    def standing(self) -> str:
        lines = [
            f"pair {pair.number}: {self.sent[pair.number]}/{len(self.to_send[pair.number])} sent, "
            f"{pair.reaped} reaped, {len(pair.used[1].entries)} used; "
            f"{self.offered[pair.number]}/{len(self.to_come[pair.number])} offered, "
            f"{pair.consumed} taken, {len(pair.used[0].entries)} used, "
            f"{pair.net.rx.outstanding} posted"
            for pair in self.pairs
        ]
        return f"{len(self.system.sink.frames)} left the port; " + "; ".join(lines)

    def compare(self, twin: Twin) -> list[Check]:
        sink = self.system.sink
        if sink.errors:
            raise CaseFailed("a frame was marked as bad at the port")
        port: list[list[bytes]] = [[] for _ in self.pairs]
        for frame, pair in zip(sink.frames, sink.dests, strict=True):
            port[pair].append(frame)
        twin.replay(self.journal, self.to_come, self.pairs)
        return compare(self.system.memory, self.pairs, twin, port)

    def figures(self) -> dict[str, Any]:
        sides = self.to_send, self.to_come
        return {
            "bytes": sum(len(frame) for side in sides for frames in side for frame in frames),
            "unused": sum(pair.net.unused for pair in self.pairs),
        }

    def close(self) -> None:
        for pair in self.pairs:
            pair.close()
