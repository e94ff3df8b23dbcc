"""BarTarget: requests to the BAR become register accesses and completions."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from bar_target_rig import (
    BASE,
    BYTE_COUNT_OF_ONE_DWORD,
    IGNORED,
    LOWER_BITS,
    REFUSED,
    SC,
    SIZE,
    UR,
    Bench,
    outside,
    read,
    refused,
    write,
)
from cocotb.triggers import RisingEdge
from tlp_helper import TLP, random_dwords, random_header, take_tlp

from lib.sim import simulate
from lib.streams import cycles, reset, start_clock
from virtio_rtl.pcie.bar_target import BarTarget
from virtio_rtl.types.tlp import TLPType as T


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
