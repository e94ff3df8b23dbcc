"""BarTarget: requests to the BAR become register accesses and completions."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge
from tlp_helper import TLP, random_dwords, random_header, take_tlp

from lib.sim import params, simulate
from lib.streams import StreamSink, StreamSource, cycles, pack, reset, start_clock
from virtio_rtl.pcie.bar_target import BarTarget
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


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def random_requests(dut: Any) -> None:
    """Everything mixed, under stalls: accesses, completions and counts are the golden model's."""
    start_clock(dut)
    for stall in (0.0, 0.2, 0.5):
        bench = Bench(dut, stall)
        await reset(dut)
        tlps = []
        for _ in range(150):
            kind = random.random()
            if kind < 0.35:
                tlps.append(write(random.choice([1, 1, 1, 2, 3, 4, 16, 17, 33, 70])))
            elif kind < 0.65:
                tlps.append(read(random.choice([1, 1, 1, 2, 2, 3, 16, 17, 31, 32])))
            elif kind < 0.75:
                tlps.append(refused(random.choice([*REFUSED, *IGNORED])))
            elif kind < 0.85:
                where = random.choice(["below", "above", "across", "far"])
                tlps.append(outside(random.choice([T.MEM_READ, T.MEM_WRITE]), where))
            elif kind < 0.9:
                tlps.append(read(random.choice([33, 64, 1024])))
            else:
                tlps.append(write(random.choice([1, 5, 40]), poisoned=1))
        bench.queue(*tlps)
        for tlp in tlps:
            await bench.expect(tlp)
        await bench.settle()
        bench.stop()


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def byte_enables_of_reads(dut: Any) -> None:
    """Every pattern of one dword, literally as in the tables, and every pair of two and three."""
    start_clock(dut)
    bench = Bench(dut)
    await reset(dut)
    for be, byte_count in BYTE_COUNT_OF_ONE_DWORD.items():
        before = len(bench.accesses)
        tlp = read(1, first_be=be, last_be=0)
        bench.queue(tlp)
        while not (beat := bench.completion.now()):
            await RisingEdge(dut.clk)
        assert beat.header.byte_count == byte_count, f"{be:04b}"
        assert beat.header.lower_address & 3 == LOWER_BITS[be], f"{be:04b}"
        assert beat.header.length_dw == 1
        assert len(bench.accesses) - before == bool(be), "a zero-length read touches no register"
        bench.golden.run(tlp)
    for dwords in (2, 3):
        pairs = [(first, last) for first in range(1, 16) for last in range(1, 16)]
        tlps = [read(dwords, first_be=first, last_be=last) for first, last in pairs]
        bench.queue(*tlps)
        for tlp in tlps:
            await bench.expect(tlp)
    await bench.settle()
    bench.stop()


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def byte_enables_of_writes(dut: Any) -> None:
    """8, 16, 32 and 64-bit accesses, and every other pattern, change their bytes and no others."""
    start_clock(dut)
    bench = Bench(dut)
    await reset(dut)
    tlps = [write(1, first_be=be) for be in range(16)]
    tlps += [write(n, first_be=a, last_be=b) for n in (2, 3) for a in range(16) for b in range(16)]
    random.shuffle(tlps)
    bench.queue(*tlps)
    for tlp in tlps:
        await bench.expect(tlp)
    await bench.settle()
    bench.stop()


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def longest_requests(dut: Any) -> None:
    """Writes up to 1024 dwords, reads up to 32; the next longer read is aborted."""
    start_clock(dut)
    bench = Bench(dut, 0.1)
    await reset(dut)
    full = {"first_be": 15, "last_be": 15}
    tlps = [write(1024), write(1024, address=BASE + SIZE - 4096, **full), read(32), read(33)]
    tlps += [read(1024, address=BASE + SIZE - 4096, **full), read(1, address=BASE + SIZE - 4)]
    tlps += [write(1024, address=BASE), read(32, address=BASE + SIZE - 128, **full)]
    bench.queue(*tlps)
    for tlp in tlps:
        await bench.expect(tlp)
    await bench.settle()
    assert bench.golden.aborted == 2
    bench.stop()


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def unsupported_requests(dut: Any) -> None:
    """Nonposted: a completion without data; posted: dropped. Each is counted once."""
    start_clock(dut)
    bench = Bench(dut, 0.1)
    await reset(dut)
    tlps = [refused(kind) for kind in [*REFUSED, *IGNORED]]
    tlps += [outside(kind, where) for kind in (T.MEM_READ, T.MEM_WRITE)
             for where in ("below", "above", "across", "far")]  # fmt: skip
    tlps += [write(3), write(40, poisoned=1), read(3), read(3, poisoned=1)]
    far = {"address": BASE + SIZE}
    tlps += [write(1, poisoned=1, **far), read(64, **far), write(1), read(1)]
    for tlp in tlps:
        bench.queue(tlp)
        await bench.expect(tlp)
        await bench.settle()
    bench.control(memory_enable=0)
    for tlp in (write(1), read(1), read(64), write(1, poisoned=1)):
        bench.queue(tlp)
        await bench.expect(tlp, enabled=False)
        await bench.settle()
    bench.stop()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def malformed_lengths(dut: Any) -> None:
    """Beats that are missing or too many, and a length of 0, harm only their own TLP."""
    start_clock(dut)
    bench = Bench(dut, 0.2)
    await reset(dut)
    lanes = bench.width // 32
    full = {"first_be": 15, "last_be": 15}
    for _ in range(5):
        # Too long: the rest is ignored.
        tlp = write(lanes + 1, **full)
        longer = TLP(tlp.header, tlp.payload + random_dwords(3 * lanes))
        bench.queue(longer)
        await bench.expect(tlp)
        exact = write(lanes, **full)
        bench.queue(TLP(exact.header, exact.payload + random_dwords(1)))
        await bench.expect(exact)
        # Too short: what came is written.
        tlp = write(4 * lanes, **full)
        bench.queue(TLP(tlp.header, tlp.payload[: 2 * lanes]))
        await bench.expect(TLP({**tlp.header, "length_dw": 2 * lanes}, tlp.payload))
        # A read with payload is answered once.
        tlp = read(3)
        bench.queue(TLP(tlp.header, random_dwords(2 * lanes)))
        await bench.expect(tlp)
        none = TLP(random_header(T.MEM_READ, 0, address=BASE))
        bench.queue(none)
        header, _ = await take_tlp(bench.completion, bench.width)
        assert header.status == UR
        assert header.tag == none.header["tag"]
        bench.golden.unsupported += 1
        # Byte enables that no requester may send: answered, and no register touched.
        bench.queue(read(2, first_be=0, last_be=0))
        header, dwords = await take_tlp(bench.completion, bench.width)
        assert header.status == SC
        assert dwords[:2] == [0, 0]
        tlp = read(2)
        bench.queue(tlp)
        await bench.expect(tlp)
    await bench.settle()
    bench.stop()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_waiting_completion_holds(dut: Any) -> None:
    """The function's state changes while a completion waits: it stays as it was."""
    start_clock(dut)
    bench = Bench(dut)
    bench.completion.stall = 1.0
    await reset(dut)
    tlps = [read(32), refused(T.IO_READ)]
    bench.queue(*tlps)
    before = bench.cpl_id
    await cycles(dut, 400)
    for _ in range(20):  # StreamSink fails if the payload moves
        bench.cpl_id = random.getrandbits(16)
        bench.control(memory_enable=random.getrandbits(1))
        await cycles(dut, 2)
    bench.completion.stall = 0.3
    after, bench.cpl_id = bench.cpl_id, before
    await bench.expect(tlps[0])
    bench.cpl_id = after
    await bench.expect(tlps[1])
    bench.stop()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def one_dword_per_cycle(dut: Any) -> None:
    """Doorbells at one a cycle, in the cycle after they came; long writes without a bubble."""
    start_clock(dut)
    bench = Bench(dut)
    await reset(dut)
    full = {"first_be": 15, "last_be": 15}
    lanes = bench.width // 32
    for tlps in (
        [write(1, **full) for _ in range(64)],
        [write(1024, **full)],
        [write(n, **full) for n in (1, 2, lanes, lanes + 1, 2 * lanes, 1, 3)],
    ):
        bench.queue(*tlps)
        dwords = sum(tlp.header["length_dw"] for tlp in tlps)
        await RisingEdge(dut.requests__valid)
        await RisingEdge(dut.clk)  # taken here
        assert not int(dut.bus__request__valid.value)
        for index in range(dwords):
            await RisingEdge(dut.clk)
            assert int(dut.bus__request__valid.value), f"bubble before dword {index} of {dwords}"
        await RisingEdge(dut.clk)
        assert not int(dut.bus__request__valid.value)
        for tlp in tlps:
            await bench.expect(tlp)
        await bench.settle()
    bench.stop()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def completions_have_no_bubbles(dut: Any) -> None:
    """All beats of a completion in consecutive cycles, however slow the registers are."""
    start_clock(dut)
    bench = Bench(dut)
    bench.response.stall = 0.8
    await reset(dut)
    for dwords in (1, 32, 17):
        tlp = read(dwords)
        bench.queue(tlp)
        await RisingEdge(dut.completion__valid)
        for _ in range(-(-32 * dwords // bench.width)):
            await RisingEdge(dut.clk)
            if not bench.completion.count:
                await RisingEdge(dut.clk)  # the sink was not ready before its first TLP
            assert int(dut.completion__valid.value)
        await RisingEdge(dut.clk)
        assert not int(dut.completion__valid.value)
        await bench.expect(tlp)
    bench.stop()


@pytest.mark.parametrize("width", [64, 128, 256, 512])
def test_bar_target(width: int) -> None:
    """All of the above at every width."""
    context = {"width": width, "bar_bytes": 4096 if width == 128 else 65536}
    name = f"bar_target_{width}"
    simulate(BarTarget(**context), module=__name__, name=name, params=context)
