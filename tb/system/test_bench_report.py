"""The benchmark's targets, what is said to limit a measurement, and the report."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bench import report
from bench.bottleneck import bottleneck, hop_times, tlp_beats
from bench.targets import (
    RANDOM,
    TARGETS,
    Target,
    above_ideal,
    find_target,
    judge,
    title,
    verdicts,
)
from lib.paths import ROOT


def flood(config: str = "net-x8", direction: str = "transmit", **fields: Any) -> dict[str, Any]:
    """A record with everything that a flood may have."""
    made = {
        "config": config,
        "ring": "packed",
        "direction": direction,
        "case": "flood",
        "frame_bytes": 64,
        "queue_pairs": 1,
        "mpps": 62.0,
        "ceiling_mpps": 65.7,
        "ideal_mpps": 71.2,
        "ratio": 0.9437,
        "ratio_of_ideal": 0.8708,
        "cycles_per_frame": 4.03,
        "wire_up": 44.4,
        "wire_down": 109.2,
        "ceiling_wire_up": 43.0,
        "ceiling_wire_down": 110.1,
        "gbps_up": 22.4,
        "gbps_down": 55.0,
        "link_gbps": 63.0,
        "window_ns": 86_000.0,
        "ring_size": 1024,
        "host_read_ns": 600.0,
        "peak_reads_in_flight": 108,
        "seed": 77,
        "split_up": {"payload": 24.0, "descriptors": 1.5, "used": 17.5, "events": 1.4},
        "split_down": {"payload": 91.0, "descriptors": 17.25, "doorbells": 0.9, "novelty": 0.05},
        "occupancy": {
            "ns": [0, 250, 500, 750, 1000],
            "reads": [0, 1, 9, 80, 100],
            "read_ahead": [0, 16, 48, 112, 180],
        },
    }
    return made | fields


def lone(**fields: Any) -> dict[str, Any]:
    """A record of one buffer at a time."""
    made = {
        "config": "net-x8",
        "ring": "packed",
        "direction": "transmit",
        "case": "lone",
        "frame_bytes": 64,
        "queue_pairs": 1,
        "latency_ns": [2400.0, 2480.0, 2610.5, 2300.0],
        "added_cycles": [46, 47, 46, 48],
        "hops": [
            {"name": "descriptor read issued", "cycles": 9, "host_read": 0, "at": 9},
            {"name": "descriptor received", "cycles": 173, "host_read": 170, "at": 182},
            {"name": "used descriptor written", "cycles": 20, "host_read": 0, "at": 202},
        ],
    }
    return made | fields


# Targets


def test_targets_have_keys_of_their_own():
    """Each is found again by a record of its kind; a sweep's other sizes have none."""
    for target in TARGETS:
        assert find_target(dict(vars(target))) is target
    assert find_target(flood(frame_bytes=256)) is None
    without_case = flood()
    del without_case["case"]
    assert find_target(without_case) is find_target(flood())


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.title)
def test_target_at_its_edge(target: Target):
    """Exactly the target is met, anything worse is missed; the words say what was measured."""
    sides = {}
    for name, value in (("at", target.value), ("worse", worse(target))):
        record: dict[str, Any] = dict(vars(target))
        others = []
        match target.quantity:
            case "share of the ceiling":
                record["ratio"] = value
            case "rate":
                record["mpps"] = value
            case "cycles":
                record["added_cycles"] = [round(value), 1]
            case "share of one pair":
                record["mpps"] = value * 64
                others = [flood(target.one_pair, target.direction, mpps=64.0, ring=target.ring)]
        verdict = judge(record, [record, *others])
        assert verdict is not None
        assert verdict.text
        sides[name] = verdict.word
    assert sides == {"at": "ok", "worse": "missed"}


def worse(target: Target) -> float:
    """A figure that just misses a target."""
    return target.value + 1 if target.quantity == "cycles" else 0.999 * target.value


def test_what_is_not_measured_is_not_met():
    """Nothing measured, no times, and no rate of one pair to compare with."""
    assert {verdict.word for verdict in verdicts([])} == {"not measured"}
    many = flood("net-x8-128", case="pairs128", queue_pairs=128)
    for record in (many, lone(added_cycles=[]), flood(ratio=None)):
        verdict = judge(record, [record])
        assert verdict is not None
        assert verdict.met is None
    assert judge(flood(frame_bytes=256), []) is None


def test_the_worst_of_several_records_counts():
    """Rates and cycles."""
    records = [flood(ratio=0.95), flood(ratio=0.89), flood(ratio=0.99)]
    records += [lone(added_cycles=[40]), lone(added_cycles=[41, 49]), lone(added_cycles=[])]
    found = {verdict.target.case: verdict for verdict in verdicts(records) if verdict.record}
    assert found["flood"].value == 0.89
    assert found["lone"].value == 49
    assert not found["lone"].met


def test_documentation_has_every_target():
    """docs/performance.md names each measurement with its target."""
    text = (ROOT / "docs" / "performance.md").read_text()
    rows = {f"| {target.title} | {target.text} |" for target in TARGETS}
    assert {row for row in rows if row not in text} == set()


# What limits


@pytest.mark.parametrize(
    ("config", "direction", "case", "frame_bytes", "beats"),
    [
        # A frame of 72 bytes in 2 beats of 64, a sixteenth of 256 bytes of descriptors.
        ("net-x16", "transmit", "flood", 64, 2 + 4 / 16),
        # The same upwards, the used descriptors in 4 beats, one read of descriptors.
        ("net-x16", "receive", "flood", 64, 2 + 4 / 16 + 1 / 16),
        ("net-x8", "transmit", "flood", 64, 3 + 8 / 16),
        ("net-x8", "both", "flood", 64, max(1 + 1 / 16 + 8 / 16 + 3 + 1 / 16 + 8 / 16, 4)),
        # 64 bytes in 2 beats, 8 bytes in one.
        ("net-x8", "transmit", "pieces64", 64, 3 + 8 / 16),
        # 1512 bytes: five times 256 and 232 bytes.
        ("net-x16", "transmit", "flood", 1500, 5 * 4 + 4 + 4 / 16),
        ("net-x8", "transmit", "framing", RANDOM, None),
        ("net-x99", "transmit", "flood", 64, None),
    ],
)
def test_least_beats_of_the_tlp_stream(config, direction, case, frame_bytes, beats):
    """By hand, as docs/architecture.md shapes the stream."""
    record = flood(config, direction, case=case, frame_bytes=frame_bytes)
    assert tlp_beats(record) == beats


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"gbps_down": 62.5}, "link, host to device: 99.2% of 63.0 Gb/s"),
        ({"gbps_up": 62.9}, "link, device to host: 99.8%"),
        ({"cycles_per_frame": 3.55}, "TLP stream of 256 bits: 3.50 beats in 3.55 cycles a frame"),
        ({}, "inside the device: 4.03 cycles a frame, at least 3.50 for its TLPs"),
        ({}, "link host to device 87% busy"),
        ({"occupancy": {"ns": [0, 1], "reads": [127, 128]}}, "all 128 tags"),
        ({"config": "net-x99", "occupancy": None}, "inside the device: 4.03 cycles a frame; link"),
        ({"bottleneck": "the used write"}, "the used write"),
        ({"case": "lone", "mpps": None}, ""),
        ({"mpps": None}, ""),
    ],
)
def test_bottleneck_of_a_flood(fields, words):
    """The first thing that is full; what was found out by hand goes before."""
    found = bottleneck(flood(**fields))
    assert words in found
    assert bool(words) == bool(found)


def test_hops_of_a_lone_packet():
    """Host reads apart if the record has them apart, else by the hop's name; times add up."""
    apart = hop_times(lone())
    assert [(hop.device, hop.host, hop.at) for hop in apart] == [
        (9, 0, 9),
        (3, 170, 182),
        (20, 0, 202),
    ]
    names = ("descriptor read issued", "descriptor received", "used descriptor written")
    plain = [{"name": name, "cycles": cycles} for name, cycles in zip(names, (9, 173, 20))]
    by_name = hop_times(lone(hops=plain))
    assert [(hop.device, hop.host, hop.at) for hop in by_name] == [
        (9, 0, 9),
        (0, 173, 182),
        (20, 0, 202),
    ]
    assert bottleneck(lone()) == "longest hop in the device: used descriptor written, 20 cycles"


# The report

SYNTHESIS: dict[str, Any] = {
    "configs": [
        {
            "config": "net-x16",
            "lut": 41234,
            "lutram": 2100,
            "ff": 38210,
            "bram36": 92.5,
            "levels": 12,
            "worst_path": ["tracker.state", "LUT6 <walk>"],
        },
        {"config": "net-x8", "lut": 28234, "levels": 12},
    ],
    "growth": [
        {"config": "net-x8", "queues": [2, 256], "logic": {"LUT as logic": 0.31, "FF": 0.25}}
    ],
}


def whole() -> list[dict[str, Any]]:
    """Records of every case."""
    records = [lone(), lone(direction="receive", added_cycles=[50])]
    for config in ("net-x16", "net-x8"):
        for way in ("transmit", "receive", "both"):
            records += [flood(config, way, frame_bytes=size) for size in (64, 512, 1500, 9000)]
    records.append(flood("net-x8", case="pieces64"))
    records.append(flood("net-x8", case="framing", frame_bytes=RANDOM))
    records.append(flood("net-x8-128", case="pairs128", queue_pairs=128))
    return records


def test_report_is_whole():
    """Every part is there; one file, the same each time, whatever the records' order."""
    html = report.render(whole(), SYNTHESIS)
    assert html == report.render(whole()[::-1], SYNTHESIS), "the report is not reproducible"
    # Rates of two configurations, bytes of three, two lone cases, occupancy of three.
    assert html.count("<svg") == 2 + 3 + 2 + 3
    assert "Left out" not in html
    assert not re.search(r"<script|<link|<img|src=|url\((?!#)", html)
    assert "net-x8, transmit, 64 bytes" in html
    assert "at most 48 cycles" in html
    assert "50 cycles" in html
    assert "41,234" in html
    assert "LUT6 &lt;walk&gt;" in html
    assert re.search(r"<td>seed</td><td>77</td>", html)
    # A kind of bytes that nobody has heard of is not lost from the sum.
    assert "109.20" in html


def test_report_judges_each_target():
    """A row for each that was measured, with its verdict; the others by name."""
    records = [flood(ratio=0.95), flood(direction="receive", ratio=0.89)]
    html = report.render(records)
    rows = re.findall(r"<tr><td>(.*?)</td><td class=\"(?:same|different)\">(.*?)</td>", html)
    assert rows == [("net-x8, transmit, 64 bytes", "ok"), ("net-x8, receive, 64 bytes", "missed")]
    missing = re.search(r"Not measured: (.*?)\.</p>", html)
    assert missing is not None
    assert len(missing[1].split("; ")) == len(TARGETS) - 2
    assert f"1 met, 1 missed, {len(TARGETS) - 2} not measured" in html


@pytest.mark.parametrize(
    ("fields", "left_out"),
    [
        (("split_up", "split_down"), "`split_up`"),
        (("occupancy",), "`occupancy`"),
        (("ideal_mpps", "ratio_of_ideal"), ""),
        (("seed", "peak_reads_in_flight", "queue_pairs"), ""),
    ],
)
def test_report_without_optional_fields(fields, left_out):
    """A picture that cannot be drawn is left out, and the page says so."""
    records = [{name: flood()[name] for name in flood() if name not in fields}, lone()]
    html = report.render(records, SYNTHESIS)
    assert len(re.findall("Left out", html)) == bool(left_out)
    assert left_out in html


def test_report_of_nothing():
    """No records, no synthesis, a lone case without times: still a page that says so."""
    for records in ([], [lone(latency_ns=None, added_cycles=None, hops=None)]):
        html = report.render(records)
        assert html.count("Left out") == (5 if not records else 6)
        assert "<svg" not in html


def test_report_tells_what_is_above_the_ideal_endpoint():
    """A rate that cannot be right is not passed over."""
    for ratio in (1.0, 1.001):  # the ends of a window
        assert "cannot be right" not in report.render([flood(ratio_of_ideal=ratio)])
    record = flood(ratio_of_ideal=1.004)
    assert above_ideal(record)
    assert f"{title(record)}, 100.40%" in report.render([record])


def test_report_is_safe():
    """Text of a record is text in the page."""
    html = report.render([flood("<b>x", ring="<i>", bottleneck="<u>")])
    assert not re.search("<b>x|<i>|<u>", html)
    assert "&lt;b&gt;x" in html


def test_report_judges_synthesis():
    """Only the 512-bit configuration owes levels; growth counts for LUT and FF each."""
    html = report.render([], SYNTHESIS)
    part = html[html.index("Resources and LUT levels") : html.index("<h2>Run")]
    rows = re.findall(r'<tr><td>([^<]*)</td><td class="\w+">(\w*)</td><td[^>]*>([^<]*)', part)
    assert rows == [
        ("net-x16", "missed", "41,234"),
        ("net-x8", "", "28,234"),
        ("net-x8, 2 to 256 virtqueues", "missed", "LUT as logic"),
        ("net-x8, 2 to 256 virtqueues", "ok", "FF"),
    ]
    assert "+31.0%" in part


@pytest.mark.parametrize("shape", ["whole", "list", "none"])
def test_report_is_written(tmp_path: Path, shape):
    """Results of synthesis are shown if they are there."""
    place = tmp_path / "synth.json"
    content: Any = {"whole": SYNTHESIS, "list": SYNTHESIS["configs"], "none": None}[shape]
    if content is not None:
        place.write_text(json.dumps(content))
    report.write_report([flood()], tmp_path / "report.html", place)
    html = (tmp_path / "report.html").read_text()
    assert ("41,234" in html) == (content is not None)
    assert ("no results of `make synth`" in html) == (content is None)
