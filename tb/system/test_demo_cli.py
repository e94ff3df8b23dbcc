"""The demo's command line: captures of all kinds, good and bad, and a whole run."""

from __future__ import annotations

import gzip
import os
import shutil
import struct
import subprocess
from collections.abc import Callable

import pytest
from demo_helper import ask, demonstrate, refused

from demo import capture, make_sample
from demo.result import load_result
from lib.paths import ROOT
from virtio_rtl.config import NAMED_CONFIGS

CONFIG = NAMED_CONFIGS["net-x8"]
MAX_FRAME = CONFIG.mtu + 14
TAG = b"\x81\x00"
FRAMES = [bytes([index]) * length for index, length in enumerate((14, 42, 60, 1514))]


def pcap(
    frames: list[bytes],
    *,
    magic: int = 0xA1B2C3D4,
    order: str = "<",
    link: int = 1,
    missing: int = 0,
) -> bytes:
    """Write a pcap by hand; each frame claims `missing` bytes more on the wire."""
    out = struct.pack(order + "IHHIIII", magic, 2, 4, 0, 0, 65535, link)
    for frame in frames:
        out += struct.pack(order + "IIII", 1, 2, len(frame), len(frame) + missing) + frame
    return out


def pcapng(frames: list[bytes], *, link: int = 1, missing: int = 0) -> bytes:
    """Write a pcapng by hand: section, interface, enhanced packet blocks."""

    def block(kind: int, body: bytes) -> bytes:
        body = body.ljust(-(-len(body) // 4) * 4, b"\0")
        length = struct.pack("<I", len(body) + 12)
        return struct.pack("<I", kind) + length + body + length

    out = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    out += block(1, struct.pack("<HHI", link, 0, 0))
    for frame in frames:
        head = struct.pack("<IIIII", 0, 0, 7, len(frame), len(frame) + missing)
        out += block(6, head + frame)
    return out


GOOD: dict[str, Callable[[], bytes]] = {
    "microseconds": lambda: pcap(FRAMES),
    "nanoseconds": lambda: pcap(FRAMES, magic=0xA1B23C4D),
    "big_endian": lambda: pcap(FRAMES, order=">"),
    "gzip": lambda: gzip.compress(pcap(FRAMES)),
    "pcapng": lambda: pcapng(FRAMES),
    "gzip_ng": lambda: gzip.compress(pcapng(FRAMES)),
    "statistics_behind": lambda: pcapng(FRAMES) + struct.pack("<IIIQI", 5, 24, 0, 0, 24),
    "fcs_length": lambda: pcap(FRAMES, link=1 | 0x24000000),
}

BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty_file": (lambda: b"", "not a pcap or pcapng file"),
    "text": (lambda: b"hello, this is no capture\n" * 4, "not a pcap or pcapng file"),
    "header_only_half": (lambda: pcap([])[:10], "not a pcap or pcapng file"),
    "no_frames": (lambda: pcap([]), "holds no Ethernet frames"),
    "no_frames_ng": (lambda: pcapng([]), "holds no Ethernet frames"),
    "raw_ip": (lambda: pcap(FRAMES, link=101), "link type 101 is not Ethernet"),
    "raw_ip_ng": (lambda: pcapng(FRAMES, link=101), "link type 101 is not Ethernet"),
    "truncated": (
        lambda: pcap(FRAMES, missing=9),
        "frame 1 is truncated: 14 of 23 bytes were captured",
    ),
    "truncated_ng": (
        lambda: pcapng(FRAMES, missing=9),
        "frame 1 is truncated: 14 of 23 bytes were captured",
    ),
    "cut_in_frame": (lambda: pcap(FRAMES)[:-5], "the file ends within frame 4"),
    "cut_in_header": (lambda: pcap(FRAMES)[: 24 + 16 + 14 + 7], "the file ends within frame 2"),
    "cut_ng": (lambda: pcapng(FRAMES)[:-5], "the file ends within frame 4, or behind it"),
    "cut_gzip": (lambda: gzip.compress(pcap(FRAMES))[:-20], "the file ends within frame 4"),
    "cut_gzip_ng": (
        lambda: gzip.compress(pcapng(FRAMES))[:-20],
        "the file ends within frame 4, or behind it",
    ),
    "too_long": (
        lambda: pcap([*FRAMES, bytes(MAX_FRAME + 1)]),
        f"frame 5 has {MAX_FRAME + 1} bytes, net-x8 with its MTU of 9000 allows {MAX_FRAME}",
    ),
    "too_long_with_tag": (
        lambda: pcap([bytes(12) + TAG + bytes(MAX_FRAME + 5 - 14)]),
        f"frame 1 has {MAX_FRAME + 5} bytes, net-x8 with its MTU of 9000 allows {MAX_FRAME + 4}",
    ),
    "runt": (lambda: pcap([bytes(13)]), "frame 1 has 13 bytes, less than an Ethernet header"),
}


@pytest.mark.parametrize("kind", GOOD)
def test_good_captures(kind, tmp_path):
    """Every kind of file that scapy reads gives the same frames."""
    path = tmp_path / "capture"
    path.write_bytes(GOOD[kind]())
    assert capture.load(path, CONFIG).frames == FRAMES


def test_longest_frame_is_allowed(tmp_path):
    """The limit itself is allowed."""
    path = tmp_path / "capture"
    tagged = bytes(12) + TAG + bytes(MAX_FRAME + 4 - 14)
    path.write_bytes(pcap([bytes(MAX_FRAME), tagged]))
    assert capture.load(path, CONFIG).total_bytes == 2 * MAX_FRAME + 4


@pytest.mark.parametrize("kind", BAD)
def test_bad_captures(kind, tmp_path):
    """What cannot be used gets one line and status 2."""
    make, complaint = BAD[kind]
    path = tmp_path / "capture"
    path.write_bytes(make())
    assert refused(ask("--pcap", str(path))) == f"error: {path}: {complaint}\n"


def test_bad_paths(tmp_path):
    """So does what is no file, before anything could wait for it."""
    missing = tmp_path / "missing.pcap"
    assert refused(ask(PCAP=str(missing))) == f"error: {missing}: no such file\n"
    assert "is a directory" in refused(ask(PCAP=str(tmp_path)))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "not a regular file" in refused(ask(PCAP=str(pipe)))


def test_unknown_config_names_the_known_ones():
    """So does an unknown configuration."""
    line = refused(ask(CONFIG="net-x3"))
    assert "net-x3" in line
    for name in NAMED_CONFIGS:
        assert name in line


def test_unknown_ring_format():
    """So does a ring format that the configuration does not have."""
    line = refused(ask(RING="round"))
    assert "RING='round'" in line
    assert "split and packed" in line


@pytest.mark.parametrize("seed", ["abc", "-1", str(1 << 40)])
def test_bad_seed(seed):
    """So does a seed that is none."""
    assert f"SEED={seed!r}" in refused(ask(f"--seed={seed}"))


def test_save_and_load(tmp_path):
    """What the demo writes, with its nanoseconds, it reads again; so does scapy."""
    from scapy.utils import RawPcapReader

    path = tmp_path / "saved.pcap"
    capture.save(path, FRAMES, [5, 1_000_000_001, 2, 3])
    assert capture.load(path, CONFIG).frames == FRAMES
    with RawPcapReader(str(path)) as reader:
        assert reader.nano
        assert [(meta.sec, meta.usec) for _, meta in reader][:2] == [(0, 5), (1, 1)]


def test_sample_is_what_its_script_makes(tmp_path):
    """The committed capture can be made again, byte for byte, and is real traffic."""
    path = tmp_path / "sample.pcap"
    count = make_sample.write(path)
    assert path.read_bytes() == capture.SAMPLE.read_bytes()
    frames = capture.load(path, CONFIG).frames
    lengths = [len(frame) for frame in frames]
    assert count == len(frames)
    assert 200 <= count <= 400
    assert min(lengths) == 42
    assert max(lengths) == 1518  # VLAN tag included
    kinds = {frame[12:14].hex() for frame in frames}
    assert {"0800", "0806", "86dd", "8100"} <= kinds
    ports = {frame[36:38] for frame in frames if frame[23:24] == b"\x11"}
    assert {struct.pack(">H", port) for port in (53, 67, 68)} <= ports


def test_make_passes_the_status_on(tmp_path):
    """`make demo` with a bad capture: the same line, and make's own status 2."""
    if not shutil.which("make") or not (ROOT / ".venv" / ".ready").exists():
        pytest.skip("no make, or no virtual environment made by it")
    path = tmp_path / "missing.pcap"
    # Without what a `make test ARGS=...` around this one would hand on.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(
        ["make", "demo", f"PCAP={path}", "ARGS="],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"error: {path}: no such file\n" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("ring", ["packed", pytest.param("split", marks=pytest.mark.sweep)])
def test_whole_demo(ring, tmp_path):
    """A capture goes out and comes back: same frames, a report, a result, status 0."""
    path, output = tmp_path / "some.pcapng", tmp_path / "out"
    frames = capture.load(capture.SAMPLE, CONFIG).frames[:24]
    frames += [bytes(MAX_FRAME), bytes(12) + TAG + bytes(MAX_FRAME + 4 - 14), *FRAMES]
    path.write_bytes(pcapng(frames))
    printed = demonstrate(output, PCAP=str(path), RING=ring)
    assert capture.load(output / "received.pcap", CONFIG).frames == frames
    result = load_result(output / "result.json")
    assert result.passed
    note = f" ({len(frames)} of the capture and the lone one)"
    assert result.checks[0].detail == f"{len(frames) + 1} frames{note}"
    assert result.seed == 5
    assert result.flood.frames == len(frames)
    assert {journey.title for journey in result.journeys} == {"transmit", "receive"}
    for journey in result.journeys:
        moments = [hop.at_ns for hop in journey.hops]
        assert moments == sorted(moments)
        assert journey.inside_ns < 300, "time that the host took"
    assert result.journeys[0].hops[1].name == "doorbell TLP decoded"
    report = (output / "report.html").read_text()
    assert report.count("<svg") == 3  # too few frames for a rate
    for line in ("moving frames", "frames per second at 250 MHz", "seed: 5", "report: "):
        assert line in printed
