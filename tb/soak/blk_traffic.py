"""Requests of a case."""

from __future__ import annotations

import random
from typing import Any

from cocotb.triggers import Timer
from cocotb.utils import get_sim_time

from lib.blk_traffic import random_request
from lib.golden import Check, DiskTwin, compare_disk
from soak.case import Case
from soak.system import BlkSoakSystem
from soak.traffic import CaseFailed, Traffic
from virtio_model.blk_request import RequestHeader
from virtio_model.driver.framing import WHOLE, Framing
from virtio_model.driver.queue import DriverQueue
from virtio_model.spec.blk import SECTOR_SIZE, RequestType

__all__ = ["BlkTraffic"]

_STEP = 8
"""Sectors that are filled or read back by one request."""


class BlkTraffic(Traffic):
    """Has the requests of a case answered, journalled, with resets in between.

    Each virtqueue fills its own part of the disk first; in the end all of it is read. Of `Case`,
    `short` is the share of requests that break a rule, `longest` a measure of the others.
    """

    HANG_NS = 2_000_000
    """All virtqueues together may have megabytes before the next answer of one."""

    system: BlkSoakSystem

    def __init__(self, system: BlkSoakSystem, case: Case) -> None:
        super().__init__(system, case)
        random.seed(case.seed)
        assert system.disk
        self.disk = system.disk
        count = len(system.queues)
        self.requests = [self._fill(index) for index in range(count)]
        self.sent = [0] * count
        self.resets = 0
        self._resets: list[tuple[int, int | None]] = []

    def _fill(self, index: int) -> list[tuple[bytes, int]]:
        part = self.system.part(index)
        return [
            (
                RequestHeader(RequestType.OUT, sector).encode()
                + random.randbytes(SECTOR_SIZE * len(part[sector - part.start :][:_STEP])),
                1,
            )
            for sector in part[::_STEP]
        ]

    def _draw_resets(self) -> list[tuple[int, int | None]]:
        """Places, in requests that were sent, and the virtqueue; None for the whole device."""
        count = self.draw.choice((0, 0, 1, 2, 4))
        begin = sum(self.sent)
        places = sorted(begin + self.draw.randint(1, self.case.buffers) for _ in range(count))
        queues = (None, *range(len(self.requests)))
        return [(place, self.draw.choice(queues)) for place in places]

    def _framing(self, readable: int, writable: int, queue: DriverQueue) -> Framing | None:
        """How a request is cut, and whether it is in a table; None if there is no room now."""
        case, draw = self.case, self.draw
        wanted = draw.randint(0, min(case.cuts, queue.size - 2))
        if wanted >= 2 and draw.random() < 0.5:
            cuts: list[tuple[int, ...]] = [(16,), (-1,)]  # as most drivers do
        else:
            first = draw.randint(0, wanted)
            cuts = [
                tuple(draw.sample(range(1, length), min(count, length - 1))) if length > 1 else ()
                for length, count in ((readable, first), (writable, wanted - first))
            ]
        indirect = "indirect_desc" in case.features and draw.random() < case.tables
        if queue.free_slots < (1 if indirect else sum(map(len, cuts)) + 2):
            return None
        return Framing(cuts[0], cuts[1], indirect, draw.randrange(64))

    def _send(self, index: int) -> int:
        queue, requests = self.system.queues[index], self.requests[index]
        given = 0
        for _ in range(self.draw.randint(1, self.case.batch)):
            if self.sent[index] == len(requests):
                break
            readable, writable = requests[self.sent[index]]
            framing = self._framing(len(readable), writable, queue)
            if framing is None:
                break
            self.disk.send(index, readable, writable, framing)
            self.sent[index] += 1
            given += 1
        return given

    async def give(self) -> int:
        given = 0
        for index in self.draw.sample(range(len(self.requests)), len(self.requests)):
            given += self._send(index)
            await self.system.kick(index)
        if self._resets and sum(self.sent) >= self._resets[0][0]:
            await Timer(self.draw.randrange(1, 3000), "ns")
            await self._reset(self._resets.pop(0)[1])
        return given

    async def _reset(self, index: int | None) -> None:
        """Reset a virtqueue or all; read what is on its part of the disk."""
        self.resets += 1
        if index is None:
            await self.system.start_again()
        else:
            await self.system.reset_queue(index)
        for each in range(len(self.requests)) if index is None else (index,):
            for request, sector in self._look(self.system.part(each)):
                self.disk.send(each, *request, WHOLE)
                await self.system.kick(each)
                await self._found(each, sector)

    def _look(self, part: range) -> list[tuple[tuple[bytes, int], int]]:
        """Requests that read a part of the disk, and their sectors."""
        return [
            (
                (
                    RequestHeader(RequestType.IN, sector).encode(),
                    SECTOR_SIZE * len(part[sector - part.start :][:_STEP]) + 1,
                ),
                sector,
            )
            for sector in part[::_STEP]
        ]

    async def _found(self, index: int, sector: int) -> None:
        start = get_sim_time("ns")
        while not self.disk.read_back(index, sector):
            await Timer(200, "ns")
            if sum(self.disk.poll(i) for i in range(len(self.requests)) if i != index):
                start = get_sim_time("ns")
            if get_sim_time("ns") > start + self.HANG_NS:
                raise CaseFailed(f"no answer after a reset; {self.standing()}")

    def poll(self) -> int:
        return sum(self.disk.poll(index) for index in range(len(self.requests)))

    @property
    def done(self) -> bool:
        return not any(self.disk.flying) and all(
            sent == len(requests) for sent, requests in zip(self.sent, self.requests, strict=True)
        )

    def held(self) -> list[tuple[DriverQueue, int]]:
        return list(zip(self.system.queues, self.disk.flying, strict=True))

    async def run(self) -> None:
        await super().run()  # until the disk is full
        self._resets = self._draw_resets()
        longest = self.case.longest // 128 + 1
        for _ in range(self.case.buffers):
            index = self.draw.randrange(len(self.requests))
            request = random_request(self.system, index, self.case.short, longest)
            self.requests[index].append(request)
        await super().run()
        at = self.draw.randrange(len(self.requests))
        whole = range(self.system.limits.capacity)
        self.requests[at] += [request for request, _ in self._look(whole)]
        await super().run()

    def standing(self) -> str:
        lines = [
            f"virtqueue {index}: {self.sent[index]}/{len(requests)} sent, "
            f"{self.disk.flying[index]} not answered"
            for index, requests in enumerate(self.requests)
        ]
        return "; ".join([*lines, f"{self.resets} resets"])

    def compare(self, twin: DiskTwin) -> list[Check]:
        twin.replay(self.system.journal, self.disk)
        return compare_disk(self.system.memory, self.disk, twin)

    def figures(self) -> dict[str, Any]:
        return {
            "bytes": sum(len(r) + w for requests in self.requests for r, w in requests),
            "resets": self.resets,
        }

    def close(self) -> None:
        """The system stops listening."""
