"""Frames at the AXI4-Stream ports of the net device."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any

import cocotb
from cocotb.triggers import Event, RisingEdge

from lib.dma_model import packet_beats
from lib.port import reader, writer

__all__ = ["AxiFrameSink", "AxiFrameSource"]

_SIGNALS = ("tdata", "tkeep", "tvalid", "tlast", "tuser")


class AxiFrameSink:
    """Takes frames from an AXI4-Stream port of the device; `dests` are those of `frames`.

    on_frame: if set, called with each frame, which is then not kept in `frames`.
    beats: those taken.
    """

    def __init__(self, dut: Any, name: str, *, stall: float = 0.0):
        self.frames: list[bytes] = []
        self.dests: list[int] = []
        self.on_frame: Callable[[bytes], None] | None = None
        self.errors = 0
        self.beats = 0
        self.stall = stall
        self._dut = dut
        self._ports = {port: reader(getattr(dut, f"{name}__{port}")) for port in _SIGNALS}
        dest = f"{name}__tdest"
        self._dest = reader(getattr(dut, dest)) if hasattr(dut, dest) else lambda: 0
        self._ready = writer(getattr(dut, f"{name}__tready"))
        self._lanes = len(getattr(dut, f"{name}__tkeep"))
        self._valid = getattr(dut, f"{name}__tvalid")
        self._ready(0)
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        ports, ready, data = self._ports, False, b""
        edge, rises = RisingEdge(self._dut.clk), RisingEdge(self._valid)
        while True:
            await edge
            if ready and ports["tvalid"]():
                self.beats += 1
                count = ports["tkeep"]().bit_length()
                data += ports["tdata"]().to_bytes(self._lanes, "little")[:count]
                if ports["tlast"]():
                    if ports["tuser"]():
                        self.errors += 1
                    elif self.on_frame is not None:
                        self.on_frame(data)
                    else:
                        self.frames.append(data)
                        self.dests.append(self._dest())
                    data = b""
            ready = not (self.stall and random.random() < self.stall)
            self._ready(int(ready))
            if ready and not ports["tvalid"]():
                await rises


class AxiFrameSource:
    """Sends frames into an AXI4-Stream port of the device; `sent` and `beats` count them."""

    def __init__(self, dut: Any, name: str, width: int, *, stall: float = 0.0):
        self.stall = stall
        self.sent = 0
        self.beats = 0
        self._dut = dut
        self._width = width
        self._set = {port: writer(getattr(dut, f"{name}__{port}")) for port in _SIGNALS}
        dest = f"{name}__tdest"
        self._dest = writer(getattr(dut, dest)) if hasattr(dut, dest) else lambda _: None
        self._ready = reader(getattr(dut, f"{name}__tready"))
        self._frames: deque[tuple[bytes, bool, int]] = deque()
        self._news = Event()
        self._inside = False
        self._set["tvalid"](0)
        cocotb.start_soon(self._run())

    @property
    def waiting(self) -> int:
        """Frames that have not been sent."""
        return len(self._frames)

    @property
    def idle(self) -> bool:
        """Whether no frame is being sent."""
        return not self._frames and not self._inside

    def clear(self) -> None:
        """Forget the frames that have not been started."""
        self._frames.clear()

    def send(self, frame: bytes, *, bad: bool = False, dest: int = 0) -> None:
        """Queue a frame; `bad` marks it with tuser, `dest` is its queue pair."""
        self._frames.append((frame, bad, dest))
        self._news.set()

    async def _run(self) -> None:
        edge = RisingEdge(self._dut.clk)
        while True:
            while not self._frames:
                self._news.clear()
                await self._news.wait()
            await edge
            if not self._frames:  # cleared meanwhile
                continue
            frame, bad, dest = self._frames.popleft()
            self._inside = True
            for beat in packet_beats(frame, self._width, error=bad):
                while self.stall and random.random() < self.stall:
                    await edge
                self._set["tdata"](beat["data"])
                self._set["tkeep"]((1 << beat["count"]) - 1)
                self._set["tlast"](beat["last"])
                self._set["tuser"](beat["error"])
                self._dest(dest)
                self._set["tvalid"](1)
                await edge
                while not self._ready():
                    await edge
                self._set["tvalid"](0)
                self.beats += 1
            self._inside = False
            self.sent += 1
