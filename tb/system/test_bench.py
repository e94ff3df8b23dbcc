"""The benchmark: its scenarios, its accounts and records, and the rates it must reach."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from bench import cli
from bench.account import KINDS, split
from bench.against_ideal import ideal_case
from bench.bottleneck import hop_times
from bench.fast_chains import Framing
from bench.flow import Window
from bench.jobs import plan_jobs
from bench.lone import LonePacket, hop_table, serial_reads
from bench.record import flow_record, lone_record, packet_pieces
from bench.scenario import Scenario, scenarios
from bench.table import tables
from bench.targets import TARGETS, key
from bench.tlp_tap import ReadSpan, TlpTime, merged, read_spans
from lib.pcie.monitor import DOWN, UP, Line, Snapshot
from lib.pcie.packet import COMPLETION_DATA, MEM_READ, MEM_WRITE, Packet
from virtio_rtl.config import named_config

X8 = named_config("net-x8")
PACKET = Framing(60, (72,))


# Scenarios


@pytest.mark.parametrize("quick", [False, True])
def test_every_target_is_measured(quick):
    """Each row of the table of targets has its scenario; in quick runs those of net devices, and
    of each other device at least one."""
    measured = {
        (name, scenario.case, scenario.direction, scenario.frame_bytes, scenario.ring)
        for name in cli.CONFIGS
        for scenario in scenarios(named_config(name), quick)
    }
    wanted = [target for target in TARGETS if not quick or target.config.startswith("net-")]
    assert {key(vars(target)) for target in wanted} <= measured
    judged = measured & {key(vars(target)) for target in TARGETS}
    assert {one[0] for one in judged} == set(cli.CONFIGS)


def test_windows():
    """Whole runs have enough frames for a steady state and lone packets for a histogram."""
    costs = {False: 0.0, True: 0.0}
    for name in cli.CONFIGS:
        whole, quick = (scenarios(named_config(name), quick) for quick in (False, True))
        for scenario in whole:
            # Used descriptors of large requests come one by one.
            least = 96 if scenario.length == 65536 else 256
            assert scenario.window >= (50 if scenario.case == "lone" else least)
            full = (512,) if scenario.of_blk else (64, 1500)
            if scenario.frame_bytes in full and scenario.case != "lone":
                assert scenario.window >= 2000
        kinds = {(one.case, one.direction, one.frame_bytes, one.ring) for one in whole}
        assert len(kinds) == len(whole)
        for some, is_quick in ((whole, False), (quick, True)):
            costs[is_quick] += sum(one.cost for one in some)
    assert costs[True] < costs[False] / 5


def test_jobs_share_the_work():
    """All scenarios once, about equal jobs; the first jobs are of different configurations."""
    plan = [(named_config(name), scenarios(named_config(name), False)) for name in cli.CONFIGS]
    jobs = plan_jobs(plan, 1024, 2)
    everything = [(config.name, scenario) for config, wanted in plan for scenario in wanted]
    placed = {
        number: (job.config, scenario)
        for job in jobs
        for number, scenario in zip(job.numbers, job.scenarios, strict=True)
    }
    assert [placed[number] for number in range(len(everything))] == everything
    assert len({job.name for job in jobs}) == len(jobs)
    assert len({job.config for job in jobs[:3]}) == 3
    costs = [job.cost for job in jobs if job.config == "net-x8"]
    assert max(costs) < 1.5 * min(costs)
    assert {job.ring_size for job in jobs} == {1024, 64}


# Accounts


def test_split_by_purpose():
    """Every byte has one purpose: descriptors that are written are used ones."""
    lines = {
        (UP, "descriptors", MEM_READ): Line(2, 48, 0),
        (UP, "descriptors", MEM_WRITE): Line(2, 560, 512),
        (UP, "payload", MEM_WRITE): Line(16, 1536, 1152),
        (UP, "config_read0", MEM_READ): Line(1, 20, 0),
        (DOWN, "descriptors", COMPLETION_DATA): Line(2, 552, 512),
        (DOWN, "doorbells", MEM_WRITE): Line(1, 28, 4),
    }
    found = split(Snapshot(1000.0, lines, {UP: 0, DOWN: 0}), 16)
    assert set(found[UP]) == set(found[DOWN]) == set(KINDS)
    assert found[UP]["descriptors"] == 3
    assert found[UP]["used"] == 35
    assert found[UP]["payload"] == 96
    assert found[UP]["other"] == 1.25
    assert found[DOWN]["descriptors"] == 34.5
    assert found[DOWN]["doorbells"] == 1.75
    assert sum(found[UP].values()) == sum(line.wire_bytes for line in list(lines.values())[:4]) / 16


def test_packet_pieces():
    """Descriptors that a packet does not reach are left out."""
    assert packet_pieces(Framing(60, (5, 60, 100, 8))) == (5, 60, 7)
    assert packet_pieces(Framing(60, (72, 8))) == (72,)
    assert packet_pieces(PACKET) == (72,)


# Lone packets


def read(tag: int) -> Packet:
    """Return a read request."""
    return Packet(MEM_READ, tag=tag, address=0x1000)


def answer(tag: int, data: int, left: int) -> Packet:
    """Return a completion with `data` bytes, of which `left` were outstanding before it."""
    return Packet(COMPLETION_DATA, bytes(data), tag=tag, byte_count=left)


def test_read_spans():
    """A read ends with its last completion's last beat; tags may be used again."""
    requests = [TlpTime(10, 10, read(1)), TlpTime(12, 12, read(2)), TlpTime(60, 60, read(1))]
    requests.append(TlpTime(61, 61, read(9)))  # never answered
    completions = [
        TlpTime(5, 6, answer(1, 64, 64)),  # of an earlier life
        TlpTime(20, 21, answer(2, 64, 128)),
        TlpTime(30, 33, answer(1, 128, 128)),
        TlpTime(40, 41, answer(2, 64, 64)),
        TlpTime(70, 70, answer(1, 4, 4)),
    ]
    spans = read_spans(requests, completions)
    assert [(span.start, span.end) for span in spans] == [(10, 33), (12, 41), (60, 70)]
    assert isinstance(spans[0], ReadSpan)


def test_serial_reads():
    """Payload, events and the first fetch count, overlaps once; later fetches do not."""
    assert merged([(5, 9), (1, 6), (20, 30), (22, 25)]) == [(1, 9), (20, 30)]
    spans = [
        (-50, 20, "descriptors"),
        (10, 100, "descriptors"),
        (90, 200, "descriptors"),
        (110, 210, "payload"),
        (205, 260, "payload"),
        (280, 400, "events"),
        (390, 500, "events"),
    ]
    assert serial_reads(0, 450, spans) == [(10, 100), (110, 260), (280, 400)]


def test_hops_add_up():
    """The table's cycles are those of the whole way, host reads marked; rare hops are left out."""
    packets = [
        LonePacket(450, ((10, 100), (280, 400)), {"scheduled": 4, "walked": 112, "frame_out": 420}),
        LonePacket(450, ((10, 100), (280, 400)), {"scheduled": 4, "walked": 112}),
    ]
    assert [packet.added for packet in packets] == [240, 240]
    rows = hop_table(packets, receive=False)
    assert [row["name"] for row in rows] == ["virtqueue scheduled", "chain walked", "interrupt TLP"]
    assert [row["cycles"] for row in rows] == [4, 108, 338]
    assert [row["host_read"] for row in rows] == [0, 90, 120]
    assert rows[-1]["at"] == 450
    # As the report shows it: what is not the host's is the device's; together, what it added.
    shown = hop_times({"hops": rows})
    assert [(hop.device, hop.host, hop.at) for hop in shown] == [
        (4, 0, 4), (18, 90, 112), (218, 120, 450),
    ]  # fmt: skip
    assert sum(hop.device for hop in shown) == packets[0].added


# Records


def window(**changes: Any) -> Window:
    """Return what a simulation might have seen."""
    made = Window(
        frames={"transmit": 2000, "receive": 2100},
        time_ns=50_000.0,
        wire_up=320_000,
        wire_down=260_000,
        gbps_up=51.2,
        gbps_down=41.6,
        doorbells=9,
        peak_reads=77,
        split={way: dict.fromkeys(KINDS, 0.0) for way in (UP, DOWN)},
        occupancy={"ns": [0.0], "reads": [0], "read_ahead": [0]},
    )
    return replace(made, **changes)


def made_records() -> list[dict[str, Any]]:
    """Return a record of each kind."""
    framings = {"transmit": [PACKET], "receive": [PACKET]}
    both = flow_record(X8, Scenario("both", 64, 60, 100, 2000), window(), 256, framings)
    lone = lone_record(
        X8,
        Scenario("transmit", 64, 60, 2, 2, "lone"),
        [LonePacket(450, ((10, 400),), {"walked": 7}), LonePacket(448, ((9, 401),), {"walked": 8})],
        64,
    )
    records = [both, lone]
    for record in records:
        record["seed"] = 1
    return records


def test_records_and_table():
    """The arithmetic of a record, by hand; the table has a line for each."""
    both, lone = made_records()
    assert both["mpps"] == 40.0
    assert both["cycles_per_frame"] == 6.25
    assert both["wire_up"] == 160.0
    assert both["wire_down"] == 130.0
    assert both["ceiling_wire_up"] == 158.0
    assert both["ratio"] == pytest.approx(40 / both["ceiling_mpps"], abs=1e-4)
    assert both["link_gbps"] == pytest.approx(63.015, abs=0.001)
    assert both["case"] == "flood"
    assert both["queue_pairs"] == 1
    assert lone["added_cycles"] == [60, 56]
    assert lone["latency_ns"] == [1800.0, 1792.0]
    assert lone["mpps"] is None
    text = io.StringIO()
    for table in tables([both, lone]):
        Console(file=text, width=140).print(table)
    assert re.search(r"flood +both +64 +40.00", text.getvalue())
    assert "160 (158)" in text.getvalue()
    assert re.search(r"lone +transmit +64 +56 to 60", text.getvalue())
    assert "at most 48 cycles" in text.getvalue()


def test_pieces_and_framing_have_ceilings_of_their_own():
    """64-byte completions and random chains cost bytes, which the ceiling allows for."""
    one_way = window(frames={"transmit": 2000})
    plain = {"transmit": [PACKET]}
    flood = Scenario("transmit", 64, 60, 100, 2000)
    pieces = replace(flood, case="pieces64", piece=64)
    framing = replace(flood, case="framing", frame_bytes="60-9000", length=0)
    chains = {"transmit": [PACKET, Framing(60, (12, 60))]}
    base, small, cut = (
        flow_record(X8, scenario, one_way, 256, framings)
        for scenario, framings in ((flood, plain), (pieces, plain), (framing, chains))
    )
    assert small["ceiling_wire_down"] > base["ceiling_wire_down"] + 20
    assert cut["ceiling_wire_up"] > base["ceiling_wire_up"] + 10
    assert ideal_case(base).frames == (72,)
    assert ideal_case(small).completion_bytes == 64
    assert ideal_case(cut).frames == ((72,), (12, 60))
    assert ideal_case(base).lanes == 8
    assert ideal_case(base).doorbell_batch > base["scenario"]["window"]


# Command line


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["--config", "net-x3"], "net-x3"),
        (["--only", "sideways"], "--only sideways"),
        (["--case", "idle"], "--case idle"),
        (["--case", "pairs128", "--config", "net-x8"], "nothing to measure"),
        (["--seed", "abc"], "SEED='abc'"),
    ],
)
def test_bad_options(args, complaint):
    """One line on stderr, status 2."""
    result = CliRunner().invoke(cli.app, args)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert complaint in result.stderr


# The device


@pytest.mark.slow
@pytest.mark.sweep
def test_small_windows_of_every_case(tmp_path):
    """64-byte frames at full rings: at least 30 million a second, each way and both at once; all
    other cases run, every byte of them is right, and their records are whole."""
    wanted = [
        Scenario(direction, 64, 60, 512, 1024) for direction in ("transmit", "receive", "both")
    ]
    wanted += [Scenario("transmit", 64, 60, 256, 512, "pieces64", 64)]
    for direction in ("transmit", "receive"):
        wanted.append(Scenario(direction, "60-9000", 0, 64, 64, "framing"))
        wanted.append(Scenario(direction, 64, 60, 1, 5, "lone"))
    records, failures = cli.run(
        [(X8, wanted)],
        ring_size=256,
        workers=1,
        seed=1,
        folder=tmp_path,
        console=Console(file=io.StringIO()),
        ideal=False,
    )
    assert not failures
    assert [(line["case"], line["direction"]) for line in records] == [
        (scenario.case, scenario.direction) for scenario in wanted
    ]
    for line in records[:3]:
        assert line["cycles_per_frame"] <= 250 / 30, line
        assert min(line["frames"].values()) >= 1024
    for line in records:
        if line["case"] == "lone":
            check_lone(line)
        else:
            check_flow(line)
    assert json.loads((tmp_path / "results.json").read_text()) == records
    assert (tmp_path / "report.html").stat().st_size > 10_000


def check_flow(line: dict[str, Any]) -> None:
    """The split accounts for all bytes; no descriptor is ahead that was not there."""
    for way in ("up", "down"):
        parts = line[f"split_{way}"]
        assert sum(parts.values()) == pytest.approx(line[f"wire_{way}"], abs=0.01)
        assert parts["other"] == 0
        assert line[f"gbps_{way}"] <= line["link_gbps"] + 0.01
    samples = line["occupancy"]
    assert len(samples["ns"]) == len(samples["reads"]) == len(samples["read_ahead"])
    rings = 2 if line["direction"] == "both" else 1
    assert max(samples["read_ahead"]) <= rings * line["ring_size"]
    assert max(samples["read_ahead"]) > 0
    assert max(samples["reads"]) <= line["peak_reads_in_flight"]


def check_lone(line: dict[str, Any]) -> None:
    """What is added is less than the whole, and not less than the hops in the device."""
    assert len(line["added_cycles"]) == len(line["latency_ns"]) == 5
    for added, latency in zip(line["added_cycles"], line["latency_ns"], strict=True):
        assert 0 < added < latency / 4
    # Two or three reads of at least 400 ns lie in a packet's way.
    reads = 3 if line["direction"] == "transmit" else 2
    for added, latency in zip(line["added_cycles"], line["latency_ns"], strict=True):
        assert latency - 4 * added >= reads * 400
    assert line["hops"][-1]["name"] == "interrupt TLP"
    assert all(hop["cycles"] >= hop["host_read"] >= 0 for hop in line["hops"])
