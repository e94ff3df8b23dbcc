"""The simulated memory behind a disk: bursts, strobes, speed, errors, and the files around it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiBus, AxiMaster, AxiResp

from lib import convert
from lib.disk import AxiRam, DiskDevice, disk_plusargs
from lib.sim import params, simulate
from lib.streams import reset, start_clock
from virtio_rtl.config import ConfigError, DeviceConfig
from virtio_rtl.config_blk import BlkConfig

BASE = 0x3000
SECTORS = 25
SIZE = SECTORS * 512
CONTENT = random.Random(5).randbytes(SIZE - 100)


def pauses(chance: float) -> Any:
    """Let a channel pause at random."""
    choose = random.Random(random.getrandbits(32))
    while True:
        yield choose.random() < chance


async def master(dut: Any, stall: float) -> AxiMaster:
    """A bus master behind a reset; its channels pause at random."""
    start_clock(dut)
    bus = AxiMaster(AxiBus.from_prefix(dut, "axi_"), dut.clk, dut.rst)
    await reset(dut)
    write, read = bus.write_if, bus.read_if
    if stall:
        for channel in (write.aw_channel, write.w_channel, write.b_channel,
                        read.ar_channel, read.r_channel):  # fmt: skip
            channel.set_pause_generator(pauses(stall))
    return bus


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def holds_what_was_written(dut: Any) -> None:
    """Any bytes at any place, many bursts at a time, on top of the file; the rest is zero."""
    bus = await master(dut, 0.3)
    image = bytearray(CONTENT.ljust(SIZE, b"\0"))
    assert bytes((await bus.read(BASE, SIZE)).data) == image
    for _ in range(12):
        writes, at = [], 0
        while at < SIZE:
            length = random.choice([1, 3, random.randint(1, 300), random.randint(1, 3000)])
            part = random.randbytes(min(length, SIZE - at))
            image[at : at + len(part)] = part
            writes.append(cocotb.start_soon(bus.write(BASE + at, part)))
            at += len(part) + random.randint(0, 3000)
        for write in writes:
            assert (await write).resp == AxiResp.OKAY
        reads = {
            at: cocotb.start_soon(bus.read(BASE + at, 700)) for at in range(0, SIZE - 700, 611)
        }
        for at, read in reads.items():
            done = await read
            assert done.resp == AxiResp.OKAY
            assert bytes(done.data) == image[at : at + 700], at
    Path(params().expected).write_bytes(image)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def refuses_other_addresses(dut: Any) -> None:
    """Below and above the memory: DECERR, nothing changes, and later accesses are good."""
    bus = await master(dut, 0.0)
    lanes = len(dut.axi__wdata) // 8
    before = bytes((await bus.read(BASE, SIZE)).data)
    for at in (0, BASE - lanes, BASE + SIZE, BASE + SIZE + 4096):
        assert (await bus.write(at, random.randbytes(lanes))).resp == AxiResp.DECERR
        assert (await bus.read(at, lanes)).resp == AxiResp.DECERR
    end = before[-lanes:]
    over_the_end = BASE + SIZE - lanes
    assert (await bus.write(over_the_end, end + bytes(2 * lanes))).resp == AxiResp.DECERR
    assert (await bus.read(over_the_end, 3 * lanes)).resp == AxiResp.DECERR
    assert (await bus.write(over_the_end, end)).resp == AxiResp.OKAY
    done = await bus.read(BASE, SIZE)
    assert done.resp == AxiResp.OKAY
    assert bytes(done.data) == before


@cocotb.test(timeout_time=200, timeout_unit="us")
async def moves_a_beat_a_cycle(dut: Any) -> None:
    """Bursts follow each other without a gap, reads and writes at once."""
    bus = await master(dut, 0.0)
    lanes = len(dut.axi__wdata) // 8
    beats = SIZE // lanes
    spans = {}

    async def watch(kind: str) -> None:
        valid, ready = getattr(dut, f"axi__{kind}valid"), getattr(dut, f"axi__{kind}ready")
        count = cycle = first = 0
        while count < beats:
            await RisingEdge(dut.clk)
            cycle += 1
            if valid.value and ready.value:
                first = first or cycle
                count += 1
        spans[kind] = cycle - first + 1

    watches = [cocotb.start_soon(watch(kind)) for kind in "wr"]
    write = cocotb.start_soon(bus.write(BASE, random.randbytes(SIZE)))
    await bus.read(BASE, SIZE)
    await write
    for each in watches:
        await each
    assert spans == {"w": beats, "r": beats}


@pytest.mark.parametrize("width", [64, 512])
def test_axi_ram(width, tmp_path):
    """The content comes from a shorter file, and goes into another one."""
    content, dump, expected = (tmp_path / name for name in ("content", "dump", "expected"))
    content.write_bytes(CONTENT)
    disk = BlkConfig(capacity_sectors=SECTORS, backend="axi4", axi_base=BASE)
    simulate(
        AxiRam(width, disk),
        module=__name__,
        name=f"axi_ram_{width}",
        # The order counts: the first one sees the file, the last one leaves what is dumped.
        testcase=["holds_what_was_written", "refuses_other_addresses"],
        params={"expected": str(expected)},
        plusargs=disk_plusargs(content, dump),
    )
    assert dump.read_bytes() == expected.read_bytes()
    simulate(
        AxiRam(width, disk),
        module=__name__,
        name=f"axi_ram_speed_{width}",
        testcase="moves_a_beat_a_cycle",
        plusargs=disk_plusargs(dump=dump),
    )
    assert dump.stat().st_size == SIZE


def disk_config(megabytes: int) -> DeviceConfig:
    """A small device with a disk."""
    blk = BlkConfig(capacity_sectors=megabytes * 2048, backend="axi4")
    return DeviceConfig("disk", device="blk", width=64, blk=blk)


def test_disk_is_converted_once(tmp_path, monkeypatch):
    """A disk of any size is a few lines; another text of the memory is another netlist."""
    monkeypatch.setattr(convert, "BUILD", tmp_path)
    converted = []

    def once(component: Any, name: str, waive: Any) -> convert.Netlist:
        converted.append(component)
        component._MustUse__silence = True  # nobody elaborates it
        return convert.Netlist("module dut();\nendmodule\n", {})

    monkeypatch.setattr(convert, "_convert", once)
    first = convert.to_verilog(DiskDevice(disk_config(64)))
    assert convert.to_verilog(DiskDevice(disk_config(64))) == first
    assert len(converted) == 1
    assert "module axi_ram" in first.verilog
    changed = tmp_path / "axi_ram.sv"
    changed.write_text(first.verilog + "// changed")
    monkeypatch.setattr(DiskDevice, "files", (changed,))
    assert "// changed" in convert.to_verilog(DiskDevice(disk_config(64))).verilog
    convert.to_verilog(DiskDevice(disk_config(32)))
    assert len(converted) == 3


def test_disk_needs_its_backend():
    """The other backend has no bus."""
    with pytest.raises(ConfigError, match="AXI4"):
        DiskDevice(DeviceConfig("disk", device="blk"))
    with pytest.raises(ConfigError, match="AXI4"):
        DiskDevice(DeviceConfig("disk"))
