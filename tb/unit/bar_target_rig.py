"""BarTarget between a requester and registers, and what a BAR has to do."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge
from tlp_helper import TLP, random_dwords, random_header, take_tlp

from lib.sim import params
from lib.streams import StreamSink, StreamSource, cycles, pack
from virtio_rtl.types.pcie import FunctionControl
from virtio_rtl.types.regbus import RegisterRequest
from virtio_rtl.types.tlp import CompletionStatus, tlp_beat
from virtio_rtl.types.tlp import TLPType as T

BASE = 0x0012_3456_789A_0000
SIZE: int = getattr(params(), "bar_bytes", 65536)
SC, UR, CA = (
    CompletionStatus.SUCCESS,
    CompletionStatus.UNSUPPORTED_REQUEST,
    CompletionStatus.COMPLETER_ABORT,
)
REFUSED = [T.IO_READ, T.IO_WRITE, T.CONFIG_READ1, T.CONFIG_WRITE1, T.CONFIG_READ0,
           T.CONFIG_WRITE0, T.OTHER_NONPOSTED]  # fmt: skip
IGNORED = [T.MESSAGE, T.MESSAGE_DATA, T.OTHER, T.COMPLETION, T.COMPLETION_DATA, 12]

# [PCIe 3.0 §2.3.1.1, table 2-38], for one dword; and the lower address bits, table 2-39.
BYTE_COUNT_OF_ONE_DWORD = {
    **dict.fromkeys((0b1001, 0b1011, 0b1101, 0b1111), 4),
    **dict.fromkeys((0b0101, 0b0111, 0b1010, 0b1110), 3),
    **dict.fromkeys((0b0011, 0b0110, 0b1100), 2),
    **dict.fromkeys((0b0001, 0b0010, 0b0100, 0b1000, 0b0000), 1),
}
LOWER_BITS = {
    be: 0 if be & 1 or not be else 1 if be & 2 else 2 if be & 4 else 3 for be in range(16)
}


@dataclass
class Answer:
    """The completion that a request must get."""

    status: CompletionStatus
    byte_count: int
    lower_address: int
    data: list[int]


class Golden:
    """What a BAR does, byte by byte: its accesses in order, and its completions."""

    def __init__(self) -> None:
        self.memory = bytearray(random.randbytes(SIZE))
        self.accesses: list[tuple[int, bool, int, int]] = []  # address, write, enables, data
        self.unsupported = self.dropped = self.poisoned = self.aborted = 0

    def run(self, tlp: TLP, *, enabled: bool = True) -> Answer | None:
        """Carry out a request; return its completion if it has one."""
        h = tlp.header
        kind, address, length = h["type"], h["address"], h["length_dw"]
        memory = kind in (T.MEM_READ, T.MEM_WRITE)
        wanted = [address + 4 * n + b for n in range(length) for b in range(4)
                  if (h["first_be"] if n == 0 else h["last_be"] if n == length - 1 else 15) >> b & 1
                  ]  # fmt: skip
        span = (wanted[-1] - wanted[0] + 1, wanted[0] & 0x7F) if wanted else (1, address & 0x7F)
        if not memory:
            span = (4, 0)
        inside = address >= BASE and address + 4 * length <= BASE + SIZE
        if not (memory and inside and enabled):
            posted = kind in [T.MEM_WRITE, *IGNORED]
            self.unsupported += 1
            self.dropped += posted
            return None if posted else Answer(UR, *span, [])
        if kind == T.MEM_READ and length > 32:
            self.aborted += 1
            return Answer(CA, *span, [])
        if kind == T.MEM_WRITE and h.get("poisoned"):
            self.poisoned += 1
            return None
        data = []
        for n in range(length):
            at = address - BASE + 4 * n
            lanes = [b for b in range(4) if address + 4 * n + b in wanted]
            enables = sum(1 << b for b in lanes)
            if kind == T.MEM_WRITE:
                for b in lanes:
                    self.memory[at + b] = tlp.payload[n] >> 8 * b & 0xFF
            word = int.from_bytes(self.memory[at : at + 4], "little")
            data.append(word if enables else 0)
            if enables:
                value = sum(word & 0xFF << 8 * b for b in lanes) if kind == T.MEM_WRITE else 0
                self.accesses.append((at, kind == T.MEM_WRITE, enables, value))
        return Answer(SC, *span, data) if kind == T.MEM_READ else None


class Bench:
    """The BAR target with a requester, registers that are plain memory, and a golden model."""

    def __init__(self, dut: Any, stall: float = 0.0) -> None:
        self.dut = dut
        self.width = params().width
        self.golden = Golden()
        self.memory = bytearray(self.golden.memory)
        self.accesses: list[tuple[int, bool, int, int]] = []
        self.strobes = dict.fromkeys(("unsupported", "dropped", "poisoned", "aborted"), 0)
        self.requests = StreamSource(dut, "requests", stall=stall)
        self.completion = StreamSink(dut, "completion", tlp_beat(self.width), stall=stall)
        self.bus = StreamSink(dut, "bus__request", RegisterRequest, stall=stall)
        self.response = StreamSource(dut, "bus__response", stall=stall)
        self.cpl_id = random.getrandbits(16)
        self.control(memory_enable=1)
        self.tasks = [cocotb.start_soon(self.registers()), cocotb.start_soon(self.watch())]

    def control(self, **fields: int) -> None:
        """Drive the function's state; what BarTarget has no use for is random."""
        other = {"bus_master_enable": random.getrandbits(1), "max_payload": random.randrange(6)}
        state = {"requester_id": self.cpl_id, **other, **fields}
        self.dut.control.value = pack(FunctionControl, state)
        self.dut.bar_base.value = BASE + random.randrange(0, SIZE, 16)

    def stop(self) -> None:
        """End all models."""
        for model in (self.requests, self.completion, self.bus, self.response):
            model.stop()
        for task in self.tasks:
            task.cancel()

    async def registers(self) -> None:
        """Answer the register bus."""
        while True:
            access = await self.bus.receive()
            at, enables = access.address, access.byte_enable
            lanes = [b for b in range(4) if enables >> b & 1]
            value = sum(access.data & 0xFF << 8 * b for b in lanes) if access.write else 0
            self.accesses.append((at, bool(access.write), enables, value))
            if access.write:
                for b in lanes:
                    self.memory[at + b] = access.data >> 8 * b & 0xFF
            else:
                await self.response.send(int.from_bytes(self.memory[at : at + 4], "little"))
                assert not len(self.bus), "one read at a time, and nothing behind it"

    async def watch(self) -> None:
        """Count the strobes."""
        while True:
            await RisingEdge(self.dut.clk)
            for name in self.strobes:
                self.strobes[name] += int(getattr(self.dut, name).value)

    def queue(self, *tlps: TLP) -> None:
        """Queue requests."""
        for tlp in tlps:
            self.requests.queue(tlp.beats(self.width))

    async def expect(self, tlp: TLP, *, enabled: bool = True) -> None:
        """Check the completion of a request, if it gets one."""
        answer = self.golden.run(tlp, enabled=enabled)
        if answer is None:
            return
        header, dwords = await take_tlp(self.completion, self.width)
        asked = tlp.header
        kind = T.COMPLETION_DATA if answer.data else T.COMPLETION
        copied = ("traffic_class", "no_snoop", "relaxed_ordering", "requester_id", "tag")
        want = {name: asked[name] for name in copied}
        want |= {"type": kind, "length_dw": len(answer.data), "completer_id": self.cpl_id}
        want |= {"status": answer.status, "byte_count": answer.byte_count}
        want |= {"lower_address": answer.lower_address, "poisoned": 0, "address": 0}
        assert {name: header[name] for name in want} == want, asked
        assert dwords[: len(answer.data)] == answer.data
        beats = max(1, -(-32 * len(answer.data) // self.width))
        assert len(dwords) == beats * self.width // 32

    async def settle(self) -> None:
        """Wait for the end; check accesses, contents and strobes."""
        await self.requests.idle()
        while len(self.accesses) < len(self.golden.accesses):
            await RisingEdge(self.dut.clk)
        await cycles(self.dut, 60)
        assert self.accesses == self.golden.accesses
        assert self.memory == self.golden.memory
        expected = {name: getattr(self.golden, name) for name in self.strobes}
        assert self.strobes == expected
        assert not len(self.completion)


def inside(dwords: int) -> int:
    """Return an address at which so many dwords lie in the BAR; mostly in one small part."""
    room = SIZE if random.random() < 0.2 else min(SIZE, 4 * dwords + 64)
    return BASE + random.randrange(0, room - 4 * dwords + 1, 4)


def write(dwords: int, **fields: Any) -> TLP:
    """Return a memory write into the BAR."""
    header = {"address": inside(dwords)} | fields
    return TLP(random_header(T.MEM_WRITE, dwords, **header), random_dwords(dwords))


def legal_enables(dwords: int) -> dict[str, int]:
    """Return byte enables as a requester may choose them: none only in a single dword."""
    if dwords == 1:
        return {"first_be": random.getrandbits(4), "last_be": 0}
    return {"first_be": random.randint(1, 15), "last_be": random.randint(1, 15)}


def read(dwords: int, **fields: Any) -> TLP:
    """Return a memory read of the BAR."""
    header = {"address": inside(dwords)} | legal_enables(dwords) | fields
    return TLP(random_header(T.MEM_READ, dwords, **header))


def refused(kind: Any) -> TLP:
    """Return a TLP that no BAR answers; some carry data."""
    count = {T.IO_READ: 0, T.CONFIG_READ0: 0, T.CONFIG_READ1: 0, T.MESSAGE: 0}.get(kind)
    if count is None:
        longest = 1 if kind in (T.IO_WRITE, T.CONFIG_WRITE0, T.CONFIG_WRITE1) else 20
        count = random.randint(0 if kind == T.OTHER_NONPOSTED else 1, longest)
    header = random_header(kind, max(1, count), address=inside(32))
    return TLP(header, random_dwords(count))


def outside(kind: Any, where: str) -> TLP:
    """Return a memory request that the BAR does not cover, or only in part."""
    count = random.randint(2, 32)
    address = {
        "below": BASE - 4 * random.randint(1, 32),
        "above": BASE + SIZE + 4 * random.randrange(32),
        "across": BASE + SIZE - 4 * random.randint(1, count - 1),
        "far": BASE ^ 1 << random.randint(SIZE.bit_length() - 1, 63),
    }[where]
    payload = random_dwords(count) if kind == T.MEM_WRITE else []
    return TLP(random_header(kind, count, address=address, **legal_enables(count)), payload)
