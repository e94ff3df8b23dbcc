"""Walk and ReadAhead: chains and indirect tables become segments and one record a buffer."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import cocotb
import pytest
from amaranth.hdl import Module, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from virtqueue_helper import (
    Moves,
    PatternMemory,
    descriptor_bytes,
    nothing_more,
    queue_config,
    serve_lookups,
    spread,
    until,
)

from lib.dma_model import ReadClientModel
from lib.layout import pack
from lib.port import writer
from lib.sim import params, simulate
from lib.streams import StreamSink, StreamSource, cycles, reset, start_clock
from virtio_rtl.types.dma import ReadRequest
from virtio_rtl.types.packet import packet_stream
from virtio_rtl.types.virtqueue import Buffer, Descriptor, QueueLookup, Segment
from virtio_rtl.virtqueue.read_ahead import ReadAhead
from virtio_rtl.virtqueue.service import BurstRequest, BurstResult
from virtio_rtl.virtqueue.walk import Walk
from virtio_rtl.virtqueue.walk_ring import TABLE_ROOM

QUEUES, SEGMENTS = 3, 24
POISON = 0xBAD << 40  # tables from here on cannot be read
WRITE = 2
MAX32 = 0xFFFF_FFFF


class Bench(wiring.Component):
    """A walker on its read-ahead store."""

    def __init__(self, width: int, batch: int, depth: int, pull: bool):
        self.walk = Walk(width, QUEUES, 1, 0, batch, depth, pull, SEGMENTS, 16)
        self.store = ReadAhead(QUEUES, depth)
        pointer = range(2 * depth)
        super().__init__(
            {
                "request": In(stream.Signature(BurstRequest)),
                "result": Out(stream.Signature(BurstResult)),
                "lookup": Out(QueueLookup()),
                "rearm": Out(stream.Signature(unsigned(16))),
                "table_request": Out(stream.Signature(ReadRequest)),
                "table_packet": In(packet_stream(width)),
                "segment": Out(stream.Signature(Segment)),
                "buffer": Out(stream.Signature(Buffer)),
                "write_en": In(1),
                "write_queue": In(range(QUEUES)),
                "write_pointer": In(pointer),
                "write_descriptor": In(Descriptor),
                "commit_en": In(1),
                "commit_queue": In(range(QUEUES)),
                "commit_pointer": In(pointer),
                "issue_queue": In(range(QUEUES)),
                "issue_taken": Out(pointer),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Wire as the engine does."""
        m = Module()
        m.submodules.walk, m.submodules.store = walk, store = self.walk, self.store
        for name in ("request", "result", "lookup", "rearm", "table_request", "table_packet",
                     "segment", "buffer"):  # fmt: skip
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(walk, name))
        for name in ("write_en", "write_queue", "write_pointer", "write_descriptor",
                     "commit_en", "commit_queue", "commit_pointer", "issue_queue"):  # fmt: skip
            m.d.comb += getattr(store, name).eq(getattr(self, name))
        m.d.comb += [
            store.walk_queue.eq(walk.walk_queue),
            walk.committed.eq(store.walk_committed),
            walk.taken.eq(store.walk_taken),
            store.read_queue.eq(walk.read_queue),
            store.read_pointer.eq(walk.read_pointer),
            walk.descriptor.eq(store.read_descriptor),
            store.take_en.eq(walk.take_en),
            store.take_queue.eq(walk.take_queue),
            store.take_pointer.eq(walk.take_pointer),
            self.issue_taken.eq(store.issue_taken),
            self.busy.eq(store.busy),
        ]
        return m


@dataclass
class Case:
    """A chain, and what must come of it."""

    ring: list[dict[str, int]] = field(default_factory=list)
    segments: list[tuple[int, int, int]] = field(default_factory=list)
    error: int = 0

    def golden(
        self, queue: int, pull: bool, size: int
    ) -> tuple[list[dict[str, int]], dict[str, int]]:
        """Segments and record, as the docstrings of the walker say."""
        out, error = [], self.error_from()
        readable = writable = 0
        for index, (address, length, write) in enumerate(self.segments):
            readable = min(readable + (0 if write else length), MAX32)
            writable = min(writable + (length if write else 0), MAX32)
            last = index == len(self.segments) - 1
            if pull and index >= SEGMENTS:
                error = min(error, SEGMENTS)
                if not last:
                    continue
            kept = 0 if index >= error else length
            out.append(
                {"function": 0, "queue": queue, "address": address, "length": kept,
                 "writable": write, "last": int(last)}
            )  # fmt: skip
        record = {
            "function": 0, "queue": queue, "id": self.ring[-1]["id"],
            "slots": min(len(self.ring), size),
            "readable": readable, "writable": writable, "error": int(error < len(self.segments)),
            "absent": 0,
        }  # fmt: skip
        return out, record

    def error_from(self) -> int:
        """Index of the first segment that breaks a rule, or the number of segments."""
        broken = self.bad_from if self.error else len(self.segments)
        writable = 0
        for index, (_, length, write) in enumerate(self.segments):
            if not write and writable and length:
                return min(broken, index)
            writable += length if write else 0
        return broken

    bad_from: int = 0


class Rig:
    """Store, tables in memory, and a list of cases for each virtqueue."""

    def __init__(self, dut: Any, *, stall: float, size: int = 256, latency=(3, 60)):
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
        serve_lookups(dut, ["lookup"], [queue_config(size, q << 24) for q in range(QUEUES)])
        self.cases: list[deque[Case]] = [deque() for _ in range(QUEUES)]
        self.waiting: list[deque[Case]] = [deque() for _ in range(QUEUES)]
        self.pointer, self.taken = [0] * QUEUES, [0] * QUEUES
        self.committed = 0
        self.rearmed = [0] * QUEUES
        self.issue = random.randrange(QUEUES)
        names = ("write_queue", "write_pointer", "write_descriptor", "commit_queue")
        for name in (*names, "commit_pointer"):
            setattr(self, "_" + name, writer(getattr(dut, name)))
        dut.write_en.value = dut.commit_en.value = 0
        dut.issue_queue.value = self.issue
        self._tasks = [self._collect_rearms(), self._fill()]

    async def start(self) -> None:
        await reset(self.dut)
        await cycles(self.dut, QUEUES + 2)
        assert not int(self.dut.busy.value)
        for task in self._tasks:
            cocotb.start_soon(task)

    async def _collect_rearms(self) -> None:
        while True:
            self.rearmed[await self.rearms.receive()] += 1

    async def _fill(self) -> None:
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
                self._write_queue(queue)
                self._write_pointer(self.pointer[queue])
                self._write_descriptor(pack(Descriptor, descriptor))
                dut.write_en.value = 1
                await cycles(dut)
                dut.write_en.value = 0
                self.pointer[queue] = (self.pointer[queue] + 1) % (2 * depth)
                uncommitted[queue] += 1
                if (ends and random.random() < 0.5) or uncommitted[queue] > depth // 2:
                    await self._commit(queue)
                    uncommitted[queue] = 0
            if not plans[queue] or uncommitted[queue] > depth // 4:
                await self._commit(queue)
                uncommitted[queue] = 0

    async def _commit(self, queue: int) -> None:
        self._commit_queue(queue)
        self._commit_pointer(self.pointer[queue])
        self.dut.commit_en.value = 1
        await cycles(self.dut)
        self.dut.commit_en.value = 0
        self.committed += 1

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

    async def compare(self) -> None:
        """The next buffer must be the next case of its virtqueue."""
        record = await self.buffer.receive()
        queue = record.queue
        segments, golden = self.cases[queue].popleft().golden(queue, self.pull, self.size)
        got = await self.segment.take(len(segments))
        assert got == segments, f"virtqueue {queue}, {len(segments)} segments"
        assert record == golden

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


@cocotb.test(timeout_time=3, timeout_unit="ms")
async def walks_random_chains(dut: Any) -> None:
    """Chains, tables of 1 to 100 entries, broken ones, stalls: the golden segments and records."""
    rig = Rig(dut, stall=random.choice([0.0, 0.2]), size=random.choice([7, 16, 256]))
    for queue in range(QUEUES):
        for _ in range(25):
            rig.plan(queue, rig.random_case())
    slots = [sum(len(case.ring) for case in rig.cases[queue]) for queue in range(QUEUES)]
    await rig.start()
    await rig.serve()
    await nothing_more(dut, rig.segment, rig.buffer)
    assert rig.rearmed == [count // rig.batch for count in slots]
    for queue in range(QUEUES):
        dut.issue_queue.value = queue
        await cycles(dut, 3)
        assert int(dut.issue_taken.value) == slots[queue] % (2 * rig.depth)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def a_table_that_cannot_be_read_is_an_error(dut: Any) -> None:
    """Also in a later chunk of the table; buffers around it are not touched."""
    rig = Rig(dut, stall=0.1)
    for count in (1, 16, 17, 40):
        segments = [(k, 5, 1) for k in range(count)]
        rig.plan(1, rig.table([(7, 7, 0)]))
        case = rig.table(segments, poison=True)
        # Addresses and lengths of what was not read are anybody's guess.
        case.error = 1
        rig.plan(1, case)
        rig.plan(1, rig.direct([(1, 2, 0)]))
    await rig.start()
    rig.whole_bursts, rig.bursts = [0] * QUEUES, [0] * QUEUES
    cocotb.start_soon(rig.pump())
    while rig.cases[1]:
        seen = await rig.buffer.receive()
        segments, record = rig.cases[1].popleft().golden(1, rig.pull, rig.size)
        got = await rig.segment.take(len(segments))
        assert [s["length"] for s in got] == [s["length"] for s in segments]
        assert [s["last"] for s in got] == [s["last"] for s in segments]
        for name in ("queue", "id", "slots", "error"):
            assert seen[name] == record[name]
    await nothing_more(dut, rig.segment, rig.buffer)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def a_chain_longer_than_the_store(dut: Any) -> None:
    """It comes in pieces; the room is given back while the chain is still being walked."""
    rig = Rig(dut, stall=0.1)
    length = 3 * rig.depth + 1
    assert length <= rig.size
    rig.plan(0, rig.direct([(k, k + 1, 0) for k in range(length)]))
    rig.plan(0, rig.direct([(1, 1, 1)]))
    await rig.start()
    await rig.serve()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def tables_wait_for_room(dut: Any) -> None:
    """Tables are asked for ahead, but never more than there is room for, whoever stalls."""
    rig = Rig(dut, stall=0.0)
    for _ in range(12):
        rig.plan(0, rig.table([(k, k + 1, 1) for k in range(16)]))
    await rig.start()
    rig.segment.stall = 1.0
    rig.whole_bursts, rig.bursts = [0] * QUEUES, [0] * QUEUES
    cocotb.start_soon(rig.pump())
    await cycles(dut, 1500)
    ahead = sum(length for _, length in rig.memory.reads) // 16
    assert TABLE_ROOM - 16 < ahead <= TABLE_ROOM + SEGMENTS + 4
    rig.segment.stall = 0.0
    while rig.cases[0]:
        await rig.compare()
    await nothing_more(dut, rig.segment, rig.buffer)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def too_many_segments_are_an_error_for_pull(dut: Any) -> None:
    """A consumer that waits for the record must get it: more segments than the FIFO holds."""
    rig = Rig(dut, stall=0.0)
    for count in (SEGMENTS - 1, SEGMENTS, SEGMENTS + 1, 100):
        rig.plan(2, rig.table([(k, k, 1) for k in range(count)]))
        rig.plan(2, rig.direct([(k, 3, 1) for k in range(min(count, 60))]))
    await rig.start()
    rig.whole_bursts, rig.bursts = [0] * QUEUES, [0] * QUEUES
    cocotb.start_soon(rig.pump())
    while rig.cases[2]:
        if rig.pull:  # the record comes although nobody takes segments
            rig.segment.stall = 1.0
            await until(dut, lambda: len(rig.buffer) > 0, 2000)
            rig.segment.stall = 0.0
        await rig.compare()
    await nothing_more(dut, rig.segment, rig.buffer)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def pull_waits_for_a_buffer(dut: Any) -> None:
    """A request that finds nothing available is served when something is."""
    rig = Rig(dut, stall=0.0)
    rig.plan(0, rig.direct([(1, 2, 1)]))
    await reset(dut)
    await cycles(dut, QUEUES + 2)
    rig.request.queue([{"queue": 0, "buffers": 1}])
    await cycles(dut, 60)
    assert len(rig.buffer) == 0
    if rig.pull:
        cocotb.start_soon(rig._fill())
        await rig.compare()
    else:
        assert await rig.result.receive() == {"queue": 0, "exhausted": 1}


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def keeps_pace(dut: Any) -> None:
    """One descriptor a cycle, and three cycles more for each batch; a table entry a cycle."""
    rig = Rig(dut, stall=0.0, latency=(20, 20))
    count = rig.depth
    for k in range(count):
        rig.plan(0, rig.direct([(k, k, 0)]))
    await reset(dut)
    await cycles(dut, QUEUES + 2)
    moves = Moves(dut, "segment")
    await rig._fill()
    for _ in range(2):
        rig.request.queue([{"queue": 0, "buffers": count // 2}])
    await until(dut, lambda: len(moves.cycles) == count, 1000)
    assert spread(moves.cycles) <= count + 3 * (count // rig.batch) + 8
    while rig.cases[0]:
        await rig.compare()


EVERYWHERE = [
    "walks_random_chains", "a_table_that_cannot_be_read_is_an_error",
    "a_chain_longer_than_the_store", "pull_waits_for_a_buffer",
    "too_many_segments_are_an_error_for_pull",
    "tables_wait_for_room",
]  # fmt: skip


@pytest.mark.parametrize("pull", [False, True])
@pytest.mark.parametrize(
    ("width", "batch", "depth"), [(64, 4, 8), (128, 16, 32), (256, 16, 64), (512, 8, 64)]
)
def test_walk(width: int, batch: int, depth: int, pull: bool) -> None:
    simulate(
        Bench(width, batch, depth, pull),
        module=__name__,
        name=f"walk_{width}_{'pull' if pull else 'push'}",
        testcase=EVERYWHERE if pull else [*EVERYWHERE, "keeps_pace"],
        params={"width": width, "batch": batch, "depth": depth, "pull": pull},
        waive=["result__valid"] if pull else [],
    )
