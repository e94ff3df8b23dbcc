"""A driver's packed rings, a walker and a scheduler in Python around `PackedFetch`."""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from typing import Any

import cocotb
from cocotb.triggers import Event, RisingEdge
from virtqueue_helper import (
    Strobes,
    VectorMonitor,
    descriptor_bytes,
    queue_config,
    serve_lookups,
    until,
)

from lib.dma_model import ReadClientModel, WriteClientModel, packet_beats
from lib.layout import unpack
from lib.port import reader, writer
from lib.sim import params
from lib.streams import StreamSink, StreamSource, cycles, reset, start_clock
from virtio_rtl.types.dma import ReadRequest
from virtio_rtl.types.packet import packet_beat
from virtio_rtl.types.virtqueue import Descriptor, WorkItem

PATHS = 2
NEXT, WRITE, INDIRECT, AVAIL, USED = 1, 2, 4, 1 << 7, 1 << 15


class Guest:
    """Memory with nothing but rings and event suppression structures; strict about accesses."""

    def __init__(self, sizes: list[int], *, loose: bool):
        # Rings may start anywhere in a cache line.
        self.configs = [
            queue_config(size, (queue + 1 << 24) + (16 * (queue % 4) if loose else 0))
            for queue, size in enumerate(sizes)
        ]
        self.rings = [bytearray(16 * size) for size in sizes]
        self.flags = [0 for _ in sizes]
        self.disabled = 0
        self.reads: list[tuple[int, int, int]] = []  # queue, slot, count

    def device_read(self, address: int, length: int) -> bytes:
        """Return what a descriptor read finds; it must stay inside one ring."""
        queue = (address >> 24) - 1
        offset = address - self.configs[queue]["descriptor_area"]
        ring = self.rings[queue]
        assert offset % 16 == 0
        assert length % 16 == 0
        assert offset + length <= len(ring)
        self.reads.append((queue, offset // 16, length // 16))
        return bytes(ring[offset : offset + length])

    def device_write(self, address: int, content: bytes) -> None:
        """Take an event suppression structure. [virtio 1.4 §2.8.14]"""
        queue = (address >> 24) - 1
        assert address == self.configs[queue]["device_area"]
        assert content in (bytes(4), bytes([0, 0, 1, 0]))
        self.flags[queue] = content[2]
        self.disabled += content[2]


class LineReads(ReadClientModel):
    """Samples the cache lines of a read at moments of their own, in ascending order."""

    async def _sample(self, request: Any, answer: dict[str, Any], ready: Event) -> None:
        start, end = request["address"], request["address"] + request["length"]
        lines = [(max(line, start), min(line + 64, end)) for line in range(start & ~63, end, 64)]
        delay = random.randint(*self.latency)
        moments = sorted(random.randint(0, delay) for _ in lines)
        content, now = b"", 0
        for moment, (first, last) in zip(moments, lines, strict=True):
            await cycles(self.dut, moment - now)
            now = moment
            content += self.memory.device_read(first, last - first)
        await cycles(self.dut, delay - now)
        answer["error"], answer["data"] = False, content
        ready.set()


class Driver:
    """Makes chains available in the order in which Linux writes them, step by step."""

    def __init__(self, rig: Rig, queue: int, size: int):
        self.rig, self.queue, self.size = rig, queue, size
        self.slot, self.wrap, self.free = 0, 1, size
        self.expected: deque[list[dict[str, int]]] = deque()
        self.held_back = 0  # notifications that the device had disabled

    def _flags(self, wrap: int, flags: int) -> int:
        return flags | (AVAIL if wrap else USED)

    def put(self, slot: int, offset: int, content: bytes) -> None:
        """Write a part of a ring slot."""
        start = 16 * slot + offset
        self.rig.guest.rings[self.queue][start : start + len(content)] = content

    def plan(self, length: int) -> list[tuple[int, int, dict[str, int]]]:
        """Reserve slots for a chain: (slot, flags, descriptor) of each."""
        assert length <= self.free
        self.free -= length
        steps = []
        buffer_id = random.getrandbits(16)
        for index in range(length):
            descriptor = {
                "address": random.getrandbits(64),
                "length": random.getrandbits(32),
                "id": buffer_id,
                "next": int(index < length - 1),
                "write": random.getrandbits(1),
                "indirect": random.getrandbits(1),
            }
            bits = descriptor["next"] * NEXT + descriptor["write"] * WRITE
            bits += descriptor["indirect"] * INDIRECT
            steps.append((self.slot, self._flags(self.wrap, bits), descriptor))
            self.slot += 1
            if self.slot == self.size:
                self.slot, self.wrap = 0, 1 - self.wrap
        self.expected.append([descriptor for _, _, descriptor in steps])
        return steps

    def write_flags(self, step: tuple[int, int, dict[str, int]]) -> None:
        """The flags of a descriptor."""
        self.put(step[0], 14, step[1].to_bytes(2, "little"))

    def write_body(self, step: tuple[int, int, dict[str, int]]) -> None:
        """All of a descriptor but its flags."""
        d = step[2]
        self.put(step[0], 0, descriptor_bytes(d["address"], d["length"], d["id"])[:14])

    def add_now(self, length: int) -> None:
        """Make a chain available at once."""
        for step in reversed(self.plan(length)):
            self.write_body(step)
            self.write_flags(step)

    async def add(self, length: int) -> None:
        """Make a chain available: flags first, then the rest, the head's flags last."""
        steps = self.plan(length)
        for index, step in enumerate(steps):
            if index:
                self.write_flags(step)
                await self.pause()
            self.write_body(step)
            await self.pause()
        self.write_flags(steps[0])
        await self.pause()
        self.kick()

    async def pause(self) -> None:
        """Let some cycles pass, or none."""
        if random.random() < 0.3:
            await cycles(self.rig.dut, random.choice([1, 1, 2, 5, 30]))

    def kick(self) -> None:
        """Notify the device unless it has disabled that."""
        if self.rig.guest.flags[self.queue] == 1:
            self.held_back += 1
        else:
            self.rig.ring(self.queue)


class HeldReads:
    """Descriptor reads that are sampled and answered when the test says so."""

    def __init__(self, dut: Any, guest: Guest, width: int):
        self.dut, self.guest, self.width = dut, guest, width
        self.sink = StreamSink(dut, "read_request", ReadRequest)
        self.source = StreamSource(dut, "read_packet", packet_beat(width))
        self.requests: list[Any] = []
        self.automatic = False
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        while True:
            request = await self.sink.receive()
            self.requests.append(request)
            if self.automatic:
                await cycles(self.dut, 3)
                self.answer(self.sample(len(self.requests) - 1))

    def sample(self, index: int) -> bytes:
        """Read memory now for a request."""
        request = self.requests[index]
        return self.guest.device_read(request["address"], request["length"])

    def answer(self, content: bytes, *, error: bool = False) -> None:
        """Deliver the next packet."""
        self.source.queue(packet_beats(content, self.width, error=error, early=True))


class Rig:
    """`PackedFetch` with everything around it."""

    def __init__(
        self, dut: Any, sizes: list[int], *, stall: float, held: bool = False, slow: bool = True,
        latency: tuple[int, int] = (3, 60),
    ):  # fmt: skip
        self.dut = dut
        self.batch, self.depth, width = params().batch, params().depth, params().width
        self.slow = slow
        self.check_chains = True
        start_clock(dut)
        self.guest = Guest(sizes, loose=not held)
        self.drivers = [Driver(self, queue, size) for queue, size in enumerate(sizes)]
        self.work = StreamSource(dut, "work", WorkItem, stall=stall)
        self.held: Any = HeldReads(dut, self.guest, width) if held else None
        self.reads: Any = None
        if not held:
            self.reads = LineReads(
                dut, "read_request", "read_packet", self.guest, width, latency=latency, stall=stall
            )
        self.repairs = LineReads(
            dut, "repair_request", "repair_packet", self.guest, width, latency=latency, stall=stall
        )
        self.writes = WriteClientModel(
            dut, "write_request", "write_packet", "write_done", self.guest, width,
            latency=(2, 40), stall=stall,
        )  # fmt: skip
        self.rearms = [StreamSink(dut, f"rearm_{i}", stall=stall) for i in range(2)]
        self.recheck = StreamSink(dut, "recheck", stall=stall)
        self.committed_stream = StreamSink(dut, "committed", stall=stall)
        self.failed = Strobes(dut, "failed")
        serve_lookups(dut, ("lookup_issue", "lookup_receive"), self.guest.configs)
        count = len(sizes)
        self.store: list[dict[int, int]] = [{} for _ in range(count)]
        self.committed, self.taken, self.shown = [0] * count, [0] * count, [0] * count
        self.announced = [0] * count
        self.delivered = [0] * count
        self.pending: OrderedDict[int, int] = OrderedDict()
        self._wake = Event()
        self._tasks = [self._schedule(), self._show_taken(), self._announce()]
        self._tasks += [self._collect(sink, 0) for sink in self.rearms]
        self._tasks += [self._collect(self.recheck, 1)]
        self._tasks += [self._walk(queue) for queue in range(count)]
        written = ("write_queue", "write_pointer", "write_descriptor")
        VectorMonitor(dut, "write_en", written, self._written)
        VectorMonitor(dut, "commit_en", ("write_queue", "commit_pointer"), self._commit)

    async def start(self) -> None:
        """Reset, and run."""
        await reset(self.dut)
        for task in self._tasks:
            cocotb.start_soon(task)

    # Scheduler.
    def ring(self, queue: int, doorbell: int = 1) -> None:
        """Put a virtqueue on the list of those to look at."""
        self.pending[queue] = self.pending.get(queue, 0) | doorbell
        self._wake.set()

    async def _schedule(self) -> None:
        while True:
            while not self.pending:
                self._wake.clear()
                await self._wake.wait()
            queue, doorbell = self.pending.popitem(last=False)
            await self.work.send({"queue": queue, "doorbell": doorbell})

    async def _collect(self, sink: StreamSink, doorbell: int) -> None:
        while True:
            self.ring(await sink.receive(), doorbell)

    async def _announce(self) -> None:
        while True:
            self.announced[await self.committed_stream.receive()] += 1

    # Read-ahead store.
    def _written(self, queue: int, pointer: int, descriptor: int) -> None:
        ahead = (pointer - self.shown[queue]) % (2 * self.depth)
        assert ahead < self.depth, "written over a descriptor that the walker has not taken"
        self.store[queue][pointer % self.depth] = descriptor

    def _commit(self, queue: int, pointer: int) -> None:
        assert 0 < (pointer - self.committed[queue]) % (2 * self.depth) <= self.depth
        self.committed[queue] = pointer

    async def _show_taken(self) -> None:
        read = reader(self.dut.taken_queue)
        ports = [writer(getattr(self.dut, f"taken_{path}")) for path in range(PATHS)]
        edge = RisingEdge(self.dut.clk)
        while True:
            await edge
            queue = read()
            for path, write in enumerate(ports):
                known = queue < len(self.shown) and queue % PATHS == path
                write(self.shown[queue] if known else random.randrange(2 * self.depth))

    # Walker: takes what is committed, compares it, and uses the buffer.
    async def _walk(self, queue: int) -> None:
        driver = self.drivers[queue]
        chain: list[Any] = []
        ring_slot, wrap = 0, 1
        while True:
            if self.taken[queue] == self.committed[queue]:
                await cycles(self.dut)
                continue
            if self.slow and random.random() < 0.3:
                await cycles(self.dut, random.choice([1, 3, 20]))
            descriptor = unpack(Descriptor, self.store[queue][self.taken[queue] % self.depth])
            chain.append(dict(descriptor))
            self.taken[queue] = (self.taken[queue] + 1) % (2 * self.depth)
            crossed = self.taken[queue] % self.batch == 0
            if crossed or self.taken[queue] == self.committed[queue]:
                self.shown[queue] = self.taken[queue]
            if crossed:
                self.ring(queue, 0)
            if descriptor["next"]:
                continue
            want = driver.expected.popleft()
            assert chain == want or not self.check_chains, (
                f"virtqueue {queue} of {driver.size}, chain {self.delivered[queue]}: "
                f"{len(chain)} descriptors {chain}, not {len(want)}: {want}"
            )
            self.delivered[queue] += 1
            cocotb.start_soon(self._use(driver, ring_slot, wrap, chain))
            ring_slot += len(chain)
            if ring_slot >= driver.size:
                ring_slot, wrap = ring_slot - driver.size, 1 - wrap
            chain = []

    async def _use(self, driver: Driver, slot: int, wrap: int, chain: list[Any]) -> None:
        """Give the slots back, with a used descriptor in the first, as the device would."""
        if self.slow:
            await cycles(self.dut, 5)
        used = (AVAIL | USED) if wrap else 0
        driver.put(slot, 0, descriptor_bytes(0, random.getrandbits(8), chain[0]["id"], flags=used))
        driver.free += len(chain)


async def two_in_flight(rig: Rig) -> int:
    """Answer the first batch, full; return the batch size with the next two reads in flight."""
    batch, driver, held = rig.batch, rig.drivers[1], rig.held
    for _ in range(batch):
        driver.add_now(1)
    driver.kick()
    await until(rig.dut, lambda: len(held.requests) == 1, 100)
    held.answer(held.sample(0))
    await until(rig.dut, lambda: len(held.requests) == 3, 200)
    area = rig.guest.configs[1]["descriptor_area"]
    for index in range(3):
        assert held.requests[index]["address"] == area + 16 * batch * index
        assert held.requests[index]["length"] == 16 * batch
    return batch


async def flood_in_flight(dut: Any) -> Rig:
    """A rig whose next two reads are in flight, the first of them full but for its last slot."""
    rig = Rig(dut, [100, 8 * params().batch], stall=0.0, held=True)
    await rig.start()
    await two_in_flight(rig)
    for _ in range(rig.batch - 1):
        rig.drivers[1].add_now(1)
    return rig
