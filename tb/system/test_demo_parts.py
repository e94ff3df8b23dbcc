"""The demo's parts: ceiling, tables, report, hop timer."""

from __future__ import annotations

import io
import random
import re
from dataclasses import asdict, replace

import cocotb
import pytest
from cocotb.triggers import RisingEdge
from rich.console import Console
from typer.testing import CliRunner

from demo import figures, report, simulation
from demo.ceiling import ceiling, link_gbps, raw_gbps
from demo.cli import app
from demo.flow import feature_names
from demo.hop_timer import HopTimer
from demo.progress import PROGRESS, ProgressView, ProgressWriter
from demo.result import (
    Crossing,
    Flood,
    Hop,
    Journey,
    Result,
    Steady,
    WireLine,
    load_result,
)
from demo.steady import Arrival, steady
from demo.table import rate_rows, show
from lib.golden import Check
from lib.sim import SimulationFailed, params, simulate
from lib.streams import reset, start_clock
from lib.words import counted, reason
from virtio_rtl.config import named_config

# Ceiling


def test_ceiling_of_the_wire_model():
    """The wire model: 66 and 63 Mpps for 64-byte frames over Gen3 x8, split 63 and 65."""
    config = named_config("net-x8")
    assert round(ceiling(config, [60], "transmit").mpps) == 66
    assert round(ceiling(config, [60] * 5, "receive").mpps) == 63
    assert round(ceiling(config, [60], "transmit", "split").mpps) == 63
    assert round(ceiling(config, [60], "receive", "split").mpps) == 65
    both = ceiling(config, [60, 1500], "both")
    single = [ceiling(config, [length], "both") for length in (60, 1500)]
    assert both.wire_up == pytest.approx(sum(each.wire_up for each in single) / 2)
    assert both.mpps == pytest.approx(57.88e3 / 8 / max(both.wire_up, both.wire_down))


def test_links_that_the_model_does_not_name():
    """Narrower links go by proportion."""
    assert link_gbps(named_config("net-x8")) == 57.88
    assert link_gbps(named_config("net-x16")) == 113.70
    assert link_gbps(named_config("net-x4")) == pytest.approx(57.88 / 2)
    assert link_gbps(named_config("net-x1")) == pytest.approx(57.88 / 8)


# Result, table, report


def made_up(passed: bool = True) -> Result:
    """Return a result with numbers that are easy to check: 4 cycles a frame at 250 MHz."""
    hops = [Hop("driver writes the doorbell", 0.0), Hop("a <hop>", 40.0), Hop("interrupt", 900.0)]
    crossings = [Crossing(10.0, "down", "doorbell", 28), Crossing(880.0, "up", "interrupt", 28)]
    config = named_config("net-x8")
    return Result(
        config={"name": config.name, "clock_mhz": config.clock_mhz, "width": config.width},
        capture="<script>alert(1)</script>.pcap",
        seed=99,
        device={"MAC address": "02:00:00:00:00:01"},
        flood=Flood(
            frames=1000,
            frame_bytes=64_000,
            time_ns=16_000.0,
            steady=Steady(500, 32_000, 8_000.0, 64.0, 0.981, 0.876),
            ring_size=256,
            doorbells=32,
            interrupts=2,
            wire=[
                WireLine("up", "frames", 1000, 120_000),
                WireLine("up", "descriptors", 100, 4_000),
                WireLine("down", "frames", 1000, 100_000),
            ],
        ),
        ceiling=ceiling(config, [64], "both"),
        journeys=[Journey(title, 60, hops, crossings) for title in ("transmit", "receive")],
        checks=[Check("frames", True, "1000"), Check("memory", passed, "at 0x1 <&>")],
    )


def test_result_survives_json(tmp_path):
    """Nothing is lost between the simulator and the report."""
    result = made_up()
    result.save(tmp_path / "result.json")
    assert load_result(tmp_path / "result.json") == result


def test_numbers_of_the_table():
    """What the table calculates is right."""
    rows = {name: measured for name, measured, _ in rate_rows(made_up())}
    assert rows["cycles per frame"] == "4.00"
    assert rows["frames per second at 250 MHz"] == "62.500 Mframes/s"
    assert rows["frame bits per second, each way"] == "32.00 Gb/s"
    assert rows["wire bytes per frame, up"] == "124.0"
    assert rows["wire bytes per frame, down"] == "100.0"
    assert rows["frames per second, steady"] == "62.500 Mframes/s (98%)"
    assert rows["frames in the steady middle"] == "500 (64 bytes each)"
    assert rows["link busy, up / down"] == "98% / 88%"
    limits = {name: limit for name, _, limit in rate_rows(made_up())}
    assert limits["wire bytes per frame, up"] == f"{made_up().ceiling.wire_up:.1f}"
    assert made_up().journeys[0].steps() == [("a <hop>", 0.0, 40.0), ("interrupt", 40.0, 900.0)]


@pytest.mark.parametrize("passed", [True, False])
def test_table_and_report(passed):
    """Both show the verdict; the report is one file, safe and reproducible."""
    result = made_up(passed)
    text = io.StringIO()
    show(Console(file=text, width=100), result)
    assert ("FAILED" in text.getvalue()) is not passed
    assert "62.500 Mframes/s" in text.getvalue()
    assert re.search(r"interrupt +│ +900 │ +860 │ +215 │", text.getvalue())
    html = report.render(result)
    assert ("FAILED" in html) is not passed
    assert "62.500 Mframes/s" in html
    assert html.count("<svg") == 4
    # Nothing is loaded from elsewhere, and nothing of the input is taken for markup.
    assert not re.search(r"<(script|link|img|iframe)|(src|srcset)=|@import", html)
    assert not re.search(r'href="(?!#)', html)
    assert "&lt;script&gt;" in html
    assert html == report.render(result), "the report is not reproducible"


def test_result_without_a_steady_state():
    """A capture of one frame has no steady rate, and no chart of one."""
    result = made_up()
    short = replace(result, flood=replace(result.flood, frames=1, steady=None))
    names = [name for name, _, _ in rate_rows(short)]
    assert "frames per second, steady" not in names
    assert "link busy, up / down" not in names
    html = report.render(short)
    assert html.count("<svg") == 3
    assert "too few frames for a rate" in html
    assert "1 frame of" in html


def on_the_wire(lengths: list[int], raw: float, behind: int) -> list[Arrival]:
    """Return arrivals over a link that is always busy, used descriptors `behind` frames late."""
    wire, ends = 0, []
    for length in lengths:
        wire += length + 24 * -(-length // 256) + 40
        ends.append((wire * 8 / raw, wire))
    moments = [ends[min(index + behind, len(ends) - 1)] for index in range(len(ends))]
    return [Arrival(at, index, size, size) for index, (at, size) in enumerate(moments, 1)]


@pytest.mark.parametrize("frames", [40, 62, 66, 80, 300])
@pytest.mark.parametrize("behind", [0, 4, 9])
def test_steady_rate_fits_the_link(frames, behind):
    """However late used descriptors are, rate times bytes on the wire is what the link carries."""
    config = named_config("net-x8")
    raw = raw_gbps(config)
    assert raw == pytest.approx(63.015, abs=1e-3)
    arrivals = on_the_wire([9014] * frames, raw, behind)
    first, last = arrivals[0], arrivals[-1]
    naive = (last.frames - first.frames) / (last.time_ns - first.time_ns)
    per_frame = last.wire_up / frames
    assert (naive * per_frame * 8 > raw * 1.001) is (behind > 0)  # what this test is for
    got = steady(config, [9014] * frames, arrivals)
    if frames < 66:
        assert got is None
        return
    assert got.frames in (frames // 2, frames // 2 + 1)
    assert got.mpps * 1e-3 * per_frame * 8 <= raw * 1.0001
    assert got.busy_up == got.busy_down == pytest.approx(1)


def test_steady_ceiling_is_that_of_its_window():
    """Short frames amid long ones are not held against the ceiling for the mix of all."""
    config = named_config("net-x8")
    lengths = [9014] * 100 + [60] * 201 + [9014] * 100
    got = steady(config, lengths, on_the_wire(lengths, raw_gbps(config), 0))
    assert got.frames == 200
    assert got.model_mpps == ceiling(config, [60], "both").mpps
    assert steady(config, [], []) is None


def test_features_have_names():
    """Bits without a name keep their number."""
    assert feature_names(1 << 3 | 1 << 34 | 1 << 100) == [
        "VIRTIO_NET_F_MTU",
        "VIRTIO_F_RING_PACKED",
        "bit 100",
    ]


def test_settings_are_for_people():
    """The report's last table says the MAC once, and fields in words."""
    config = asdict(named_config("net-x8"))
    html = report.render(replace(made_up(), config=config))
    assert html.count("02:00:00:00:00:01") == 1
    assert "_" not in re.sub(r"<[^>]*>", "", html[html.index("<h2>Run") :])
    assert "50,000 µs" in html
    rows = dict(report.config_rows(config | {"in_order": False}, "a link"))
    assert rows["ring formats"] == "split, packed"
    assert (rows["suspend"], rows["buffers used in order"]) == ("offered", "not offered")


def test_many_packets_on_the_lanes_leave_room(recwarn):
    """Words of TLPs that cross close together neither push the bars away nor come twice."""
    journey = made_up().journeys[0]
    crossings = [Crossing(20.0 + at, "up", f"purpose {at // 2}", 24) for at in range(60)]
    svg = figures.timeline(replace(journey, crossings=crossings))
    assert not recwarn.list
    assert svg.count("<!-- purpose 1 -->") == 1
    assert "<!-- purpose 29 -->" not in svg


def test_colours_of_the_wire_chart_are_fixed():
    """A purpose has its colour, whatever the sizes and whoever else is there."""
    result = made_up()
    wire = [WireLine("up", "descriptors", 9, 900_000), WireLine("up", "doorbell", 1, 28)]
    changed = replace(result, flood=replace(result.flood, wire=wire))
    assert "#4a7c59" in figures.wire(result)
    assert "#4a7c59" not in figures.wire(changed)
    assert "#2b6cb0" in figures.wire(changed)


@pytest.mark.parametrize("broken", [False, True])
def test_a_failed_simulation_gets_one_line(broken, tmp_path, monkeypatch):
    """The reason and the log's path, status 1; the progress file goes, whatever happens."""
    message = "demo (repeat)\nfailed:\ndemo.flow.demo: no progress\nsecond\n--- log:\nTraceback\n"

    def fails(*args, **options):
        raise RuntimeError("broken") if broken else SimulationFailed(message)

    monkeypatch.setattr(simulation, "simulate", fails)
    monkeypatch.setattr(simulation, "LoopbackDevice", lambda config: None)
    result = CliRunner().invoke(app, ["--output", str(tmp_path)], env={"PCAP": None})
    assert result.exit_code == 1
    assert not (tmp_path / "progress").exists()
    if not broken:
        assert result.stderr.count("\n") == 1
        assert result.stderr.startswith("error: demo.flow.demo: no progress; seed: ")
        assert "sim.log" in result.stderr


def test_words():
    """One is singular; a message without the usual parts is its own reason."""
    assert [counted(n, "frame") for n in (0, 1, 2000)] == ["0 frames", "1 frame", "2,000 frames"]
    assert reason("odd\nmore") == "odd"
    assert reason("") == "no reason given"


def test_progress_reaches_the_terminal(tmp_path, monkeypatch):
    """Without a terminal: a line for each phase and each quarter."""
    path, text = tmp_path / "progress", io.StringIO()
    monkeypatch.setenv(PROGRESS, str(path))
    with ProgressView(Console(file=text, width=80), path, "building"):
        writer = ProgressWriter()
        for done in range(0, 1001, 10):
            writer.tell("moving frames", done, 1000)
        writer.tell("comparing", 0, 0)
    lines = text.getvalue().splitlines()
    assert lines[0] == "building"
    assert lines[-1] == "comparing"
    assert "moving frames 1000/1000" in lines
    assert len(lines) == 7


# Hop timer


@cocotb.test(timeout_time=100, timeout_unit="us")
async def notes_first_strobes(dut):
    """Only the first strobe since `arm` counts, and its cycle is exact."""
    count = params().count
    start_clock(dut)
    dut.strobes.value = 0
    dut.arm.value = 1
    await reset(dut)
    edge = RisingEdge(dut.clk)
    for _ in range(6):
        dut.arm.value = 1
        dut.strobes.value = random.getrandbits(count)  # not seen while arming
        await edge
        await edge
        assert int(dut.seen.value) == 0
        dut.arm.value = 0
        dut.strobes.value = 0
        await edge
        expected: dict[int, int] = {}
        for _ in range(60):
            strobes = sum((random.random() < 0.02) << place for place in range(count))
            dut.strobes.value = strobes
            await edge  # reads show the cycle that this edge ends, strobes included
            now = int(dut.now.value)
            for place in range(count):
                if strobes >> place & 1:
                    expected.setdefault(place, now)
        dut.strobes.value = 0
        await edge
        await edge
        seen, times = int(dut.seen.value), int(dut.times.value)
        assert seen == sum(1 << place for place in expected)
        for place, now in expected.items():
            assert times >> 32 * place & 0xFFFF_FFFF == now, place


@pytest.mark.parametrize("count", [1, 14])
def test_hop_timer(count):
    """The hop timer of one, and of many strobes."""
    simulate(
        HopTimer(count), module=__name__, name=f"demo_hop_timer_{count}", params={"count": count}
    )
