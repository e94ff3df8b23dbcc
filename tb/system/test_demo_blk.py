"""The demo of a block device: its options, what it makes of a run, and a whole run."""

from __future__ import annotations

import io
import os
import random
import re
from dataclasses import replace

import pytest
from demo_helper import NO_TOOLS, ask, demonstrate, fake_tool, has_e2fsprogs, refused
from rich.console import Console

from demo import disk_image, disk_run
from demo.disk_config import disk_config
from demo.disk_image import LARGEST, DiskImage
from demo.disk_run import DiskFiles
from demo.request_report import rate_rows, render, show, throughput
from demo.request_result import (
    Answer,
    Phase,
    RequestResult,
    Sample,
    Words,
    load_request_result,
)
from lib.golden import Check
from virtio_rtl.config import NAMED_CONFIGS

SECTOR = 512
EXT4 = bytearray(2048)
EXT4[0x438:0x43A] = b"\x53\xef"


# Command line


@pytest.mark.parametrize(
    ("size", "complaint"),
    [
        (0, "is empty"),
        (SECTOR + 1, "has 513 bytes, no multiple of the sector's 512"),
        (
            LARGEST + SECTOR,
            "has 16,777,728 bytes, the simulated disk has at most 16,777,216 (16 MiB)",
        ),
    ],
)
def test_bad_images(size, complaint, tmp_path):
    """What no disk can hold gets one line and status 2."""
    path = tmp_path / "image"
    with path.open("wb") as file:
        file.truncate(size)
    line = refused(ask(DEVICE="blk", IMAGE=str(path)))
    assert line == f"error: {path}: {complaint}\n"


def test_bad_image_paths(tmp_path):
    """So does what is no file, before anything could wait for it."""
    missing = tmp_path / "missing.img"
    assert refused(ask(DEVICE="blk", IMAGE=str(missing))) == f"error: {missing}: no such file\n"
    assert "is a directory" in refused(ask(DEVICE="blk", IMAGE=str(tmp_path)))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "not a regular file" in refused(ask(DEVICE="blk", IMAGE=str(pipe)))


def test_image_that_the_demo_writes(tmp_path):
    """What an earlier run read back goes away when a run begins, so it is no image for one."""
    path = tmp_path / "read-back.img"
    path.write_bytes(bytes(SECTOR))
    line = refused(ask("--output", str(tmp_path), DEVICE="blk", IMAGE=str(path)))
    assert line == f"error: {path}: the demo writes this file; give it a copy\n"
    assert path.exists()


def test_bad_combinations(tmp_path):
    """So do options that do not go together, each named."""
    line = refused(ask(DEVICE="tape"))
    assert "DEVICE='tape': one of net, blk, entropy" in line
    assert "IMAGE is for DEVICE=blk" in refused(ask(IMAGE="some.img"))
    assert "PCAP is for DEVICE=net" in refused(ask(DEVICE="blk", PCAP="some.pcap"))
    line = refused(ask(DEVICE="blk", RING="round"))
    assert "RING='round'" in line
    assert "SEED='x'" in refused(ask("--seed=x", DEVICE="blk"))


def test_unknown_disk_config_names_the_known_ones():
    """A configuration that there is not, with those that there are."""
    line = refused(ask(DEVICE="blk", CONFIG="blk-x3"))
    for name in NAMED_CONFIGS:
        assert name in line


@pytest.mark.parametrize("size", [SECTOR, LARGEST])
def test_limits_are_allowed(size, tmp_path):
    """The smallest and the largest image; the disk is as large."""
    path = tmp_path / "image"
    with path.open("wb") as file:
        file.truncate(size)
    image = disk_image.load(path)
    assert image.sectors == size // SECTOR
    for name in ("blk-x8", "net-x4"):
        config = disk_config(name, size)
        assert config.blk.capacity_sectors == image.sectors
        assert (config.device, config.blk.backend) == ("blk", "axi4")
        assert config.name == name.replace("net", "blk")
        assert config.width == NAMED_CONFIGS[name.replace("blk", "net")].width


# What is made of a run


@pytest.mark.parametrize("ext4", [True, False])
def test_judgement(ext4, tmp_path, monkeypatch):
    """Memory that differs is found; no file system or no e2fsck is one clear line."""
    monkeypatch.setattr(disk_image, "tool", lambda name: None)
    files = DiskFiles(tmp_path)
    image = DiskImage(tmp_path / "image", bytes(EXT4 if ext4 else 2048))
    for path in (files.dump, files.read_back):
        path.write_bytes(image.content)
    good = disk_run.judged(made_up(), image, files)
    assert good.passed
    assert good.notes == [
        "the file system is not checked: e2fsck is missing: the package e2fsprogs has it"
        if ext4
        else "no ext4 file system in the image: only its bytes are compared"
    ]
    assert not files.dump.exists()
    assert not disk_run.judged(made_up(), image, files).passed, "no memory dump"
    files.dump.write_bytes(image.content[:-1] + b"!")
    bad = disk_run.judged(made_up(), image, files)
    assert [check.name for check in bad.checks if not check.passed] == ["memory behind the device"]
    fake_tool(
        tmp_path, monkeypatch, 'case $2 in *image) exit 0;; *) echo "bad <file>"; exit 4; esac'
    )
    files.dump.write_bytes(image.content)
    assert disk_run.judged(made_up(), image, files).passed is not ext4


# Result, table, report


def made_up(passed: bool = True) -> RequestResult:
    """Return a result with numbers that are easy to check: 4 GB/s."""
    answers = [Answer(10.0 * at, 1000.0 + 20.0 * at) for at in range(100)]
    phase = Phase("write", 64_000, 0.0, 16_000.0, 3, 2, 900, 1000, 9_000, 80_000, 0.123, 0.987,
                  answers)  # fmt: skip
    flush = replace(phase, name="flush", data_bytes=0, answers=answers[:1])
    return RequestResult(
        config={"name": "blk-x8", "clock_mhz": 250.0, "lanes": 8, "generation": 3},
        words=Words(
            data="64,000 bytes of <script>alert(1)</script>.img",
            outcome="read back bit for bit",
            reference="the image & nothing else",
            behind="A disk < a tape.",
        ),
        seed=99,
        device={"capacity": "125 sectors"},
        phases=[phase, flush],
        samples=[Sample(100.0 * at, 400 * at, 100 * at, at % 9) for at in range(101)],
        checks=[Check("answers", passed, "at 0x1 <&>")],
        notes=["a <note>"],
        files={"report": "here"},
    )


def test_disk_result_survives_json(tmp_path):
    """Nothing is lost between the simulator and the report."""
    result = made_up()
    result.save(tmp_path / "result.json")
    assert load_request_result(tmp_path / "result.json") == result


def test_numbers_of_the_disk_table():
    """What the table calculates is right."""
    rows = {row[0]: row[1:] for row in rate_rows(made_up())}
    assert rows["requests"] == ("100", "1")
    assert rows["cycles"] == ("4,000", "4,000")
    assert rows["data"] == ("4.000 GB/s", "")
    assert rows["latency, median"][0] == "1.50 µs"
    assert rows["latency, 99%"][0] == "1.99 µs"
    assert rows["link busy, up"][0] == "12%"
    assert rows["link busy, down"][0] == "99%"
    assert (rows["TLPs up"][0], rows["TLPs down"][0]) == ("900", "1,000")
    assert {round(rate[1], 6) for rate in throughput(made_up().samples, 10)} == {4.0}
    assert {round(rate[2], 6) for rate in throughput(made_up().samples, 10)} == {1.0}
    assert throughput(made_up().samples[:1]) == []


@pytest.mark.parametrize("passed", [True, False])
def test_disk_table_and_report(passed):
    """Both show the verdict; the report is one file, safe and reproducible."""
    result = made_up(passed)
    text = io.StringIO()
    show(Console(file=text, width=100), result)
    assert ("FAILED" in text.getvalue()) is not passed
    assert "4.000 GB/s" in text.getvalue()
    assert "a <note>" in text.getvalue()
    html = render(result)
    assert ("FAILED" in html) is not passed
    assert ("bit for bit" in html) is passed
    assert html.count("<svg") == 1
    assert not re.search(r"<(script|link|img|iframe|note)|(src|srcset)=|@import", html)
    assert "&lt;script&gt;" in html
    assert "PCIe Gen3 x8" in html
    assert html == render(result), "the report is not reproducible"


# A whole run


@pytest.mark.slow
@pytest.mark.sweep
def test_whole_disk_demo(tmp_path):
    """An image goes through the device and comes back, with a report and a result."""
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "noise").write_bytes(random.Random(1).randbytes(120 << 10))
    path = disk_image.make(tmp_path / "image", 180, folder).path
    with path.open("r+b") as file:  # a sector behind the file system
        file.truncate(180 * 1024 + SECTOR)  # the last request is shorter than the others
    output = tmp_path / "out"
    printed = demonstrate(output, DEVICE="blk", IMAGE=str(path), CONFIG="blk-x1", RING="split")
    assert (output / "read-back.img").read_bytes() == path.read_bytes()
    result = load_request_result(output / "result.json")
    assert result.passed
    assert [(phase.name, phase.requests) for phase in result.phases] == [
        ("write", 3),
        ("flush", 1),
        ("read", 3),
    ]
    for phase in result.phases:
        assert all(answer.latency_ns > 0 for answer in phase.answers)
    assert {check.name for check in result.checks} >= {
        "answers", "what was read back", "rules of PCIe", "memory behind the device",
    }  # fmt: skip
    assert (output / "report.html").read_text().count("<svg") == 1
    for line in ("write: requests", "link busy, down", "seed: 5", "report: "):
        assert line in printed
    # Last: all else holds with made-up bytes, too.
    if not has_e2fsprogs():
        assert len(result.notes) == 1
        pytest.skip(f"all but the file system is right: {NO_TOOLS}")
    (check,) = (check for check in result.checks if check.name == "e2fsck -fn")
    assert check.passed
    assert re.fullmatch(r"clean: 12/\d+ files .*, \d+/180 blocks", check.detail)
    assert result.notes == []
