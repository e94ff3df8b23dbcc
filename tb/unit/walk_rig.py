"""Models around a walker: the store's filler, tables in memory, requests, and the golden cases."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import cocotb
from virtqueue_helper import PatternMemory, descriptor_bytes, queue_config, serve_lookups
from walk_bench import QUEUES, Case, absent

from lib.dma_model import ReadClientModel
from lib.layout import pack
from lib.port import writer
from lib.sim import params
from lib.streams import StreamSink, StreamSource, cycles, reset, start_clock
from virtio_rtl.types.virtqueue import Buffer, Descriptor, Segment
from virtio_rtl.virtqueue.service import BurstRequest, BurstResult

__all__ = ["Rig"]

POISON = 0xBAD << 40  # tables from here on cannot be read
WRITE = 2


class Rig:
    """Store, tables in memory, and a list of cases for each virtqueue."""

    def __init__(
        self,
        dut: Any,
        *,
        stall: float,
        size: int = 256,
        latency: tuple[int, int] = (3, 60),
        disabled: tuple[int, ...] = (),
    ):
        self.dut = dut
        self.size = size
        self.depth, self.batch, self.pull = params().depth, params().batch, params().pull
        start_clock(dut)
        self.memory = PatternMemory()
        self.next_table = 1 << 20
        self.request = StreamSource(dut, "request", BurstRequest, stall=stall)
        self.result = None if self.pull else StreamSink(dut, "result", BurstResult, stall=stall)
        self.rearms = StreamSink(dut, "rearm", stall=stall)
        self.tables = ReadClientModel(
            dut, "table_request", "table_packet", self.memory, params().width,
            latency=latency, stall=stall,
        )  # fmt: skip
        self.tables.fail = lambda address: address >= POISON
        self.segment = StreamSink(dut, "segment", Segment, stall=stall)
        self.buffer = StreamSink(dut, "buffer", Buffer, stall=stall)
        configs = [
            queue_config(size, q << 24, enabled=int(q not in disabled)) for q in range(QUEUES)
        ]
        serve_lookups(dut, ["lookup"], configs)
        self.cases: list[deque[Case]] = [deque() for _ in range(QUEUES)]
        self.waiting: list[deque[Case]] = [deque() for _ in range(QUEUES)]
        self.pointer, self.taken = [0] * QUEUES, [0] * QUEUES
        self.rearmed = [0] * QUEUES
        self.issue = random.randrange(QUEUES)
        names = ("write_queue", "write_pointer", "write_descriptor", "commit_queue")
        for name in (*names, "commit_pointer"):
            setattr(self, "_" + name, writer(getattr(dut, name)))
        dut.write_en.value = dut.commit_en.value = 0
        dut.packed.value = 1
        dut.pause.value = dut.forget.value = dut.forget_queue.value = 0
        dut.issue_queue.value = self.issue
        self._tasks = [self._collect_rearms(), self.fill()]

    async def start(self) -> None:
        await reset(self.dut)
        await cycles(self.dut, QUEUES + 2)
        assert not int(self.dut.busy.value)
        for task in self._tasks:
            cocotb.start_soon(task)

    async def _collect_rearms(self) -> None:
        while True:
            self.rearmed[await self.rearms.receive()] += 1

    async def fill(self) -> None:
        """Write chains to the store where there is room; commit at their end, or in between."""
        dut, depth = self.dut, self.depth
        work = [queue for queue in range(QUEUES) if self.waiting[queue]]
        plans = {
            queue: deque(
                (descriptor, index == len(case.ring) - 1)
                for case in self.waiting[queue]
                for index, descriptor in enumerate(case.ring)
            )
            for queue in work
        }
        for queue in work:
            self.waiting[queue].clear()
        uncommitted = dict.fromkeys(work, 0)
        while any(plans.values()):
            queue = random.choice([queue for queue in work if plans[queue]])
            # The room as the fetch sees it: the pointer that the store shows.
            dut.issue_queue.value = queue
            await cycles(dut, 3)
            taken = int(dut.issue_taken.value)
            room = depth - (self.pointer[queue] - taken) % (2 * depth)
            for _ in range(min(room, random.choice([1, self.batch, depth]), len(plans[queue]))):
                descriptor, ends = plans[queue].popleft()
                await self.put(queue, descriptor)
                uncommitted[queue] += 1
                if (ends and random.random() < 0.5) or uncommitted[queue] > depth // 2:
                    await self.commit(queue)
                    uncommitted[queue] = 0
            if not plans[queue] or uncommitted[queue] > depth // 4:
                await self.commit(queue)
                uncommitted[queue] = 0

    async def put(self, queue: int, descriptor: dict[str, int]) -> None:
        """Write a descriptor to the store; the walker does not see it before `commit`."""
        self._write_queue(queue)
        self._write_pointer(self.pointer[queue])
        self._write_descriptor(pack(Descriptor, descriptor))
        self.dut.write_en.value = 1
        await cycles(self.dut)
        self.dut.write_en.value = 0
        self.pointer[queue] = (self.pointer[queue] + 1) % (2 * self.depth)

    async def commit(self, queue: int) -> None:
        """Give all that was written to the walker."""
        self._commit_queue(queue)
        self._commit_pointer(self.pointer[queue])
        self.dut.commit_en.value = 1
        await cycles(self.dut)
        self.dut.commit_en.value = 0

    # Cases.
    def direct(self, segments: list[tuple[int, int, int]]) -> Case:
        """A chain of direct descriptors; the id that counts is the last one's."""
        ring = [
            {"address": a, "length": n, "write": w, "id": random.getrandbits(16),
             "next": int(k < len(segments) - 1)}
            for k, (a, n, w) in enumerate(segments)
        ]  # fmt: skip
        case = Case(ring, segments)
        if len(ring) > self.size:
            case.error, case.bad_from = 1, self.size
        return case

    def table(self, segments: list[tuple[int, int, int]], *, poison: bool = False) -> Case:
        """One indirect descriptor; flags of the table other than WRITE are to be ignored."""
        address = self.next_table + (POISON if poison else 0)
        self.next_table += 16 * len(segments) + 4096
        for index, (a, n, w) in enumerate(segments):
            flags = (random.getrandbits(16) & ~WRITE) | (WRITE if w else 0)
            self.memory.set(
                address + 16 * index,
                descriptor_bytes(a, n, random.getrandbits(16), flags=flags),
            )
        ring = [
            {"address": address, "length": 16 * len(segments), "indirect": 1,
             "write": random.getrandbits(1), "id": random.getrandbits(16)}
        ]  # fmt: skip
        return Case([descriptor | {"next": 0} for descriptor in ring], segments)

    def bad_table(self) -> Case:
        """A table that breaks a rule: nothing of it is read."""
        chained = random.random() < 0.3
        length = random.choice([0, 8, 17, 16 * self.size + 16, 0xFFFF_FFF0, 0xFFFF_FFFF])
        ring = [{"address": 64, "length": length, "indirect": 1, "next": 0, "id": 9, "write": 1}]
        segments = [(0, 0, 0)]
        if chained:
            ring[0]["length"] = 16
            ring.insert(0, {"address": 5, "length": 6, "next": 1, "id": 9, "write": 0})
            segments.insert(0, (5, 6, 0))
        return Case(ring, segments, 1, len(segments) - 1)

    def random_segments(self, most: int) -> list[tuple[int, int, int]]:
        count = random.choice([1, 1, 2, 3, random.randint(1, most)])
        split = random.randint(0, count)
        segments = [
            (random.getrandbits(64), random.choice([0, 1, 60, random.getrandbits(32)]),
             int(index >= split))
            for index in range(count)
        ]  # fmt: skip
        if random.random() < 0.1:
            random.shuffle(segments)
        return segments

    def random_case(self) -> Case:
        choice = random.random()
        if choice < 0.5:
            return self.direct(self.random_segments(min(self.size + 2, 40)))
        if choice < 0.9:
            segments = self.random_segments(min(self.size, 100))
            return self.table(segments)
        return self.bad_table()

    def plan(self, queue: int, case: Case) -> None:
        self.cases[queue].append(case)
        self.waiting[queue].append(case)

    async def answer(self) -> tuple[int, bool]:
        """The next record: of the next case of its virtqueue, or absent; virtqueue, absent."""
        record = await self.buffer.receive()
        queue = record.queue
        if record.absent:
            segments, golden = absent(queue)
        else:
            segments, golden = self.cases[queue].popleft().golden(queue, self.pull, self.size)
        got = await self.segment.take(len(segments))
        assert got == segments, f"virtqueue {queue}, {len(segments)} segments"
        assert record == golden
        return queue, bool(record.absent)

    async def compare(self) -> int:
        """The next buffer must be the next case of its virtqueue, which is returned."""
        queue, missing = await self.answer()
        assert not missing
        return queue

    async def pump(self) -> None:
        """Ask for bursts (push) or buffers (pull) in random order until all cases are done."""
        left = [len(cases) for cases in self.cases]
        while any(left if self.pull else self.cases):
            queue = random.choice([q for q in range(QUEUES) if left[q] and self.cases[q]])
            wanted = 1 if self.pull else random.choice([1, 4, 32])
            await self.request.send({"queue": queue, "buffers": wanted})
            if self.result is None:
                left[queue] -= 1
                continue
            result = await self.result.receive()
            assert result.queue == queue
            if not result.exhausted:
                self.whole_bursts[queue] += wanted
            self.bursts[queue] += wanted
            await cycles(self.dut, random.choice([1, 20]))

    async def serve(self) -> None:
        """Run until all cases are done and right; bursts are as long as they say."""
        counts = [len(cases) for cases in self.cases]
        self.whole_bursts, self.bursts = [0] * QUEUES, [0] * QUEUES
        pump = cocotb.start_soon(self.pump())
        for _ in range(sum(counts)):
            await self.compare()
        await pump
        if not self.pull:
            for whole, count, most in zip(self.whole_bursts, counts, self.bursts, strict=True):
                assert whole <= count <= most
