"""The host's memory side: DMA, latency, injected errors, rule checks, interrupts."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import cocotb
import pytest
from cocotb.triggers import Timer
from cocotb.utils import get_sim_time

from lib.pcie.access import PciAccess
from lib.pcie.latency import ReadLatency
from lib.pcie.monitor import DOWN, UP
from lib.pcie.packet import MEM_READ, MEM_WRITE, Packet
from lib.pcie.selftest import BASE, SIZE, PortsDut, bench
from lib.sim import params, simulate
from virtio_rtl.types.tlp import (
    CompletionStatus,
    TLPType,
)


def check_completion(
    group: list[Any], address: int, length: int, expected: bytes, *, pieces: bool, boundary: int
) -> None:
    """Check all the completions of one read against the rules of PCIe 3.0 §2.3.1.1."""
    at = address
    for header, data in group:
        assert header["type"] == TLPType.COMPLETION_DATA
        assert header["status"] == CompletionStatus.SUCCESS
        assert header["byte_count"] == address + length - at
        assert header["lower_address"] == at & 0x7F
        assert header["length_dw"] * 4 == len(data) <= 256
        end = min((at & ~3) + len(data), address + length)
        assert data[at & 3 : (at & 3) + end - at] == expected[at - address : end - address]
        if end != address + length:
            assert end % boundary == 0
        if pieces:
            assert end <= (at | boundary - 1) + 1
        at = end
    assert at == address + length


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(
    (
        ("pieces", "boundary", "gap", "sample"),
        ((False, 64, 0.0, "answer"), (True, 64, 90.0, "random"), (True, 128, 0.0, "arrival")),
    )
)
async def dma_reads(dut: Any, pieces: bool, boundary: int, gap: float, sample: str) -> None:
    """Reads of any alignment come back right, cut at the boundary, out of order between tags."""
    limits = {"split_on_all_rcb": pieces, "read_boundary": boundary}
    b = await bench(dut, stall=0.2, device_stall=0.2, **limits)
    b.host.target.piece_gap_ns = (0.0, gap)
    b.host.target.sample = sample
    reads = []
    for tag in range(64):
        length = random.choice((1, 3, 4, 64, 100, 509))
        at = BASE + random.randrange(SIZE // 4096) * 4096 + random.randrange(4096 - length)
        length = min(length, 512 - at % 4)
        reads.append((at, length))
        b.device.read(at, length, tag)
    groups: dict[int, list[Any]] = {tag: [] for tag in range(64)}
    order = []
    left = dict(enumerate(length for _, length in reads))
    while any(left.values()):
        await b.device.answers(1)
        header, data = b.device.completions.pop(0)
        tag = header["tag"]
        order.append(tag)
        groups[tag].append((header, data))
        left[tag] -= min(left[tag], len(data) - header["lower_address"] % 4)
    for tag, (at, length) in enumerate(reads):
        expected = b.memory.read(at, length)
        check_completion(groups[tag], at, length, expected, pieces=pieces, boundary=boundary)
    assert list(dict.fromkeys(order)) != list(range(64))
    runs = 1 + sum(now != then for now, then in pairwise(order))
    assert (runs > 64) == bool(gap)
    assert not b.host.target.checker.tags
    b.host.check()


@cocotb.test(timeout_time=200, timeout_unit="us")
async def dma_writes(dut: Any) -> None:
    """Writes land byte for byte, in order, and a later read sees them."""
    b = await bench(dut, stall=0.2, device_stall=0.2)
    model = bytearray(b.memory.read(BASE, 8192))
    for _ in range(100):
        length = random.choice((1, 2, 5, 64, 256))
        at = random.randrange(8192 - length)
        length = min(length, 4096 - at % 4096, 256 - at % 4)
        data = random.randbytes(length)
        b.device.write(BASE + at, data)
        model[at : at + length] = data
    b.device.read(BASE + at, length, 5)
    await b.device.answers(1)
    assert b.memory.read(BASE, 8192) == model
    _, data = b.device.completions[0]
    assert data[at & 3 :][:length] == model[at : at + length]
    sparse = {"type": TLPType.MEM_WRITE, "address": BASE, "length_dw": 2, "first_be": 0b1001}
    b.device.send({**sparse, "last_be": 0b0110}, b"ABCDEFGH")
    b.device.read(BASE, 8, 6)
    await b.device.answers(2)
    model[0:1], model[3:4], model[5:7] = b"A", b"D", b"FG"
    assert b.memory.read(BASE, 8) == model[:8]
    b.host.check()


@cocotb.test(timeout_time=200, timeout_unit="us")
async def latency_is_as_set(dut: Any) -> None:
    """A fixed latency is exact and keeps order; a random one has its mean and range."""
    b = await bench(dut, latency=ReadLatency(700, None))
    up = b.host.monitor.watch(lambda p, way: way == UP and p.type == MEM_READ)
    down = b.host.monitor.watch(lambda p, way: way == DOWN and p.type > MEM_WRITE)
    for tag in range(32):
        b.device.read(BASE + 64 * tag, 4, tag)
    await b.device.answers(32)
    times = [a.time_ns - z.time_ns for a, z in zip(down.seen, up.seen, strict=True)]
    wire = 24 / (8 * 128 / 130) + 10
    assert abs(times[0] - 700 - wire) < 0.1, times[0]
    assert [header["tag"] for header, _ in b.device.completions] == list(range(32))
    model = ReadLatency(600, (400, 1000))
    draws = [model.answer_at(0) for _ in range(4000)]
    assert 400 <= min(draws) < 410
    assert 990 < max(draws) <= 1000
    assert 590 < sum(draws) / len(draws) < 610
    ordered = ReadLatency(600, (0, 1000), reorder=False)
    answers = [ordered.answer_at(t) for t in range(200)]
    assert answers == sorted(answers)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def sampling_moment(dut: Any) -> None:
    """Memory is looked at when the setting says, never before the read has arrived."""
    b = await bench(dut, latency=ReadLatency(1000, None))
    seen = {}
    for sample in ("arrival", "answer", "random"):
        b.host.target.sample = sample
        values = []
        for _ in range(12):
            await Timer(1, "us")
            b.device.completions.clear()
            b.memory.write_u32(BASE, 0)
            watch = b.host.monitor.watch(lambda p, way: way == UP)
            b.device.read(BASE, 4, 1)
            while not watch.seen:
                await Timer(1, "ns")
            b.host.monitor.watches.clear()
            for step in range(1, 100):
                await Timer(10, "ns")
                b.memory.write_u32(BASE, step)
            await b.device.answers(1)
            values.append(int.from_bytes(b.device.completions[0][1], "little"))
        seen[sample] = values
    assert set(seen["arrival"]) == {0}
    assert min(seen["answer"]) >= 98
    assert max(seen["random"]) - min(seen["random"]) > 30


@cocotb.test(timeout_time=200, timeout_unit="us")
async def faults(dut: Any) -> None:
    """Injected errors look to the device as PCIe says."""
    b = await bench(dut, split_on_all_rcb=True)
    kinds = ("ur", "ca", "late_ca", "poison", "drop", "duplicate", "unexpected")
    for index, kind in enumerate(kinds):
        b.host.fault(BASE + 4096 * index, BASE + 4096 * index + 1, kind, count=1)
        b.device.read(BASE + 4096 * index, 128, index)
    await Timer(3, "us")
    got: dict[int, list[Any]] = {}
    for header, data in b.device.completions:
        got.setdefault(header["tag"], []).append((header, data))
    status = {tag: [h["status"].name for h, _ in group] for tag, group in got.items()}
    assert status[0] == ["UNSUPPORTED_REQUEST"]
    assert got[0][0][0]["byte_count"] == 128
    assert status[1] == ["COMPLETER_ABORT"]
    assert status[2] == ["SUCCESS", "COMPLETER_ABORT"]
    assert [h["poisoned"] for h, _ in got[3]] == [1, 1]
    assert 4 not in got
    assert status[5] == ["SUCCESS"] * 4
    assert status[6] == ["SUCCESS"] * 2
    assert [tag for tag in got if tag >= len(kinds)] == [255]
    b.device.completions.clear()
    b.device.read(BASE, 4, 0)
    b.device.read(BASE + 64, 4, 4)
    b.device.read(0x1000, 4, 9)
    await b.device.answers(3)
    last = {h["tag"]: h["status"].name for h, _ in b.device.completions}
    assert last == {0: "SUCCESS", 4: "SUCCESS", 9: "UNSUPPORTED_REQUEST"}
    assert len(b.host.target.unclaimed) == 1
    before = b.memory.read(BASE, 8)
    b.host.fault(BASE, BASE + 4, "ca")
    b.device.write(BASE, b"12345678")
    await Timer(1, "us")
    assert b.memory.read(BASE, 8) == before


@cocotb.test(timeout_time=200, timeout_unit="us")
async def windows_and_rules(dut: Any) -> None:
    """Accesses outside granted windows and requests that break PCIe's rules are found."""
    b = await bench(dut)
    span = {"type": TLPType.MEM_READ, "address": BASE, "length_dw": 1, "first_be": 15}
    wrong = (
        {"address": BASE + 4092, "length_dw": 2, "last_be": 15},
        {"length_dw": 256, "last_be": 15},
        {"last_be": 1},
        {"length_dw": 2},
        {"length_dw": 4, "first_be": 5, "last_be": 15},
        {"tag": 1},
    )
    b.device.send({**span, "tag": 1})
    for index, change in enumerate(wrong):
        b.device.send({**span, "tag": 10 + index, **change})
        await Timer(50, "ns")
        assert len(b.host.violations) == index + 1, change
    b.device.send({"type": TLPType.MEM_WRITE, "address": BASE, "length_dw": 128, "first_be": 15,
                   "last_be": 15}, bytes(512))  # fmt: skip
    await Timer(2, "us")
    assert "maximum payload" in b.host.violations[-1]
    assert not b.memory.faults
    b.memory.revoke(next(iter(b.memory._granules.values()))[0])
    b.device.write(BASE, b"1234")
    await Timer(500, "ns")
    assert len(b.memory.faults) == 1
    with pytest.raises(AssertionError):
        b.host.check()


@cocotb.test(timeout_time=200, timeout_unit="us")
async def interrupts(dut: Any) -> None:
    """MSI-X writes and INTx reach the host, with times, behind the data written before."""
    b = await bench(dut)
    b.device.write(BASE, b"done")
    b.device.write(0xFEE0_1000, b"\x21\0\0\0")
    seen = []
    b.host.interrupts.callbacks.append(lambda i: seen.append(b.memory.read(BASE, 4)))
    await b.host.interrupts.wait(lambda: b.host.interrupts.received)
    assert b.host.interrupts.received[0][1:] == (0xFEE0_1000, 0x21)
    assert b.host.interrupts.received[0].time_ns == get_sim_time("ns")
    assert seen == [b"done"]
    await Timer(1, "us")
    limit = b.endpoint.limits()["posted_header"]
    dut.device_intx.value = 1
    await b.host.interrupts.wait(lambda: b.host.interrupts.level)
    dut.device_intx.value = 0
    await b.host.interrupts.wait(lambda: not b.host.interrupts.level)
    await Timer(1, "us")
    # The credits that the endpoint takes for itself are never the RTL's.
    assert b.endpoint.limits()["posted_header"] == limit
    assert [level for _, level in b.host.interrupts.level_changes] == [1, 0]
    b.host.link.submit(Packet(TLPType.MESSAGE, first_be=9, last_be=1))
    await Timer(200, "ns")
    header, _ = b.device.others[0]
    assert (header.type, header.last_be, header.first_be) == (TLPType.MESSAGE, 1, 9)
    b.device.send({"type": TLPType.MESSAGE, "first_be": 0, "last_be": 3})
    await Timer(200, "ns")
    assert b.host.messages[0].message_code == 0x30
    b.host.check()


@cocotb.test(timeout_time=200, timeout_unit="us")
async def accesses_while_the_device_reads(dut: Any) -> None:
    """Completions without end keep nobody from the device: an access waits its turn at most."""
    b = await bench(dut)
    access = PciAccess(b.host, await b.host.bring_up())
    asked, stop = 0, False
    in_flight, busy_gbps = {64: (16, 12), 512: (48, 50)}[params().width]

    async def read_on() -> None:
        nonlocal asked
        while not stop:
            while asked - len(b.device.completions) // 2 < in_flight:  # two completions a read
                b.device.read(BASE + 512 * (asked % 64), 512, asked % 64)
                asked += 1
            await Timer(50, "ns")

    reading = cocotb.start_soon(read_on())
    await Timer(4, "us")
    busy = b.host.monitor.snapshot()
    for index in range(20):
        start = get_sim_time("ns")
        await access.bar_write(0, 4 * index, 0x1000 + index, 4)
        assert await access.bar_read(0, 4 * index, 4) == 0x1000 + index
        assert get_sim_time("ns") - start < 6000  # the reads in flight take 4 µs
    assert (b.host.monitor.snapshot() - busy).gbps(DOWN) > busy_gbps, "the link was not busy"
    stop = True
    await reading
    await b.device.answers(2 * asked)


@pytest.mark.parametrize("width", [64, 512])
def test_host(width: int) -> None:
    """DMA and interrupts against a device in Python."""
    simulate(PortsDut(width), module=__name__, name=f"host_{width}", params={"width": width})
