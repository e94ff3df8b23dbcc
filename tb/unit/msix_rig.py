"""What the tests of MSI-X share: the ports, what a driver does, and a checker.

`Checker` watches the ports cycle by cycle. It knows which requests have no message yet, which
vectors are masked by the writes accepted so far, and what the table holds; every message must be
explained by that, and at the end nothing may be left over.
"""

from __future__ import annotations

import random
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from lib.sim import params
from lib.streams import StreamSink, StreamSource, cycles, pack, reset, start_clock, unpack
from virtio_rtl.types.pcie import FunctionControl
from virtio_rtl.types.regbus import RegisterRequest
from virtio_rtl.types.tlp import TLPHeader, TLPType, tlp_beat

__all__ = ["CASES", "PENDING", "TABLE", "setup", "some_vectors"]

TABLE, PENDING = 0x8000, 0xC000

CASES = [(2, 64), (5, 128), (33, 256), (64, 512), (1024, 64)]


class Bench:
    """The ports, the checker, and what a driver does."""

    def __init__(self, dut: Any, stall: float = 0.0, output_stall: float | None = None) -> None:
        self.dut = dut
        self.vectors = params().vectors
        output_stall = stall if output_stall is None else output_stall
        self.bus = StreamSource(dut, "bus__request", RegisterRequest, stall=stall)
        self.response = StreamSink(dut, "bus__response", stall=stall)
        self.request = StreamSource(dut, "request", stall=stall)
        self.tlps = StreamSink(dut, "tlp", tlp_beat(params().width), stall=output_stall)
        dut.clear.value = 0
        dut.forget.value = 0
        dut.stop.value = 0
        dut.hold.value = 0
        self.set_control()
        self.checker = Checker(self)

    def set_control(self, enable: int = 0, function_mask: int = 0, bus_master: int = 1) -> None:
        """Drive what the configuration space would; the rest is random."""
        control = {
            "requester_id": random.getrandbits(16),
            "msix_enable": enable,
            "msix_function_mask": function_mask,
            "bus_master_enable": bus_master,
            "memory_enable": random.getrandbits(1),
            "intx_disable": random.getrandbits(1),
        }
        self.dut.control.value = pack(FunctionControl, control)

    def queue_write(self, address: int, value: int, byte_enable: int = 15) -> None:
        """Queue a register write."""
        self.bus.queue(
            [{"address": address, "write": 1, "data": value, "byte_enable": byte_enable}]
        )

    async def write(self, address: int, value: int, byte_enable: int = 15) -> None:
        """Write and wait until it is accepted."""
        self.queue_write(address, value, byte_enable)
        await self.bus.idle()

    async def read(self, address: int) -> int:
        """Read a dword; what lies in data and enables must not matter."""
        await self.bus.send(
            {
                "address": address,
                "write": 0,
                "data": random.getrandbits(32),
                "byte_enable": random.getrandbits(4),
            }
        )
        return await self.response.receive()

    async def program(self) -> None:
        """Give every vector a random message; the data tells the vector."""
        for vector in range(self.vectors):
            entry = TABLE + 16 * vector
            self.queue_write(entry, random.getrandbits(32))
            self.queue_write(entry + 4, random.getrandbits(32))
            self.queue_write(entry + 8, vector | random.getrandbits(21) << 11)
        await self.bus.idle()

    async def mask(self, vector: int, masked: int) -> None:
        """Mask or unmask a vector; the upper bits of the dword are reserved."""
        enable = random.choice((1, 3, 15))
        await self.write(TABLE + 16 * vector + 12, masked | random.getrandbits(31) << 1, enable)

    async def unmask_all(self) -> None:
        """Unmask every vector."""
        for vector in range(self.vectors):
            self.queue_write(TABLE + 16 * vector + 12, 0)
        await self.bus.idle()

    async def quiet(self) -> None:
        """Wait until everything that can happen has happened."""
        await self.request.idle()
        await self.bus.idle()
        still = 0
        rows = 2 * ((self.vectors + 63) // 64)
        while still < 6 * rows + 20:
            await cycles(self.dut)
            busy = int(self.dut.tlp__valid.value)
            still = 0 if busy or not int(self.dut.idle.value) else still + 1
        await cycles(self.dut, 6 * rows + 20)


class Checker:
    """Explains every message; see the top of the file."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.vectors = bench.vectors
        self.entries: list[list[int]] = []
        self.masked: list[bool] = []
        self.waiting: list[int] = []
        self.sent: list[int] = []
        self.messages: list[tuple[int, int]] = []
        self.requester = 0  # of the cycle before
        self.clear()
        self._task = cocotb.start_soon(self._run())

    def clear(self) -> None:
        """Forget all, as the device does."""
        self.entries = [[0, 0, 0] for _ in range(self.vectors)]
        self.masked = [True] * self.vectors
        self.waiting = [0] * self.vectors

    def write(self, address: int, value: int, byte_enable: int) -> None:
        """Apply an accepted write."""
        vector, word = (address - TABLE) // 16, address // 4 % 4
        if address >= PENDING or vector >= self.vectors:
            return
        if word == 3:
            if byte_enable & 1:
                self.masked[vector] = bool(value & 1)
            return
        mask = sum(0xFF << 8 * n for n in range(4) if byte_enable >> n & 1)
        if word == 0:
            mask &= ~3
        self.entries[vector][word] = self.entries[vector][word] & ~mask | value & mask

    def expected(self, address: int) -> int:
        """Return what a read of the table or of the pending bits gives."""
        if address >= PENDING:
            first = (address - PENDING) * 8
            bits = self.waiting[first : first + 32] if first < self.vectors else []
            return sum(1 << n for n, count in enumerate(bits) if count)
        vector, word = (address - TABLE) // 16, address // 4 % 4
        if vector >= self.vectors:
            return 0
        return int(self.masked[vector]) if word == 3 else self.entries[vector][word]

    def _offered(self, allowed: bool) -> None:
        dut = self.bench.dut
        assert allowed, "a message while the function must not send"
        beat = unpack(tlp_beat(params().width), int(dut.tlp__payload.value))
        header = beat.header
        write = {
            "type": TLPType.MEM_WRITE,
            "requester_id": self.requester,
            "address": header.address,
            "length_dw": 1,
            "first_be": 15,
        }
        assert pack(TLPHeader, header) == pack(TLPHeader, write)
        assert (beat.first, beat.last) == (1, 1)
        data = beat.data
        vector = data & 0x7FF
        assert vector < self.vectors, f"message data {data:#x}"
        low, high, expected = self.entries[vector]
        assert (header.address, data) == (high << 32 | low, expected), f"vector {vector}"
        assert not self.masked[vector], f"vector {vector} is masked"
        assert self.waiting[vector], f"vector {vector}: a message too many"
        self.waiting[vector] = 0
        self.sent.append(vector)
        self.messages.append((header.address, data))

    async def _run(self) -> None:
        dut = self.bench.dut
        edge = RisingEdge(dut.clk)
        allowed = offered = False
        while True:
            await edge
            if int(dut.rst.value):
                self.clear()
                allowed = offered = False
                continue
            valid = bool(int(dut.tlp__valid.value))
            if valid and not offered:
                self._offered(allowed)
            # Still offered after this edge, unless it is taken at it.
            offered = valid and not int(dut.tlp__ready.value)
            control = unpack(FunctionControl, int(dut.control.value))
            self.requester = control.requester_id
            if int(dut.bus__request__valid.value) and int(dut.bus__request__ready.value):
                access = unpack(RegisterRequest, int(dut.bus__request__payload.value))
                if access.write:
                    self.write(access.address, access.data, access.byte_enable)
            if int(dut.request__valid.value) and int(dut.request__ready.value):
                vector = int(dut.request__payload.value)
                if vector < self.vectors and control.msix_enable:
                    self.waiting[vector] += 1
            allowed = bool(
                control.msix_enable
                and not control.msix_function_mask
                and control.bus_master_enable
                and not int(dut.hold.value)
            )


async def setup(dut: Any, stall: float = 0.0, output_stall: float | None = None) -> Bench:
    """Reset, wait for the table to be cleared."""
    start_clock(dut)
    bench = Bench(dut, stall, output_stall)
    await reset(dut)
    while int(dut.busy.value):
        await cycles(dut)
    return bench


def some_vectors(bench: Bench, count: int) -> list[int]:
    """Return vectors in a random order, the first and the last among them."""
    chosen = {0, bench.vectors - 1} | {random.randrange(bench.vectors) for _ in range(count)}
    return random.sample(sorted(chosen), len(chosen))
