"""The benchmark: its traffic hardware, its bulk driver, its records, and the rate it must reach."""

from __future__ import annotations

import io
import json
import random
from typing import Any

import cocotb
import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from cocotb.triggers import RisingEdge
from rich.console import Console
from typer.testing import CliRunner

from bench import cli
from bench.fast_ring import FastRing
from bench.pattern import expected_frames
from bench.scenario import Scenario, Window, record, scenarios
from bench.wrapper import FrameChecker, FrameGenerator
from lib.sim import params, simulate
from lib.streams import reset, start_clock
from virtio_model.device.net import GoldenNet
from virtio_model.device.packed_queue import DevicePackedQueue
from virtio_model.errors import DeviceBreach
from virtio_model.memory import Allocator, GuestMemory
from virtio_rtl.config import named_config
from virtio_rtl.types.axis import AXIStream

# Traffic hardware


class Tap(wiring.Component):
    """A generator whose stream stands outside, and a checker that is fed from outside."""

    def __init__(self, width: int):
        self.width = width
        super().__init__(
            {
                "enable": In(1),
                "frame_bytes": In(16),
                "made": Out(AXIStream(width)),
                "sent": Out(32),
                "taken": Out(32),
                "errors": Out(32),
                "check_valid": In(1),
                "check_data": In(width),
                "check_keep": In(width // 8),
                "check_last": In(1),
                "check_user": In(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Wire both."""
        m = Module()
        m.submodules.generator = generator = FrameGenerator(self.width)
        m.submodules.checker = checker = FrameChecker(self.width)
        wiring.connect(m, generator.port, wiring.flipped(self.made))
        m.d.comb += [
            generator.enable.eq(self.enable),
            generator.frame_bytes.eq(self.frame_bytes),
            checker.frame_bytes.eq(self.frame_bytes),
            self.sent.eq(generator.sent),
            self.taken.eq(checker.taken),
            self.errors.eq(checker.errors),
            checker.port.tvalid.eq(self.check_valid),
            checker.port.tdata.eq(self.check_data),
            checker.port.tkeep.eq(self.check_keep),
            checker.port.tlast.eq(self.check_last),
            checker.port.tuser.eq(self.check_user),
        ]
        return m


async def prepare(dut: Any, length: int) -> Any:
    """Reset, with everything quiet; give the edge to wait for."""
    start_clock(dut)
    for name in ("enable", "made__tready", "check_valid", "check_user"):
        getattr(dut, name).value = 0
    dut.frame_bytes.value = length
    await reset(dut)
    return RisingEdge(dut.clk)


def golden_beats(number: int, length: int, lanes: int) -> list[tuple[bytes, int]]:
    """Return a frame as (bytes, last) beats; written without the hardware's arithmetic."""
    words = -(-length // 4)
    whole = b"".join(
        (number ^ word * 0x9E3779B1 % (1 << 32)).to_bytes(4, "little") for word in range(words)
    )[:length]
    pieces = [whole[at : at + lanes] for at in range(0, length, lanes)]
    return [(piece, int(index == len(pieces) - 1)) for index, piece in enumerate(pieces)]


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(("length", [1, 14, 60, 64, 65, 129]), ("stall", [0.0, 0.4]))
async def generates_numbered_frames(dut, length, stall):
    """Every byte is right; without stalls a beat leaves in every cycle."""
    lanes = params().width // 8
    edge = await prepare(dut, length)
    expected = [beat for number in range(12) for beat in golden_beats(number, length, lanes)]
    dut.enable.value = 1
    dut.made__tready.value = 1
    got, waited = 0, 0
    while got < len(expected):
        await edge
        if int(dut.made__tvalid.value) and int(dut.made__tready.value):
            data, last = expected[got]
            value = int(dut.made__tdata.value) & (1 << 8 * len(data)) - 1
            assert value == int.from_bytes(data, "little")
            assert int(dut.made__tkeep.value) == (1 << len(data)) - 1
            assert int(dut.made__tlast.value) == last
            got += 1
        else:
            waited += 1
        dut.made__tready.value = int(random.random() >= stall)
    assert stall or waited <= 1  # the enable takes a cycle to arrive
    dut.made__tready.value = 0
    await edge
    await edge
    if stall == 0.0:
        assert int(dut.sent.value) in (12, 13)


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(("mistake", ["none", "data", "keep", "last", "user", "lost"]))
async def finds_mistakes(dut, mistake):
    """A good stream passes with gaps; one wrong bit anywhere is counted."""
    width = params().width
    lanes = width // 8
    length = 2 * lanes + random.randrange(1, lanes)
    edge = await prepare(dut, length)
    frames = [golden_beats(number, length, lanes) for number in range(8)]
    if mistake == "lost":
        del frames[3]
    for index, frame in enumerate(frames):
        for place, (data, last) in enumerate(frame):
            wrong = index == 3 and place == len(frame) - 1
            keep = (1 << len(data)) - 1
            bits = int.from_bytes(data, "little")
            if len(data) < lanes:  # lanes that are not kept may hold anything
                bits |= random.getrandbits(8 * (lanes - len(data))) << 8 * len(data)
            if wrong and mistake == "data":
                bits ^= 1 << random.randrange(8 * len(data))
            dut.check_data.value = bits
            dut.check_keep.value = keep >> 1 if wrong and mistake == "keep" else keep
            dut.check_last.value = last ^ int(wrong and mistake == "last")
            dut.check_user.value = int(wrong and mistake == "user")
            dut.check_valid.value = 1
            await edge
            dut.check_valid.value = 0
            for _ in range(random.choice([0, 0, 1, 3])):
                await edge
    await edge
    await edge
    errors = int(dut.errors.value)
    assert int(dut.taken.value) == len(frames)
    assert (errors == 0) == (mistake == "none")
    if mistake in ("data", "keep", "last", "user"):
        assert errors == 1


@pytest.mark.parametrize("width", [64, 128, 256, 512])
def test_traffic_hardware(width):
    """Generator and checker against frames written down independently."""
    simulate(
        Tap(width),
        module=__name__,
        name=f"bench_traffic_{width}",
        params={"width": width},
        waive=["made__tuser"],
    )


def test_expected_frames():
    """The numpy version says the same."""
    rows = expected_frames(5, 3, 61)
    for number, row in enumerate(rows, 5):
        assert row.tobytes() == b"".join(data for data, _ in golden_beats(number, 61, 8))


# Bulk driver


class Rig:
    """Two bulk rings with the golden net device behind them."""

    def __init__(self, size: int = 64, frame_bytes: int = 60) -> None:
        self.memory = GuestMemory(1 << 20, 1 << 32)
        allocator = Allocator(self.memory)
        draw = np.random.default_rng(3)
        self.rx, self.tx = (
            FastRing(self.memory, allocator, size, frame_bytes, receive=receive, draw=draw)
            for receive in (True, False)
        )
        rx, tx = (
            DevicePackedQueue(self.memory, size, ring.desc_addr, ring.driver_addr, ring.device_addr)
            for ring in (self.rx, self.tx)
        )
        self.device = GoldenNet(self.memory, rx, tx)

    def receive(self, first: int, count: int) -> None:
        """Let the device receive numbered frames."""
        for row in expected_frames(first, count, self.rx.frame_bytes):
            assert self.device.receive(row.tobytes())


@pytest.mark.parametrize("frame_bytes", [14, 60, 1500])
def test_bulk_rings_over_many_laps(frame_bytes):
    """Batches of any size, three laps and more: frames right, used buffers all found."""
    rig = Rig(frame_bytes=frame_bytes)
    draw = random.Random(frame_bytes)
    sent: list[bytes] = []
    received = 0
    while rig.rx.taken < 250 or rig.tx.taken < 250:
        rig.tx.add(draw.randint(0, rig.tx.free))
        rig.rx.add(draw.randint(0, rig.rx.free))
        sent += rig.device.process_tx(draw.randint(0, 40))
        before = rig.tx.taken
        assert rig.tx.poll() == len(sent) - before
        count = draw.randint(0, rig.rx.size - rig.rx.free)
        rig.receive(received, count)
        received += count
        assert rig.rx.poll() == count
        assert rig.rx.taken == received
        assert rig.tx.taken == len(sent)
    for row, frame in zip(expected_frames(0, len(sent), frame_bytes), sent, strict=True):
        assert row.tobytes() == frame


def test_kicks_follow_the_device():
    """A device that publishes DISABLE is not kicked."""
    rig = Rig()
    assert rig.tx.needs_kick()
    rig.device.tx.enable_notifications(False)
    assert not rig.tx.needs_kick()
    rig.device.tx.enable_notifications(True)
    assert rig.tx.needs_kick()
    assert not rig.device.tx.should_interrupt()


@pytest.mark.parametrize(
    ("offset", "complaint"), [(8, "len"), (12, "id"), (14, "flags"), (None, "frame"), (0, "header")]
)
def test_bulk_rings_find_mistakes(offset, complaint):
    """Each field of a used descriptor, the header and the frame are looked at."""
    rig = Rig()
    rig.rx.add(40)
    rig.receive(0, 20)
    slot = 13
    at = rig.rx.desc_addr + 16 * slot + (offset or 0)
    if complaint == "frame":
        at = rig.rx.pool + slot * rig.rx.stride + 12 + 59
    elif complaint == "header":
        at = rig.rx.pool + slot * rig.rx.stride + 11
    rig.memory.write(at, bytes([rig.memory.read(at, 1)[0] ^ 1]))
    with pytest.raises(DeviceBreach, match=f"^{complaint} of a used buffer.*buffer=0xd"):
        rig.rx.poll()


# Records


def test_scenarios():
    """Both sizes, each way and both at once; at least 2000 frames unless it must be quick."""
    whole = scenarios(quick=False)
    assert {(item.direction, item.frame_bytes, item.length) for item in whole} == {
        (direction, *size)
        for direction in ("transmit", "receive", "both")
        for size in ((64, 60), (1500, 1500))
    }
    assert all(item.window >= 2000 for item in whole)
    assert sum(item.window for item in scenarios(quick=True)) < 8000


def test_record_and_table():
    """The record's arithmetic, by hand; the table has a line for it."""
    scenario = Scenario("both", 64, 60, 100, 2000)
    window = Window(
        {"transmit": 2000, "receive": 2100}, 50_000.0, 320_000, 260_000, 51.2, 41.6, 9, 77
    )
    line = record(named_config("net-x8"), scenario, window, 256)
    assert line["mpps"] == 40.0
    assert line["cycles_per_frame"] == 6.25
    assert line["wire_up"] == 160.0
    assert line["wire_down"] == 130.0
    assert line["ratio"] == pytest.approx(40 / line["ceiling_mpps"], abs=1e-4)
    assert line["link_gbps"] == pytest.approx(63.015, abs=0.001)
    assert {"config", "ring", "direction", "frame_bytes"} <= set(line)
    text = io.StringIO()
    Console(file=text, width=120).print(cli.table([line]))
    assert "40.00" in text.getvalue()
    assert "160 (158)" in text.getvalue()


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["--config", "net-x3"], "net-x3"),
        (["--only", "sideways"], "--only sideways"),
        (["--seed", "abc"], "SEED='abc'"),
    ],
)
def test_bad_options(args, complaint):
    """One line on stderr, status 2."""
    result = CliRunner().invoke(cli.app, args)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert complaint in result.stderr


@pytest.mark.slow
def test_rate_of_small_frames(tmp_path):
    """64-byte frames at full rings: at least 30 million a second, each way and both at once."""
    wanted = [
        Scenario(direction, 64, 60, 512, 1024) for direction in ("transmit", "receive", "both")
    ]
    records, failure = cli.run(
        named_config("net-x8"),
        wanted,
        ring_size=256,
        seed=1,
        folder=tmp_path,
        console=Console(file=io.StringIO()),
    )
    assert not failure
    assert [line["direction"] for line in records] == ["transmit", "receive", "both"]
    for line in records:
        assert line["cycles_per_frame"] <= 250 / 30, line
        assert min(line["frames"].values()) >= 1024
    assert json.loads((tmp_path / "results.json").read_text()) == records
