"""What the self-tests of host and endpoint share: ports behind FIFOs, and a device in Python.

The device sees the RTL's ports through `lib.streams` (another codec than the one under test) and is
written in terms of header fields, so that host and endpoint are checked from outside.
"""

from __future__ import annotations

import random
import struct
from typing import Any

import cocotb
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from cocotb.triggers import Timer
from cocotb.utils import get_sim_time

from lib.pcie.endpoint import RtlEndpoint
from lib.pcie.host import HostRootComplex
from lib.sim import params
from lib.streams import StreamSink, StreamSource, cycles, reset, start_clock
from virtio_model.memory import GuestMemory
from virtio_rtl.lib.stream import StreamFIFO
from virtio_rtl.types.tlp import (
    CompletionStatus,
    FlowControlLimits,
    TLPType,
    tlp_beat,
    tlp_stream,
)

BASE = 0x1_0000_0000
SIZE = 1 << 20


class PortsDut(wiring.Component):
    """The device's PCIe ports, each with a FIFO to (or from) the testbench."""

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__(
            {
                "rx_tlp": In(tlp_stream(width)),
                "tx_tlp": Out(tlp_stream(width)),
                "flow_control": In(FlowControlLimits),
                "intx": Out(1),
                "device_rx": Out(tlp_stream(width)),
                "device_tx": In(tlp_stream(width)),
                "device_credits": Out(FlowControlLimits),
                "device_intx": In(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Wire the FIFOs."""
        m = Module()
        beat = tlp_beat(self.width)
        m.submodules.rx = rx = StreamFIFO(beat, 4)
        m.submodules.tx = tx = StreamFIFO(beat, 4)
        wiring.connect(m, wiring.flipped(self.rx_tlp), rx.input)
        wiring.connect(m, wiring.flipped(self.device_rx), rx.output)
        wiring.connect(m, wiring.flipped(self.device_tx), tx.input)
        wiring.connect(m, wiring.flipped(self.tx_tlp), tx.output)
        m.d.sync += [
            self.device_credits.eq(self.flow_control),
            self.intx.eq(self.device_intx),
        ]
        return m


class Device:
    """A PCIe function in Python: configuration space, a 4 KiB BAR, and DMA.

    It is written against the stream's documentation and shares no code with what it tests.
    """

    def __init__(self, dut: Any, width: int, stall: float = 0.0) -> None:
        self.width = width
        self.source = StreamSource(dut, "device_tx", tlp_beat(width), stall=stall)
        self.sink = StreamSink(dut, "device_rx", tlp_beat(width), stall=stall)
        self.config = bytearray(4096)
        struct.pack_into("<HHHH", self.config, 0, 0x1AF4, 0x1041, 0, 0x10)
        self.config[0x34] = 0x40
        struct.pack_into("<BBHI", self.config, 0x40, 0x10, 0, 0x0002, 0x8021)  # MPSS 256, ext. tag
        self.config[0x10] = 0xC  # 64-bit prefetchable
        self.bar = bytearray(4096)
        self.id = 0
        self.completions: list[tuple[dict[str, Any], bytes]] = []
        self.others: list[tuple[dict[str, Any], bytes]] = []
        self.silent = False
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        while True:
            beats = [await self.sink.receive()]
            while not beats[-1].last:
                beats.append(await self.sink.receive())
            assert [b.first for b in beats] == [1] + [0] * (len(beats) - 1)
            header = beats[0].header
            data = b"".join(b.data.to_bytes(self.width // 8, "little") for b in beats)
            has_data = "WRITE" in header.type.name or header.type.name.endswith("DATA")
            size = header.length_dw * 4 if has_data else 0
            assert len(beats) == max(1, -(-size * 8 // self.width))
            self._serve(header, data[:size])

    def _serve(self, header: Any, data: bytes) -> None:
        kind = header.type
        if kind in (TLPType.COMPLETION, TLPType.COMPLETION_DATA):
            self.completions.append((header, data))
        elif self.silent:
            return
        elif kind in (TLPType.CONFIG_READ0, TLPType.CONFIG_WRITE0):
            self.id = header.completer_id
            if kind == TLPType.CONFIG_READ0:
                at = header.address
                self.complete(header, bytes(self.config[at : at + 4]))
            else:
                self._config_write(header.address, data, header.first_be)
                self.complete(header, b"")
        elif kind == TLPType.MEM_READ:
            at = header.address & 0xFFF
            self.complete(header, bytes(self.bar[at : at + 4 * header.length_dw]))
        elif kind == TLPType.MEM_WRITE:
            length = header.length_dw
            for index in range(length):
                enable = header.first_be if index == 0 else 0xF
                enable = header.last_be if index and index == length - 1 else enable
                for lane in range(4):
                    if enable >> lane & 1:
                        at = 4 * index + lane
                        self.bar[(header.address + at) & 0xFFF] = data[at]
        else:
            self.others.append((header, data))

    def _config_write(self, at: int, data: bytes, enable: int) -> None:
        writable = {0x04: b"\x07\x04\0\0", 0x10: b"\0\xf0\xff\xff", 0x14: b"\xff" * 4,
                    0x48: b"\xff\xff\0\0", 0x50: b"\xff\xff\0\0"}  # fmt: skip
        mask = writable.get(at, bytes(4))
        for lane in range(4):
            if enable >> lane & 1:
                old = self.config[at + lane] & ~mask[lane]
                self.config[at + lane] = old | data[lane] & mask[lane]

    def complete(self, request: Any, data: bytes, status: Any = CompletionStatus.SUCCESS) -> None:
        """Answer a request."""
        memory = request.type == TLPType.MEM_READ
        first = (request.first_be & -request.first_be).bit_length() - 1 if memory else 0
        last = request.last_be or request.first_be
        size = request.length_dw * 4 - first - (4 - last.bit_length()) if memory else 4
        self.send(
            {
                "type": TLPType.COMPLETION_DATA if data else TLPType.COMPLETION,
                "length_dw": len(data) // 4,
                "requester_id": request.requester_id,
                "completer_id": self.id,
                "tag": request.tag,
                "byte_count": size,
                "lower_address": (request.address + first & 0x7F) if memory else 0,
                "status": status,
            },
            data,
        )

    def send(self, header: dict[str, Any], data: bytes = b"") -> None:
        """Queue a TLP."""
        lanes = self.width // 8
        count = max(1, -(-len(data) // lanes))
        self.source.queue(
            {
                "data": int.from_bytes(data[k * lanes : (k + 1) * lanes], "little"),
                "header": header if k == 0 else random.getrandbits(64),
                "first": k == 0,
                "last": k == count - 1,
            }
            for k in range(count)
        )

    def read(self, address: int, length: int, tag: int) -> None:
        """Queue a memory read of bytes."""
        self.send({"type": TLPType.MEM_READ, "tag": tag, **self._span(address, length)})

    def write(self, address: int, data: bytes) -> None:
        """Queue a memory write of bytes."""
        span = self._span(address, len(data))
        padded = bytes(address & 3) + data
        padded += bytes(-len(padded) % 4)
        self.send({"type": TLPType.MEM_WRITE, **span}, padded)

    def _span(self, address: int, length: int) -> dict[str, int]:
        first, last = address >> 2, (address + length - 1) >> 2
        enables = [0] * (last - first + 1)
        for byte in range(address, address + length):
            enables[(byte >> 2) - first] |= 1 << (byte & 3)
        return {
            "requester_id": self.id,
            "address": first << 2,
            "length_dw": len(enables),
            "first_be": enables[0],
            "last_be": enables[-1] if len(enables) > 1 else 0,
        }

    async def answers(self, count: int, timeout_ns: int = 20_000) -> None:
        """Wait until that many completions have come."""
        deadline = get_sim_time("ns") + timeout_ns
        while len(self.completions) < count:
            assert get_sim_time("ns") < deadline, f"{len(self.completions)} of {count} completions"
            await Timer(20, "ns")


class Bench:
    """Everything a test needs, with the link trained."""

    host: HostRootComplex
    endpoint: RtlEndpoint
    device: Device
    memory: GuestMemory


async def bench(
    dut: Any, *, stall: float = 0.0, device_stall: float = 0.0, endpoint: Any = None, **host: Any
) -> Bench:
    """Connect host, endpoint and device; reset; wait for the link."""
    width = params().width
    start_clock(dut)
    dut.device_intx.value = 0
    b = Bench()
    b.memory = GuestMemory(SIZE, BASE, raise_faults=False)
    b.memory.grant(BASE, SIZE, writable=True)
    b.memory.write(BASE, random.randbytes(SIZE))
    b.host = HostRootComplex(b.memory, **host)
    b.endpoint = RtlEndpoint(
        dut, width, rx_stall=stall, tx_stall=stall, noise=bool(stall), **(endpoint or {})
    )
    b.device = Device(dut, width, device_stall)
    b.host.make_port().connect(b.endpoint)
    await reset(dut)
    while not b.host.link.up or not b.endpoint.port.up:
        await Timer(10, "ns")
    await cycles(dut, 10)
    return b
