"""The engine of a request device between a driver model and a device in Python."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cocotb
from virtqueue_helper import Strobes, queue_config, serve_lookups, until

from lib.dma_model import ReadClientModel, WriteClientModel, packet_beats, packet_bytes
from lib.layout import pack
from lib.net_features import wanted_features
from lib.sim import params
from lib.streams import StreamSink, StreamSource, cycles, reset, start_clock
from virtio_model.driver.framing import Layout, lay_out
from virtio_model.driver.make import make_queue
from virtio_model.memory import Allocator, GuestMemory
from virtio_rtl.config import DeviceConfig, named_config
from virtio_rtl.types.packet import packet_beat
from virtio_rtl.types.virtqueue import Doorbell, InterruptRequest, Reply, Request, RingFeatures
from virtio_rtl.virtqueue.clients import LOOKUPS, WRITE_CLIENTS, read_clients

__all__ = ["CONFIG", "Device", "Rig", "Seen", "echo"]

CONFIG: DeviceConfig = named_config("net-x8")
"""Of the number of virtqueues and of what is built."""


def echo(data: bytes) -> bytes:
    """What the device answers: its input, told apart from it."""
    return bytes(byte ^ 0xA5 for byte in data)


class LastAllocator(Allocator):
    """Knows what was handed out last: the table of an indirect buffer."""

    last = 0

    def alloc(self, size: int, align: int = 16, skew: int = 0) -> int:
        """As the allocator's, and remembered."""
        self.last = super().alloc(size, align, skew)
        return self.last


@dataclass
class Seen:
    """A request as the device saw it, and its reply."""

    queue: int
    writable: int
    data: bytes
    error: bool
    reply: bytes


class Device:
    """Answers with `echo`, cut to the room, or ahead of its input with bytes of its own.

    `early`: chance of the latter. `answer` may be replaced.
    """

    def __init__(self, dut: Any, width: int, *, stall: float, early: float) -> None:
        self.dut = dut
        self.width = width
        self.early = early
        self.thinks: tuple[int, int] = (0, 0)
        self.answer: Callable[[Any, bytes], bytes] = lambda request, data: echo(data)[
            : request.writable
        ]
        self.seen: list[Seen] = []
        self.requests = StreamSink(dut, "request", Request, stall=stall)
        self.readable = StreamSink(dut, "readable", packet_beat(width), stall=stall)
        self.replies = StreamSource(dut, "reply", Reply, stall=stall)
        self.writable = StreamSource(dut, "writable", packet_beat(width), stall=stall)
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        while True:
            request = await self.requests.receive()
            await cycles(self.dut, random.randint(*self.thinks))
            early = random.random() < self.early
            reply = random.randbytes(random.randint(0, request.writable)) if early else b""
            if early:
                self._reply(reply)
            data, error = b"", False
            if request.readable:
                data, error = await packet_bytes(self.readable)
            assert len(data) == request.readable
            if not early:
                reply = self.answer(request, data)
                self._reply(reply)
            self.seen.append(Seen(request.queue, request.writable, data, error, reply))

    def _reply(self, reply: bytes) -> None:
        self.replies.queue([{"length": len(reply)}])
        self.writable.queue(packet_beats(reply, self.width))


@dataclass
class Sent:
    """A request as the driver made it; `before`: its writable part until it is answered."""

    data: bytes
    out: Layout
    into: Layout
    before: bytes
    broken: bool = False


class Rig:
    """Engine, guest memory, two virtqueues, a driver and a device.

    `shuffle`: the driver uses ids, and split descriptors, in any order. `in_order`: IN_ORDER was
    accepted, and the driver checks it.
    """

    def __init__(
        self,
        dut: Any,
        *,
        stall: float = 0.0,
        early: float = 0.0,
        latency: tuple[int, int] = (20, 60),
        sizes: tuple[int, int] = (64, 64),
        shuffle: bool = False,
        in_order: bool = False,
    ):
        self.dut = dut
        self.width = params().width
        self.memory = GuestMemory(1 << 22)
        self.allocator = LastAllocator(self.memory)
        start_clock(dut)
        for name in ("enable", "short_reads", "crowded", "pause", "hold", "forget"):
            getattr(dut, name).value = 0
        dut.forget_queue.value = 0
        packed = params().ring == "packed"
        dut.features.value = pack(RingFeatures, {"packed": packed, "in_order": in_order})
        names = ("indirect_desc", "in_order") if in_order else ("indirect_desc",)
        self.reads = {
            name: ReadClientModel(
                dut, f"read_request_{i}", f"read_packet_{i}", self.memory, self.width,
                latency=latency, stall=stall,
            )
            for i, name in enumerate(read_clients(CONFIG, "requests"))
        }  # fmt: skip
        self.writes = {
            name: WriteClientModel(
                dut, f"write_request_{i}", f"write_packet_{i}", f"write_done_{i}", self.memory,
                self.width, stall=stall,
            )
            for i, name in enumerate(WRITE_CLIENTS)
        }  # fmt: skip
        self.doorbell = StreamSource(dut, "doorbell", Doorbell, stall=stall)
        self.enabled = StreamSource(dut, "enabled_queue", stall=stall)
        self.interrupts = StreamSink(dut, "interrupt", InterruptRequest, stall=stall)
        self.device = Device(dut, self.width, stall=stall, early=early)
        self.failed = Strobes(dut, "failed")
        self.queues = [
            make_queue(
                self.memory, self.allocator, size, wanted_features(params().ring, names),
                shuffle_ids=random.Random(random.random()) if shuffle else None,
            )
            for size in sizes
        ]  # fmt: skip
        self.sent: list[deque[Sent]] = [deque() for _ in sizes]
        self.behind: list[int] = [0 for _ in sizes]  # of `device.seen`, by virtqueue
        self.done = 0
        configs = [
            queue_config(queue.size, 0)
            | {
                "descriptor_area": queue.desc_addr,
                "driver_area": queue.driver_addr,
                "device_area": queue.device_addr,
            }
            for queue in self.queues
        ]
        lookups = range(len(LOOKUPS["requests"]))
        serve_lookups(dut, [f"lookup_{i}" for i in lookups], configs)

    async def start(self) -> None:
        """Out of reset, DRIVER_OK."""
        await reset(self.dut)
        await cycles(self.dut, 20)
        self.dut.enable.value = 1

    def kick(self, queue: int) -> None:
        """Notify, if the device wants to know."""
        if self.queues[queue].needs_kick():
            self.doorbell.queue([{"queue": queue}])

    def submit(
        self,
        queue: int,
        readable: int,
        writable: int,
        *,
        out_cuts: tuple[int, ...] = (),
        into_cuts: tuple[int, ...] = (),
        indirect: bool = False,
        broken: bool = False,
    ) -> None:
        """Make a request of so many bytes available; both parts are cut where it says."""
        data, before = random.randbytes(readable), random.randbytes(writable)
        skew = random.randrange(64)
        out = self._lay(readable, out_cuts, skew)
        into = self._lay(writable, into_cuts, 63 - skew)
        out.write(self.memory, data)
        into.write(self.memory, before)
        self.queues[queue].add(out.segments, into.segments, cookie=None, indirect=indirect)
        self.sent[queue].append(Sent(data, out, into, before, broken))

    def _lay(self, length: int, cuts: tuple[int, ...], skew: int) -> Layout:
        return lay_out(self.allocator, length, cuts, skew=skew) if length else Layout(())

    def reap(self) -> int:
        """Take answers back, and compare each with what the device saw; how many there were."""
        count = 0
        for number, queue in enumerate(self.queues):
            while (used := queue.poll()) is not None:
                count += 1
                sent = self.sent[number].popleft()
                reply = b"" if sent.broken else self._answered(number, sent)
                assert used.length == len(reply)
                after = sent.into.read(self.memory, len(sent.before))
                assert after == reply + sent.before[len(reply) :]
                sent.out.free(self.allocator)
                sent.into.free(self.allocator)
        self.done += count
        return count

    def _answered(self, queue: int, sent: Sent) -> bytes:
        """The reply to this virtqueue's next request; none if it is longer than there is room."""
        seen = [one for one in self.device.seen if one.queue == queue]
        assert len(seen) > self.behind[queue], "given back before the device was done with it"
        one = seen[self.behind[queue]]
        self.behind[queue] += 1
        assert one.writable == len(sent.before)
        assert one.error or one.data == sent.data
        return one.reply if len(one.reply) <= one.writable else b""

    async def finish(self, limit: int = 20_000) -> None:
        """Wait until all is answered."""
        await until(
            self.dut,
            lambda: self.reap() >= 0 and not any(queue.outstanding for queue in self.queues),
            limit,
        )
        for queue in self.queues:
            queue.audit()
        assert not self.memory.faults

    async def rested(self, limit: int = 5000) -> None:
        """Wait until the engine says that it is at rest."""
        await until(self.dut, lambda: bool(self.dut.rested.value), limit)
