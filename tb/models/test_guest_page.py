"""The code of docs/guest.md, run as it stands there, with a client in the guest's place."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from guest.client import Client
from guest.connection import Connection
from guest.protocol import Region
from lib.page_code import code_blocks
from lib.paths import ROOT

GUEST_MEMORY = 1 << 32
MESSAGE_ADDRESS = 0xFEE0_1000
NUMBER, MESSAGE, START = 0, 8, 16


@contextmanager
def served(folder: Path, faults: dict[str, str]) -> Iterator[Client]:
    """The page's server with its function, in which some text may be replaced, and a client."""
    for name, text in code_blocks("guest.md").items():
        for before, after in faults.items() if name == "adder.py" else ():
            assert text.count(before) == 1, before
            text = text.replace(before, after)
        (folder / name).write_text(text)
    paths = [str(ROOT / part) for part in ("hdl", "models", "tb")]
    place = folder / "socket"
    server = subprocess.Popen(
        [sys.executable, "serve_adder.py", str(place)],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "listening\n"
        peer = socket.socket(socket.AF_UNIX)
        peer.connect(str(place))
        client = Client(Connection(peer), limit_s=20)
        try:
            yield client
        finally:
            client.close()
        server.communicate(timeout=20)
        assert server.returncode == 0
    finally:
        server.kill()
        server.communicate()


def use(client: Client) -> None:
    """Let the function add to numbers in the guest's memory."""
    client.start(GUEST_MEMORY)
    assert client.read(Region.CONFIG, 0, 4) == bytes.fromhex("34120c5c")
    client.write(Region.CONFIG, 4, b"\6\0")
    assert client.read(Region.CONFIG, 4, 1) == b"\6"
    chosen = random.Random(1)
    for _ in range(10):
        place, number = 4 * chosen.randrange(256), chosen.getrandbits(31)
        client.memory[place : place + 4] = number.to_bytes(4, "little")
        client.messages.clear()
        client.write(0, NUMBER, (GUEST_MEMORY + place).to_bytes(8, "little"))
        client.write(0, MESSAGE, MESSAGE_ADDRESS.to_bytes(8, "little"))
        client.write(0, START, b"\1")
        client.wait_message()
        sum_ = (number + 1).to_bytes(4, "little")
        assert client.messages == [(MESSAGE_ADDRESS, sum_)]
        assert client.memory[place : place + 4] == sum_
    assert client.read(0, MESSAGE, 8) == MESSAGE_ADDRESS.to_bytes(8, "little")


def test_the_page_serves(tmp_path: Path) -> None:
    """Registers, DMA and messages of the page's function, through the server that it starts."""
    with served(tmp_path, {}) as client:
        use(client)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"little") + 1\n', '"little") + 2\n'),
        ("device_write(place,", "device_write(place + 4,"),
        ("self.config[4:5] = data[:1]", "pass"),
    ],
)
def test_a_broken_function_is_seen(tmp_path: Path, before: str, after: str) -> None:
    """What the page's function does is what the client sees."""
    with served(tmp_path, {before: after}) as client, pytest.raises(AssertionError):
        use(client)
