"""The virtqueue engine between a driver model in guest memory and the door to a device."""

from __future__ import annotations

import random
from dataclasses import replace

import cocotb
import pytest
from cocotb.triggers import RisingEdge

from lib.dma_model import ReadClientModel, WriteClientModel, packet_beats, packet_bytes
from lib.layout import pack
from lib.net_features import wanted_features
from lib.port import reader, writer
from lib.sim import params, simulate
from lib.streams import StreamSink, StreamSource, cycles, reset, start_clock
from virtio_model.driver.make import Queue, make_queue
from virtio_model.driver.net import NetDriver
from virtio_model.memory import Allocator, GuestMemory
from virtio_rtl.config import named_config
from virtio_rtl.types.packet import packet_beat
from virtio_rtl.types.virtqueue import (
    Doorbell,
    InterruptRequest,
    QueueConfig,
    RingFeatures,
    WritableRequest,
)
from virtio_rtl.virtqueue.clients import LOOKUPS, WRITE_CLIENTS, read_clients
from virtio_rtl.virtqueue.engine import VirtqueueEngine

MAX_PACKET = 9030


class Rig:
    """Engine, guest memory, one receive and one transmit virtqueue."""

    def __init__(self, dut, *, stall: float = 0.0, latency=(20, 60), sizes=(64, 64)):
        self.dut = dut
        self.width = params().width
        self.memory = GuestMemory(1 << 22)
        self.allocator = Allocator(self.memory)
        start_clock(dut)
        dut.enable.value = 0
        dut.features.value = pack(RingFeatures, {"packed": params().ring == "packed"})
        self.reads = {
            name: ReadClientModel(
                dut, f"read_request_{i}", f"read_packet_{i}", self.memory, self.width,
                latency=latency, stall=stall,
            )
            for i, name in enumerate(read_clients(named_config("net-x8"), "pairs"))
        }  # fmt: skip
        self.writes = {
            name: WriteClientModel(
                dut, f"write_request_{i}", f"write_packet_{i}", f"write_done_{i}", self.memory,
                self.width, stall=stall,
            )
            for i, name in enumerate(WRITE_CLIENTS)
        }  # fmt: skip
        self.doorbell = StreamSource(dut, "doorbell", Doorbell, stall=stall)
        self.readable = StreamSink(dut, "readable", packet_beat(self.width), stall=stall)
        self.wanted = StreamSource(dut, "wanted", WritableRequest, stall=stall)
        self.writable = StreamSource(dut, "writable", packet_beat(self.width), stall=stall)
        self.interrupts = StreamSink(dut, "interrupt", InterruptRequest, stall=stall)
        self.queues = [self._queue(size) for size in sizes]
        self.driver = NetDriver(self.memory, self.allocator, self.queues[0], self.queues[1])
        self.failed = 0
        cocotb.start_soon(self._serve_lookups())
        cocotb.start_soon(self._count_failures())

    def _queue(self, size: int) -> Queue:
        return make_queue(
            self.memory,
            self.allocator,
            size,
            wanted_features(params().ring),
            shuffle_ids=random.Random(random.random()),
        )

    async def _count_failures(self):
        failed = reader(self.dut.failed)
        while True:
            await RisingEdge(self.dut.clk)
            self.failed += failed()

    async def _serve_lookups(self):
        ports = [
            (
                reader(getattr(self.dut, f"lookup_{i}__queue")),
                writer(getattr(self.dut, f"lookup_{i}__config")),
            )
            for i in range(len(LOOKUPS["pairs"]))
        ]
        packed = [
            pack(
                QueueConfig,
                {
                    "enabled": 1,
                    "size": queue.size,
                    "descriptor_area": queue.desc_addr,
                    "driver_area": queue.driver_addr,
                    "device_area": queue.device_addr,
                },
            )
            for queue in self.queues
        ]
        while True:
            await RisingEdge(self.dut.clk)
            for read, write in ports:
                queue = read()
                write(packed[queue] if queue < len(packed) else 0)

    async def start(self):
        await reset(self.dut)
        await cycles(self.dut, 20)
        self.dut.enable.value = 1

    def kick(self, queue: int) -> None:
        if self.queues[queue].needs_kick():
            self.doorbell.queue([{"queue": queue}])

    async def until(self, condition, limit: int = 20_000):
        for _ in range(limit // 10):
            if condition():
                return
            await cycles(self.dut, 10)
        raise AssertionError(f"not within {limit} cycles")


def any_size(*sizes: int) -> int:
    """One of these; with split virtqueues a power of two."""
    split = params().ring == "split"
    return random.choice([size for size in sizes if not split or size.bit_count() == 1])


def random_frame(longest: int = 400) -> bytes:
    return random.randbytes(random.randint(14, longest))


def random_cuts(length: int, most: int = 8) -> tuple[int, ...]:
    pieces = min(random.choice([0, 0, 0, 1, 2, 3, 7]), most - 1)
    return tuple(random.randrange(1, length) for _ in range(pieces))


async def transmit(rig: Rig, count: int, *, indirect: bool = True) -> None:
    """Send `count` random frames framed at random; what the device gets must be just those."""
    expected: list[bytes] = []
    done: list[int] = []
    sent = 0

    async def collect():
        for index in range(count):
            data, error = await packet_bytes(rig.readable)
            assert not error
            assert data[12:] == expected[index], f"frame {index}"

    collector = cocotb.start_soon(collect())
    while len(done) < count:
        for _ in range(random.randint(0, 20)):
            frame = random_frame()
            cuts = random_cuts(len(frame) + 12, rig.queues[1].size)
            use_table = indirect and random.random() < 0.4
            if sent == count or rig.queues[1].free_slots < (1 if use_table else len(cuts) + 1):
                break
            rig.driver.send(
                frame, cuts=cuts, indirect=use_table, skew=random.randrange(64), cookie=sent
            )
            expected.append(frame)
            sent += 1
        rig.kick(1)
        await cycles(rig.dut, random.choice([1, 5, 50, 300]))
        done += rig.driver.reap()
        rig.queues[1].audit()
    await collector
    assert done == list(range(count)), "completed once each, in order"
    assert not rig.memory.faults


async def receive(rig: Rig, count: int) -> None:
    """Random packets into random buffers; the driver must get just those, in order."""
    sent: list[bytes] = []
    received = 0
    while received < count:
        for _ in range(random.randint(0, 20)):
            cuts = random_cuts(600, rig.queues[0].size)
            use_table = random.random() < 0.4
            if rig.queues[0].free_slots < (1 if use_table else len(cuts) + 1):
                break
            rig.driver.post(600, cuts=cuts, indirect=use_table, skew=random.randrange(64))
        rig.kick(0)
        if len(sent) < count and len(sent) - received < 30:
            for _ in range(min(random.randint(0, 12), count - len(sent))):
                frame = random_frame()
                sent.append(frame)
                packet = bytes(10) + b"\x01\x00" + frame
                rig.wanted.queue([{"queue": 0, "length": len(packet)}])
                rig.writable.queue(packet_beats(packet, rig.width))
        await cycles(rig.dut, random.choice([1, 5, 50, 300]))
        while (got := rig.driver.receive()) is not None:
            assert got.frame == sent[received], f"frame {received}"
            received += 1
        rig.queues[0].audit()
    assert not rig.memory.faults


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def transmit_random_framing(dut):
    rig = Rig(dut, stall=random.choice([0, 0.2]), sizes=(16, any_size(7, 16, 64, 100)))
    await rig.start()
    await transmit(rig, 150)
    assert rig.failed == 0
    assert len(rig.interrupts) > 0


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def receive_random_framing(dut):
    rig = Rig(dut, stall=random.choice([0, 0.2]), sizes=(any_size(7, 16, 64, 100), 16))
    await rig.start()
    await receive(rig, 150)
    assert rig.failed == 0


@cocotb.test(timeout_time=4, timeout_unit="ms")
async def both_directions(dut):
    rig = Rig(dut, stall=0.1, sizes=(any_size(61, 64), any_size(33, 32)))
    await rig.start()
    one = cocotb.start_soon(transmit(rig, 120))
    two = cocotb.start_soon(receive(rig, 120))
    await one
    await two
    assert rig.failed == 0


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def no_interrupt_when_disabled(dut):
    rig = Rig(dut)
    await rig.start()
    rig.queues[1].disable_interrupts()
    await transmit(rig, 20)
    await cycles(dut, 300)
    assert len(rig.interrupts) == 0
    rig.queues[1].enable_interrupts()
    await transmit_more(rig)
    await rig.until(lambda: len(rig.interrupts) > 0)
    first = rig.interrupts.now()
    assert (first["queue"], first["config"]) == (1, 0)


async def transmit_more(rig: Rig) -> None:
    rig.driver.send(random_frame(), cookie=0)
    rig.kick(1)
    await packet_bytes(rig.readable)
    await rig.until(lambda: rig.driver.reap() == [0])


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def early_doorbell_is_kept(dut):
    """Before DRIVER_OK nothing is read; afterwards the buffers are found."""
    rig = Rig(dut)
    await reset(dut)
    await cycles(dut, 20)
    rig.driver.send(b"early" * 10, cookie=7)
    rig.doorbell.queue([{"queue": 1}] * 3)
    await cycles(dut, 300)
    assert all(model.requests == 0 for model in rig.reads.values())
    dut.enable.value = 1
    data, _ = await packet_bytes(rig.readable)
    assert data[12:] == b"early" * 10
    await rig.until(lambda: rig.driver.reap() == [7])


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def doorbell_is_never_lost(dut):
    """One buffer at a time, kicked only when the device asks for it, at any distance."""
    rig = Rig(dut, latency=(5, 40))
    await rig.start()
    for index in range(150):
        rig.driver.send(random_frame(60), cookie=index)
        rig.kick(1)
        if random.random() < 0.3:
            await cycles(dut, random.randint(1, 120))
        if rig.queues[1].free_slots < 8:
            await rig.until(lambda: bool(rig.driver.reap()), 4000)
    await rig.until(lambda: not rig.driver.reap() and rig.queues[1].outstanding == 0, 4000)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def bad_tables_are_errors(dut):
    """An indirect table with a length that is no multiple of 16, and one of length 0."""
    rig = Rig(dut)
    await rig.start()
    flags = 14 if params().ring == "packed" else 12
    table = rig.queues[1].desc_addr
    patched = set()
    for position, length in enumerate((24, 0)):
        rig.driver.send(b"x" * 40, cuts=(12,), indirect=True)
        pointing = {
            at for at in range(table, table + 16 * 64, 16) if rig.memory.read(at + flags, 1)[0] & 4
        }
        (at,) = pointing - patched
        patched.add(at)
        rig.memory.write_u32(at + 8, length)
        rig.kick(1)
        await rig.until(lambda seen=position: rig.failed == seen + 1, 2000)
    assert rig.readable.count == 0


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def packet_that_does_not_fit_is_dropped(dut):
    rig = Rig(dut)
    await rig.start()
    for _ in range(3):
        rig.driver.post(100)
    rig.kick(0)
    for size in (90, 200, 100):
        packet = bytes(10) + b"\x01\x00" + bytes(size - 12)
        rig.wanted.queue([{"queue": 0, "length": size}])
        rig.writable.queue(packet_beats(packet, rig.width))
    await rig.until(lambda: rig.queues[0].memory.faults or rig.wanted.count == 3)
    lengths = []
    await cycles(dut, 600)
    while (used := rig.queues[0].poll()) is not None:
        lengths.append(used.length)
    assert lengths == [90, 0, 100]
    assert not rig.memory.faults


@pytest.mark.parametrize(
    ("width", "ring"),
    [(64, "packed"), (128, "split"), (256, "packed"), (512, "split")],
)
def test_virtqueue_engine(width, ring):
    config = replace(named_config("net-x8"), width=width, read_ahead=64)
    simulate(
        VirtqueueEngine(config, MAX_PACKET),
        module=__name__,
        name=f"virtqueue_engine_{ring}_{width}",
        params={"width": width, "ring": ring},
        waive=[],
    )
