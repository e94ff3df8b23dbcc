"""Models of both ends of an AXI4-Stream port of frames."""

from __future__ import annotations

import random
from collections import deque
from typing import Any, NamedTuple

import cocotb
from cocotb.triggers import RisingEdge

from lib.port import reader, writer

__all__ = [
    "MAX_FRAME",
    "MAX_RECEIVED",
    "MTU",
    "PortFrame",
    "PortSink",
    "PortSource",
    "random_frame",
]

MAX_FRAME = 400
MTU = MAX_FRAME - 18
MAX_RECEIVED = MTU + 14


class PortFrame(NamedTuple):
    """A frame, its tuser and its tdest."""

    data: bytes
    bad: int = 0
    dest: int = 0


def random_frame(longest: int = MAX_RECEIVED) -> bytes:
    """Frame of random bytes; often short, sometimes the longest."""
    return random.randbytes(random.choice([1, 14, 60, random.randint(1, longest), longest]))


def _signals(dut: Any, name: str) -> list[str]:
    """Names of the port's signals but tready; tdest if it has one."""
    names = ["tdata", "tkeep", "tvalid", "tlast", "tuser"]
    return names + ["tdest"] * hasattr(dut, f"{name}__tdest")


class PortSource:
    """Drives an AXI4-Stream port with frames; holds what it offers."""

    def __init__(self, dut: Any, name: str, width: int, *, stall: float):
        self.stall = stall
        self.frames: deque[PortFrame] = deque()
        self.begun: list[int] = []  # cycle of each frame's first beat
        self.now = 0
        self._dut, self._lanes = dut, width // 8
        self._put = {n: writer(getattr(dut, f"{name}__{n}")) for n in _signals(dut, name)}
        self._dest_bits = len(getattr(dut, f"{name}__tdest")) if "tdest" in self._put else 0
        self._ready = reader(getattr(dut, f"{name}__tready"))
        self._put["tvalid"](0)
        cocotb.start_soon(self._run())

    def idle(self) -> bool:
        return not self.frames

    async def _edge(self) -> None:
        await RisingEdge(self._dut.clk)
        self.now += 1

    def _put_dest(self, dest: int) -> None:
        if self._dest_bits:
            self._put["tdest"](dest)

    async def _run(self) -> None:
        lanes, put = self._lanes, self._put
        await self._edge()
        while True:
            if not self.frames:
                await self._edge()
                continue
            frame, bad, dest = self.frames[0]
            for start in range(0, len(frame), lanes):
                while random.random() < self.stall:
                    put["tvalid"](0)
                    put["tdata"](random.getrandbits(8 * lanes))
                    self._put_dest(random.getrandbits(self._dest_bits))
                    await self._edge()
                piece = frame[start : start + lanes]
                last = start + lanes >= len(frame)
                put["tdata"](int.from_bytes(piece, "little"))
                put["tkeep"]((1 << len(piece)) - 1)
                put["tlast"](int(last))
                put["tuser"](int(last and bad) if last else random.getrandbits(1))
                self._put_dest(dest)
                put["tvalid"](1)
                if not start:
                    self.begun.append(self.now)
                await self._edge()
                while not self._ready():
                    await self._edge()
            self.frames.popleft()
            put["tvalid"](0)


class PortSink:
    """Takes frames from an AXI4-Stream port, and checks its rules."""

    def __init__(self, dut: Any, name: str, width: int, *, stall: float):
        self.stall = stall
        self.frames: deque[PortFrame] = deque()
        self.beats: list[int] = []
        self._dut, self._lanes = dut, width // 8
        self._get = {n: reader(getattr(dut, f"{name}__{n}")) for n in _signals(dut, name)}
        self._ready = writer(getattr(dut, f"{name}__tready"))
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        lanes, get = self._lanes, self._get
        in_reset = reader(self._dut.rst)
        get_dest = get.get("tdest", lambda: 0)
        data, dests, ready, now, held = b"", set(), False, 0, None
        self._ready(0)
        while True:
            await RisingEdge(self._dut.clk)
            now += 1
            live = get["tvalid"]() and not in_reset()
            seen = tuple(read() for read in get.values()) if live else None
            assert held is None or seen == held, "the offer changed before tready"
            held = None if ready else seen
            if seen and ready:
                self.beats.append(now)
                keep = get["tkeep"]()
                assert keep & (keep + 1) == 0
                assert keep
                last = get["tlast"]()
                assert last or keep == (1 << lanes) - 1, "tkeep all ones but on the last beat"
                data += get["tdata"]().to_bytes(lanes, "little")[: keep.bit_count()]
                dests.add(get_dest())
                if last:
                    assert len(dests) == 1, "tdest changed within a frame"
                    self.frames.append(PortFrame(data, get["tuser"](), dests.pop()))
                    data = b""
            ready = random.random() >= self.stall
            self._ready(int(ready))
