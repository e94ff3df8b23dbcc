"""The block device behind its door: golden disk, requests, replies, AXI4 memory."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

from cocotbext.axi import AxiBus, AxiSlave

from lib.dma_model import packet_beats, packet_bytes
from lib.sim import params
from lib.streams import StreamSink, StreamSource, cycles, start_clock
from virtio_model.spec.blk import BlkFeature, RequestStatus, RequestType
from virtio_model.spec.features import mask
from virtio_rtl.config import DeviceConfig
from virtio_rtl.config_blk import BlkConfig
from virtio_rtl.types.packet import packet_beat
from virtio_rtl.types.virtqueue import Reply, Request

__all__ = ["ALL", "AXI_CONSTANT", "BlkRig", "GoldenDisk", "blk_config", "header", "segment"]

ALL = mask([BlkFeature.FLUSH, BlkFeature.DISCARD, BlkFeature.WRITE_ZEROES])
AXI_CONSTANT = [
    f"axi__{kind}{port}"
    for kind in ("aw", "ar")
    for port in ("id", "size", "burst", "cache", "prot")
] + ["axi__wstrb"]
"""Outputs that never change; a conversion must be told of them."""

OK, IOERR, UNSUPP = RequestStatus.OK, RequestStatus.IOERR, RequestStatus.UNSUPP


def blk_config(width: int, **blk: Any) -> DeviceConfig:
    """Return the configuration of a block device."""
    return DeviceConfig("blk", device="blk", width=width, blk=BlkConfig(**blk))


def header(kind: int, sector: int = 0, reserved: int = 0) -> bytes:
    """Sixteen bytes. [virtio 1.4 §5.2.6]"""
    return (
        kind.to_bytes(4, "little") + reserved.to_bytes(4, "little") + sector.to_bytes(8, "little")
    )


def segment(sector: int, sectors: int, flags: int = 0) -> bytes:
    """A segment of DISCARD or WRITE_ZEROES. [virtio 1.4 §5.2.6]"""
    return (
        sector.to_bytes(8, "little") + sectors.to_bytes(4, "little") + flags.to_bytes(4, "little")
    )


class GoldenDisk:
    """What the device must answer, request by request; written from the specification."""

    def __init__(self, config: BlkConfig, features: int = ALL):
        self.config = config
        self.features = features
        self.image = bytearray(512 * config.capacity_sectors)

    def answer(self, readable: bytes, writable: int, *, error: bool = False) -> bytes:
        """Do a request; the bytes of its writable part."""
        if writable == 0:
            return b""
        status, data = (IOERR, b"") if error else self._do(readable, writable - 1)
        return data.ljust(writable - 1, b"\0") + bytes([status])

    def _accepted(self, feature: BlkFeature) -> bool:
        return bool(self.features >> feature & 1)

    def _do(self, readable: bytes, room: int) -> tuple[int, bytes]:
        if len(readable) < 16:
            return IOERR, b""
        kind = int.from_bytes(readable[:4], "little")
        sector = int.from_bytes(readable[8:16], "little")
        body = readable[16:]
        if kind == RequestType.IN:
            if not self._holds(sector, room):
                return IOERR, b""
            return OK, bytes(self.image[512 * sector : 512 * sector + room])
        if kind == RequestType.OUT:
            if self.config.read_only or not self._holds(sector, len(body)):
                return IOERR, b""
            self.image[512 * sector : 512 * sector + len(body)] = body
            return OK, b""
        if kind == RequestType.GET_ID:
            return OK, self.config.identity.encode().ljust(20, b"\0")[:room]
        if kind == RequestType.FLUSH and self._accepted(BlkFeature.FLUSH):
            return OK, b""
        if kind == RequestType.DISCARD and self._accepted(BlkFeature.DISCARD):
            return self._zero(body, self.config.max_discard_sectors,
                              self.config.max_discard_seg, 0), b""  # fmt: skip
        if kind == RequestType.WRITE_ZEROES and self._accepted(BlkFeature.WRITE_ZEROES):
            return self._zero(body, self.config.max_write_zeroes_sectors,
                              self.config.max_write_zeroes_seg, 1), b""  # fmt: skip
        return UNSUPP, b""

    def _holds(self, sector: int, length: int) -> bool:
        return length % 512 == 0 and sector + length // 512 <= self.config.capacity_sectors

    def _zero(self, body: bytes, longest: int, most: int, flags: int) -> int:
        runs, status = [], OK
        if len(body) % 16 or len(body) // 16 > most:
            status = IOERR
        for at in range(0, len(body) - 15, 16):
            sector = int.from_bytes(body[at : at + 8], "little")
            sectors = int.from_bytes(body[at + 8 : at + 12], "little")
            if int.from_bytes(body[at + 12 : at + 16], "little") & ~flags:
                return UNSUPP
            if sectors > longest or not self._holds(sector, 512 * sectors):
                status = IOERR
            runs.append((sector, sectors))
        if status != OK:
            return status
        for sector, sectors in runs:
            self.image[512 * sector : 512 * (sector + sectors)] = bytes(512 * sectors)
        return OK


class AxiMemory:
    """External memory; sectors in `bad` answer SLVERR."""

    def __init__(self, base: int, size: int):
        self.base = base
        self.content = bytearray(size)
        self.bad: set[int] = set()

    def _at(self, address: int, length: int) -> int:
        offset = address - self.base
        assert offset >= 0, "below the disk"
        assert offset + length <= len(self.content), "above the disk"
        if offset // 512 in self.bad:
            raise ValueError("a bad sector")
        return offset

    async def read(self, address: int, length: int) -> bytes:
        """As cocotbext-axi asks for it."""
        at = self._at(address, length)
        return bytes(self.content[at : at + length])

    async def write(self, address: int, data: bytes) -> None:
        """As cocotbext-axi asks for it."""
        at = self._at(address, len(data))
        self.content[at : at + len(data)] = data


class BlkRig:
    """The device, its clock, what is at its ports, and the golden disk.

    Attach before `reset`. `submit` takes what the engine would hand over; `check` waits for the
    replies to all of it, and compares.
    """

    def __init__(self, dut: Any, *, stall: float = 0.0, features: int = ALL):
        start_clock(dut)
        self.dut, self.stall = dut, stall
        self.width: int = params().width
        self.config = BlkConfig(**params().blk)
        self.golden = GoldenDisk(self.config, features)
        self.expected: deque[tuple[bytes, bytes]] = deque()
        self.memory: AxiMemory | None = None
        if self.config.backend == "axi4":
            self.memory = AxiMemory(self.config.axi_base, len(self.golden.image))
            self.axi = AxiSlave(AxiBus.from_prefix(dut, "axi_"), dut.clk, target=self.memory)
        dut.engine_reset.value = 0
        dut.accepted.value = features
        self.attach()

    def attach(self) -> None:
        """The engine's side; it can be taken away and come back."""
        dut, beat = self.dut, packet_beat(self.width)
        self.request = StreamSource(dut, "request", Request, stall=self.stall)
        self.readable = StreamSource(dut, "readable", beat, stall=self.stall)
        self.reply = StreamSink(dut, "reply", Reply, stall=self.stall)
        self.writable = StreamSink(dut, "writable", beat, stall=self.stall)

    def stall_axi(self, chance: float) -> None:
        """Let every channel of the bus pause at random."""

        def pauses(seed: int) -> Any:
            choose = random.Random(seed)
            while True:
                yield choose.random() < chance

        write, read = self.axi.write_if, self.axi.read_if
        for channel in (write.aw_channel, write.w_channel, write.b_channel,
                        read.ar_channel, read.r_channel):  # fmt: skip
            channel.set_pause_generator(pauses(random.getrandbits(32)))

    def submit(self, readable: bytes, writable: int = 1, *, error: bool = False) -> None:
        """Hand a request over."""
        answer = self.golden.answer(readable, writable, error=error)
        self.expect(readable, writable, answer, error=error)

    def expect(self, readable: bytes, writable: int, answer: bytes, *, error: bool = False) -> None:
        """Hand a request over of which somebody else knows the answer."""
        self.expected.append((readable, answer))
        self.request.queue(
            [
                {
                    "queue": random.randrange(self.config.num_queues),
                    "readable": len(readable),
                    "writable": writable,
                }
            ]
        )
        if readable:
            beats = packet_beats(readable, self.width, error=error)
            for beat in beats[:-1]:
                beat["error"] = random.getrandbits(1)  # counts on the last one only
            self.readable.queue(beats)

    async def check(self) -> None:
        """Compare all replies that are due, the length and every byte, and nothing else."""
        while self.expected:
            readable, answer = self.expected.popleft()
            assert (await self.reply.receive()).length == len(answer)
            if answer:
                data, error = await packet_bytes(self.writable)
                what = readable[:32].hex()
                assert not error
                assert len(data) == len(answer), f"{what}: {len(data)} bytes"
                assert data[-1] == answer[-1], f"{what}: status {data[-1]}, not {answer[-1]}"
                assert data == answer, f"{what}: data"
        await cycles(self.dut, 20)
        assert not len(self.reply)
        assert not len(self.writable)
        if self.memory:
            assert self.memory.content == self.golden.image, "the disk"

    async def reset_engine(self, length: int = 1) -> None:
        """As the reset control does it; the engine's models start over."""
        self.dut.engine_reset.value = 1
        for model in (self.request, self.readable, self.reply, self.writable):
            model.stop()
        self.dut.request__valid.value = self.dut.readable__valid.value = 0
        self.dut.reply__ready.value = self.dut.writable__ready.value = 0
        await cycles(self.dut, length)
        self.dut.engine_reset.value = 0
        await cycles(self.dut, 1)
        self.expected.clear()
        self.attach()

    async def read_back(self) -> bytes:
        """Read the whole disk, and take it for the golden one."""
        size = len(self.golden.image)
        assert not self.expected
        step = 64 * 512
        image = b""
        for at in range(0, size, step):
            length = min(step, size - at)
            request = {"queue": 0, "readable": 16, "writable": length + 1}
            self.request.queue([request])
            self.readable.queue(packet_beats(header(RequestType.IN, at // 512), self.width))
            assert (await self.reply.receive()).length == length + 1
            data, _ = await packet_bytes(self.writable)
            assert data[-1] == OK
            image += data[:-1]
        self.golden.image[:] = image
        return image
