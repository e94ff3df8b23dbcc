"""`python -m guest.serve`: what it says, and how it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from guest import statistics
from guest.client import Client
from guest.connection import Connection
from guest.protocol import Region
from lib.paths import ROOT


def start(*arguments: object) -> subprocess.Popen[str]:
    """A server as `make guest` starts it."""
    paths = [str(ROOT / part) for part in ("hdl", "models", "tb")]
    return subprocess.Popen(
        [sys.executable, "-m", "guest.serve", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )


@pytest.mark.parametrize("way", ["client leaves", "SIGTERM"])
def test_one_guest(tmp_path: Path, way: str) -> None:
    """It listens, serves, ends with its client or when told to, and leaves its counts."""
    place, counts = tmp_path / "socket", tmp_path / "counts.json"
    server = start("--socket", place, "--device", "blk", "--statistics", counts, "--mebibytes", 1)
    assert server.stdout is not None
    assert server.stdout.readline() == f"listening on {place}\n"
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(str(place))
    client = Client(Connection(peer))
    client.start()
    assert client.read(Region.CONFIG, 0, 4) == b"\xf4\x1a\x42\x10"
    # BAR 0 has the device configuration at 0x2000: the capacity in sectors.
    assert client.read(0, 0x2000, 8) == (2048).to_bytes(8, "little")
    if way == "SIGTERM":
        server.send_signal(signal.SIGTERM)
    else:
        client.close()
    _, errors = server.communicate(timeout=60)
    assert server.returncode == 0, errors
    assert not place.exists()
    found = statistics.read(counts)
    assert (found.device, found.model, found.bar_reads) == ("blk", "golden", 1)
    assert found.config_accesses == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--device", "toaster"], "device 'toaster': entropy, blk, net"),
        (["--device", "net", "--model", "clay"], "model 'clay': golden, rtl"),
        (["--device", "net", "--features", "PACKED"], "no such ring feature: PACKED"),
        (["--device", "blk", "--disk", "/nowhere"], "No such file"),
        (["--device", "net", "--timeout", "0.01"], "no client at"),
    ],
)
def test_one_line_says_what_is_wrong(tmp_path: Path, arguments: list[str], said: str) -> None:
    server = start("--socket", tmp_path / "socket", *arguments)
    _, errors = server.communicate(timeout=60)
    assert server.returncode == 1
    assert said in errors
    assert errors.startswith("error: ")
    assert len(errors.strip().splitlines()) == 1
    assert not (tmp_path / "socket").exists()


def test_a_client_that_speaks_something_else(tmp_path: Path) -> None:
    place = tmp_path / "socket"
    server = start("--socket", place, "--device", "entropy")
    assert server.stdout is not None
    server.stdout.readline()
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(str(place))
    peer.sendall(b"GET / HTTP/1.0\r\n\r\n")
    _, errors = server.communicate(timeout=60)
    assert server.returncode == 1
    assert errors.startswith("error: a message of ")
