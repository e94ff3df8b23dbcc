"""The entropy device at its door, and the bytes that its port has been given."""

from __future__ import annotations

import random
from typing import Any

from lib.dma_model import packet_beats, packet_bytes
from lib.sim import params
from lib.streams import StreamSink, StreamSource, start_clock
from virtio_rtl.config import DeviceConfig
from virtio_rtl.config_entropy import EntropyConfig
from virtio_rtl.device.entropy import EntropyDevice
from virtio_rtl.types.packet import packet_beat
from virtio_rtl.types.virtqueue import Reply, Request

__all__ = ["LARGEST", "Bench", "PortBytes", "build"]

LARGEST = 300
"""No multiple of a beat, and several of them."""


class Bench:
    """The device's door, and the bytes that its port has been given."""

    def __init__(self, dut: Any, stall: float = 0.3):
        self.dut = dut
        self.width = params().width
        self.lanes = self.width // 8
        beat = packet_beat(self.width)
        start_clock(dut)
        self.request = StreamSource(dut, "request", Request, stall=stall)
        self.readable = StreamSource(dut, "readable", beat, stall=stall)
        self.reply = StreamSink(dut, "reply", Reply, stall=stall)
        self.writable = StreamSink(dut, "writable", beat, stall=stall)
        self.words = StreamSource(dut, "entropy", stall=stall) if self.with_port else None
        dut.open.value = 1
        dut.resetting.value = dut.suspending.value = 0

    @property
    def with_port(self) -> bool:
        return params().source == "port"

    def ask(self, writable: int, readable: bytes = b"") -> None:
        """A request, with a packet if it has readable bytes."""
        self.request.queue(
            [{"queue": random.getrandbits(16), "readable": len(readable), "writable": writable}]
        )
        if readable:
            error = random.random() < 0.3
            self.readable.queue(packet_beats(readable, self.width, error=error))

    def give(self, data: bytes) -> None:
        """Words at the port."""
        step = params().word_bits // 8
        assert self.words is not None
        self.words.queue(
            int.from_bytes(data[at : at + step], "little") for at in range(0, len(data), step)
        )

    async def take(self, length: int) -> bytes:
        """The packet of a reply of `length` bytes."""
        if not length:
            return b""
        data, error = await packet_bytes(self.writable)
        assert not error
        assert len(data) == length
        return data

    async def answer(self) -> bytes:
        """The next reply with its packet."""
        return await self.take((await self.reply.receive())["length"])


class PortBytes:
    """The answers that a stream of bytes must give: whole beats, the rest of the last dropped."""

    def __init__(self, data: bytes, lanes: int):
        self.data = data
        self.lanes = lanes

    def __call__(self, length: int) -> bytes:
        taken = -(-length // self.lanes) * self.lanes
        answer, self.data = self.data[:length], self.data[taken:]
        return answer


def build(width: int, **entropy: Any) -> EntropyDevice:
    """The device of a data width and a source."""
    options = EntropyConfig(largest_reply=LARGEST, **entropy)
    return EntropyDevice(
        DeviceConfig(name="entropy", device="entropy", width=width, entropy=options)
    )
