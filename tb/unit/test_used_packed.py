"""PackedUsed: used descriptors bit for bit, in order, neighbours in one write."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
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

from lib.dma_model import WriteClientModel
from lib.sim import params, simulate
from lib.streams import StreamSink, StreamSource, cycles, reset, start_clock
from virtio_rtl.types.virtqueue import Completion
from virtio_rtl.virtqueue.used_packed import PackedUsed

QUEUES, INPUTS, LINGER, LINGER_CROWDED = 6, 2, 200, 3000
WRITE, AVAIL, USED = 2, 1 << 7, 1 << 15


class Golden:
    """Where the used descriptors of one ring must lie, and how they may be cut into writes."""

    def __init__(self, base: int, size: int):
        self.base, self.size = base, size
        self.slot, self.wrap = 0, 1
        self.entries: list[tuple[int, bytes, int]] = []  # slot, descriptor, chain length

    def complete(self, done: dict[str, int]) -> None:
        """A buffer is done. [virtio 1.4 §2.8.7]"""
        flags = (WRITE if done["written"] else 0) | ((AVAIL | USED) if self.wrap else 0)
        descriptor = descriptor_bytes(0, done["written"], done["id"], flags=flags)
        self.entries.append((self.slot, descriptor, done["slots"]))
        self.slot += done["slots"]
        if self.slot >= self.size:
            self.slot, self.wrap = self.slot - self.size, 1 - self.wrap

    def check(self, writes: list[tuple[int, bytes]], batch: int) -> list[int]:
        """Compare all writes to this ring, in order; return the number of entries of each."""
        rest = list(self.entries)
        counts = []
        for address, content in writes:
            count = len(content) // 16
            assert 1 <= count <= batch
            group, rest = rest[:count], rest[count:]
            assert b"".join(descriptor for _, descriptor, _ in group) == content
            assert address == self.base + 16 * group[0][0]
            slots = [slot for slot, _, _ in group]
            assert slots == list(range(slots[0], slots[0] + count)), "not neighbours"
            assert slots[0] // batch == slots[-1] // batch, "crosses a multiple of the batch"
            counts.append(count)
        assert not rest, "not written"
        return counts


class Rig:
    """PackedUsed with completions from two paths: virtqueue mod 2."""

    def __init__(self, dut: Any, sizes: list[int], *, stall: float, latency=(2, 40)):
        self.dut = dut
        start_clock(dut)
        configs = [queue_config(size, (queue + 1) << 24) for queue, size in enumerate(sizes)]
        self.golden = [Golden((queue + 1) << 24, size) for queue, size in enumerate(sizes)]
        self.memory = PatternMemory()
        self.sources = [
            StreamSource(dut, f"completion_{i}", Completion, stall=stall) for i in range(INPUTS)
        ]
        self.writes = WriteClientModel(
            dut, "request", "packet", "done", self.memory, params().width,
            latency=latency, stall=stall,
        )  # fmt: skip
        self.written = StreamSink(dut, "written", stall=stall)
        serve_lookups(dut, ("lookup", "lookup_write"), configs)
        dut.busy.value, dut.crowded.value = 1, 0

    def put(self, queue: int, slots: int = 1) -> None:
        """Complete a buffer."""
        done = {
            "queue": queue,
            "id": random.getrandbits(16),
            "slots": slots,
            "written": random.choice([0, 1, random.getrandbits(32)]),
        }
        self.golden[queue].complete(done)
        self.sources[queue % INPUTS].queue([done])

    async def check(self) -> list[list[int]]:
        """Wait for the end, compare; return the entries of each write, by virtqueue."""
        for source in self.sources:
            await source.idle()
        total = sum(len(golden.entries) for golden in self.golden)

        def count() -> int:
            return sum(len(content) for _, content in self.memory.writes) // 16

        await until(self.dut, lambda: count() == total, 3000)
        order = [(address >> 24) - 1 for address, _ in self.memory.writes]
        assert await self.written.take(len(order)) == order
        await nothing_more(self.dut, self.written)
        return [
            golden.check(
                [write for write in self.memory.writes if write[0] >> 24 == queue + 1],
                params().batch,
            )
            for queue, golden in enumerate(self.golden)
        ]


def sizes() -> list[int]:
    batch = params().batch
    return random.choices([1, 2, 3, 7, batch, batch + 1, 3 * batch, 100], k=QUEUES)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def writes_what_was_completed(dut: Any) -> None:
    """Random completions of several virtqueues, chains, ring sizes, stalls and idle times."""
    rig = Rig(dut, sizes(), stall=random.choice([0.0, 0.3]))
    await reset(dut)
    for _ in range(80):
        queue = random.randrange(QUEUES)
        longest = min(rig.golden[queue].size, random.choice([1, 1, 2, 9]))
        for _ in range(random.choice([1, 1, 3, 20])):
            rig.put(queue, random.randint(1, longest))
        if random.random() < 0.3:
            dut.busy.value = random.getrandbits(1)
            await cycles(dut, random.choice([1, 10, 100]))
    await rig.check()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_flood_goes_in_whole_batches(dut: Any) -> None:
    """Several virtqueues interleaved, buffers still inside: every write is a full batch."""
    batch = params().batch
    rig = Rig(dut, [2 * batch, 4 * batch] + [batch] * 4, stall=0.0)
    await reset(dut)
    for _ in range(3 * batch):
        for queue in (0, 1):
            rig.put(queue)
    counts = await rig.check()
    assert counts[:2] == [[batch] * 3] * 2


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def linger_counts_from_the_open_batch(dut: Any) -> None:
    """A steady flow that fills a batch within `linger` is not cut where an earlier one began."""
    batch = params().batch
    rig = Rig(dut, [4 * batch] * QUEUES, stall=0.0)
    await reset(dut)
    await cycles(dut, QUEUES)
    gap = (LINGER - 40) // batch
    for _ in range(4 * batch):
        rig.put(3)
        await cycles(dut, gap)
    counts = await rig.check()
    assert counts[3] == [batch] * 4


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_batch_ends_where_it_must(dut: Any) -> None:
    """At the ring's end, at a multiple of the batch, and behind a chain of several slots."""
    batch = params().batch
    rig = Rig(dut, [batch + 3, 4 * batch, 100, 100, 1, 100], stall=0.0)
    await reset(dut)
    for _ in range(2 * (batch + 3)):
        rig.put(0)
    rig.put(1, 2)
    for _ in range(batch - 2):
        rig.put(1)
    rig.put(3)
    rig.put(3, 3)
    rig.put(3)
    for _ in range(3):
        rig.put(4)
    counts = await rig.check()
    assert counts[0] == [batch, 3] * 2
    # batch 4: slots 2 and 3 are left up to the multiple of the batch
    assert counts[1] == [1, batch - 2]
    assert counts[3] == [2, 1]
    assert counts[4] == [1, 1, 1]


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_lone_buffer_is_not_delayed(dut: Any) -> None:
    """With nothing else inside, the write is offered in the third cycle; at 64 bits one later."""
    rig = Rig(dut, [100] * QUEUES, stall=0.0)
    dut.busy.value = 0
    came, left = Moves(dut, "completion_0"), Moves(dut, "request")
    await reset(dut)
    await cycles(dut, QUEUES)
    for number in range(5):
        rig.put(random.choice([0, 2, 4]))
        await until(dut, lambda: len(left.cycles) == number + 1, 100)  # noqa: B023
        assert left.cycles[-1] - came.cycles[-1] == 3 + (params().width == 64)
    await rig.check()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def nobody_waits_longer_than_linger(dut: Any) -> None:
    """While other buffers stay inside, an entry waits `linger` cycles, and not much more."""
    rig = Rig(dut, [100] * QUEUES, stall=0.0)
    came, left = Moves(dut, "completion_0"), Moves(dut, "request")
    await reset(dut)
    await cycles(dut, QUEUES)
    for number in range(3):
        rig.put(2)
        await until(dut, lambda: len(left.cycles) == number + 1, 400)  # noqa: B023
        assert LINGER <= left.cycles[-1] - came.cycles[-1] <= LINGER + 10
        await cycles(dut, 16384 - 210)  # about once around the 14-bit clock
    assert await rig.check()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_completion_a_cycle(dut: Any) -> None:
    """Whatever the input, while batches go out beside it: those set the pace in the long run."""
    rig = Rig(dut, [1024] * QUEUES, stall=0.0, latency=(0, 0))
    moves = [Moves(dut, f"completion_{i}") for i in range(2)]
    await reset(dut)
    for _ in range(64):
        rig.put(0)
        rig.put(1)
    await rig.check()
    stamps = sorted(moves[0].cycles + moves[1].cycles)
    assert len(stamps) == 128
    assert spread(stamps[:32]) <= 34
    # Sixteen descriptors of one beat, or two, and up to five cycles around them.
    beats = max(128 // params().width, 1)
    assert spread(stamps) <= 128 // 16 * (beats * 16 + 5)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_crowded_path_is_worth_waiting_for(dut: Any) -> None:
    """While the posted path is the bottleneck batches stay open longer, and close when it is not.

    Many virtqueues in turn, slower than `linger` each: single descriptors, or whole batches.
    """
    batch = params().batch
    rig = Rig(dut, [4 * batch] * QUEUES, stall=0.0)
    dut.crowded.value = 1
    left = Moves(dut, "request")
    await reset(dut)
    await cycles(dut, QUEUES)
    for _ in range(batch):
        for queue in range(QUEUES):
            rig.put(queue)
        await cycles(dut, LINGER // 2)
    await until(dut, lambda: len(left.cycles) == QUEUES, 400)
    assert await rig.check() == [[batch]] * QUEUES
    rig.put(5)
    await cycles(dut, 2 * LINGER)
    assert len(left.cycles) == QUEUES
    dut.crowded.value = 0
    await until(dut, lambda: len(left.cycles) == QUEUES + 1, LINGER_CROWDED)
    rig.put(5)
    await cycles(dut, LINGER // 2)
    dut.crowded.value = 1
    await until(dut, lambda: len(left.cycles) == QUEUES + 2, 2 * LINGER_CROWDED)
    assert left.cycles[-1] - left.cycles[-2] >= LINGER_CROWDED // 2


@pytest.mark.parametrize(
    ("width", "batch"), [(64, 16), (128, 16), (256, 4), (256, 16), (512, 8), (512, 16)]
)
def test_used_packed(width: int, batch: int) -> None:
    only = None if batch == 16 else ["writes_what_was_completed", "a_batch_ends_where_it_must"]
    simulate(
        PackedUsed(width, QUEUES, INPUTS, batch, LINGER, LINGER_CROWDED),
        module=__name__,
        name=f"used_packed_{width}_{batch}",
        testcase=only,
        params={"width": width, "batch": batch},
    )


def test_batch_of_one() -> None:
    """Every used descriptor by itself."""
    simulate(
        PackedUsed(128, QUEUES, INPUTS, 1, LINGER),
        module=__name__,
        name="used_packed_single",
        testcase="writes_what_was_completed",
        params={"width": 128, "batch": 1},
    )
