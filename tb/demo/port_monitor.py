"""What leaves the transmit port, seen from Python; too slow for benchmarks."""

from __future__ import annotations

from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from lib.port import reader


class PortMonitor:
    """Collects the frames that leave the transmit port."""

    def __init__(self, dut: Any) -> None:
        self.frames: list[bytes] = []
        self.errors = 0
        cocotb.start_soon(self._run(dut))

    async def _run(self, dut: Any) -> None:
        beat, data, keep, last, error = (
            reader(getattr(dut, f"port_{name}"))
            for name in ("beat", "data", "keep", "last", "error")
        )
        lanes = len(dut.port_keep)
        edge, rises = RisingEdge(dut.clk), RisingEdge(dut.port_beat)
        pieces: list[bytes] = []
        while True:
            await edge
            if not beat():
                await rises
                continue
            pieces.append(data().to_bytes(lanes, "little"))
            if last():
                frame = b"".join(pieces)
                self.frames.append(frame[: len(frame) - lanes + keep().bit_count()])
                self.errors += error()
                pieces = []
