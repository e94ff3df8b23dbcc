"""What tests of `Fetch` share: reads, a walker and a scheduler in Python."""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from typing import Any, Protocol

import cocotb
from cocotb.triggers import Event, RisingEdge
from virtqueue_helper import Strobes, VectorMonitor, serve_lookups

from lib.dma_model import ReadClientModel, WriteClientModel, packet_beats
from lib.layout import pack, unpack
from lib.port import reader, writer
from lib.sim import params
from lib.streams import StreamSink, StreamSource, cycles, reset, start_clock
from virtio_rtl.types.dma import ReadRequest
from virtio_rtl.types.packet import packet_beat
from virtio_rtl.types.virtqueue import Descriptor, RingFeatures, WorkItem

PATHS = 2


class GuestMemory(Protocol):
    """Memory with rings."""

    configs: list[dict[str, int]]

    def device_read(self, address: int, length: int, /) -> bytes:
        """Read bytes."""

    def device_write(self, address: int, content: bytes, /) -> None:
        """Write bytes."""


class RingDriver(Protocol):
    """A driver of one virtqueue."""

    size: int
    expected: deque[list[dict[str, int]]]

    async def use(self, chain: list[Any]) -> None:
        """Take a chain back from the device."""


class LineReads(ReadClientModel):
    """Samples the cache lines of a read at moments of their own."""

    ascending = True

    async def _sample(self, request: Any, answer: dict[str, Any], ready: Event) -> None:
        start, end = request["address"], request["address"] + request["length"]
        lines = [(max(line, start), min(line + 64, end)) for line in range(start & ~63, end, 64)]
        delay = random.randint(*self.latency)
        moments = sorted(random.randint(0, delay) for _ in lines)
        order = list(range(len(lines)))
        if not self.ascending:
            random.shuffle(order)
        failed = bool(self.fail and self.fail(start))
        content, now = [b""] * len(lines), 0
        for moment, place in zip(moments, order, strict=True):
            await cycles(self.dut, moment - now)
            now = moment
            first, last = lines[place]
            content[place] = self.memory.device_read(first, last - first)
        await cycles(self.dut, delay - now)
        answer["error"] = failed
        answer["data"] = random.randbytes(end - start) if failed else b"".join(content)
        ready.set()


class HeldReads:
    """Descriptor reads that are sampled and answered when the test says so."""

    def __init__(self, dut: Any, guest: GuestMemory, width: int):
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


class FetchRig:
    """A `Fetch` with everything around it."""

    features: dict[str, int]

    def __init__(
        self, dut: Any, guest: Any, drivers: list[Any], *, stall: float, held: bool = False,
        slow: bool = True, latency: tuple[int, int] = (3, 60), ascending: bool = True,
    ):  # fmt: skip
        self.dut = dut
        self.batch, self.depth, width = params().batch, params().depth, params().width
        self.slow = slow
        self.check_chains = True
        self.hold = False
        self.now = 0  # cycles
        start_clock(dut)
        self.guest, self.drivers = guest, drivers
        self.work = StreamSource(dut, "work", WorkItem, stall=stall)
        self.held: Any = HeldReads(dut, self.guest, width) if held else None
        self.reads: Any = None
        if not held:
            self.reads = LineReads(
                dut, "read_request", "read_packet", self.guest, width, latency=latency, stall=stall
            )
        self.ring_reads = LineReads(
            dut, "ring_request", "ring_packet", self.guest, width, latency=latency, stall=stall
        )
        for client in (self.reads, self.ring_reads):
            if client is not None:
                client.ascending = ascending
        self.writes = WriteClientModel(
            dut, "write_request", "write_packet", "write_done", self.guest, width,
            latency=(2, 40), stall=stall,
        )  # fmt: skip
        self.rearms = [StreamSink(dut, f"rearm_{i}", stall=stall) for i in range(2)]
        self.recheck = StreamSink(dut, "recheck", stall=stall)
        self.committed_stream = StreamSink(dut, "committed", stall=stall)
        self.failed = Strobes(dut, "failed")
        serve_lookups(dut, ("lookup_issue", "lookup_receive"), self.guest.configs)
        count = len(drivers)
        self.store: list[dict[int, int]] = [{} for _ in range(count)]
        self.committed, self.taken, self.shown = [0] * count, [0] * count, [0] * count
        self.announced = [0] * count
        self.delivered = [0] * count
        self.chain_lengths: list[list[int]] = [[] for _ in range(count)]
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
        self.dut.features.value = pack(RingFeatures, self.features)
        self.dut.forget.value = 0
        self.dut.forget_queue.value = 0
        self.dut.short_reads.value = 0
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
            while not self.pending or self.hold:
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
            self.now += 1
            queue = read()
            for path, write in enumerate(ports):
                known = queue < len(self.shown) and queue % PATHS == path
                write(self.shown[queue] if known else random.randrange(2 * self.depth))

    # Walker: takes what is committed, compares it, and uses the buffer.
    async def _walk(self, queue: int) -> None:
        driver: RingDriver = self.drivers[queue]
        chain: list[Any] = []
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
            self.chain_lengths[queue].append(len(chain))
            cocotb.start_soon(driver.use(chain))
            chain = []
