"""TLPs at the device's own ports, to the cycle; too slow for floods."""

from __future__ import annotations

from typing import Any, NamedTuple

import cocotb
from cocotb.triggers import RisingEdge
from cocotb.utils import get_sim_time

from lib.pcie.packet import COMPLETION, COMPLETION_DATA, MEM_READ, Packet
from lib.pcie.tlp_codec import BeatCodec
from lib.port import reader

__all__ = ["ReadSpan", "TlpTap", "TlpTime", "merged", "read_spans"]


class TlpTime(NamedTuple):
    """A TLP that went through a port: the cycles in which its first and last beat were taken."""

    first: int
    last: int
    packet: Packet


class ReadSpan(NamedTuple):
    """A host read: from the cycle of its request to that of its last completion's last beat."""

    start: int
    end: int
    request: Packet


class TlpTap:
    """Notes, in `seen`, every TLP that is taken at a TLP stream; drives nothing.

    port: "rx_tlp" or "tx_tlp". Cycles are counted by simulated time.
    """

    def __init__(self, dut: Any, port: str, width: int, period_ns: float) -> None:
        self.seen: list[TlpTime] = []
        self._period_ps = round(period_ns * 1000)
        cocotb.start_soon(self._run(dut, port, BeatCodec(width)))

    async def _run(self, dut: Any, port: str, codec: BeatCodec) -> None:
        valid_port = getattr(dut, f"{port}__valid")
        valid, ready = reader(valid_port), reader(getattr(dut, f"{port}__ready"))
        payload = reader(getattr(dut, f"{port}__payload"))
        edge, rises = RisingEdge(dut.clk), RisingEdge(valid_port)
        beats: list[int] = []
        first = 0
        while True:
            await edge
            if not valid():
                await rises
                continue
            if not ready():
                continue
            cycle = self.cycle()
            if not beats:
                first = cycle
            beats.append(payload())
            if codec.is_last(beats[-1]):
                self.seen.append(TlpTime(first, cycle, codec.decode(beats)))
                beats = []

    def cycle(self) -> int:
        """Return the number of the cycle that ends now."""
        return round(get_sim_time("ps")) // self._period_ps


def read_spans(requests: list[TlpTime], completions: list[TlpTime]) -> list[ReadSpan]:
    """Match reads with their completions, by tag; reads without an answer are left out."""
    spans = []
    for sent in requests:
        if sent.packet.type != MEM_READ:
            continue
        for answer in completions:
            packet = answer.packet
            if packet.type not in (COMPLETION, COMPLETION_DATA) or packet.tag != sent.packet.tag:
                continue
            whole = packet.byte_count <= len(packet.data) - (packet.lower_address & 3)
            if answer.first > sent.last and (whole or packet.type == COMPLETION):
                spans.append(ReadSpan(sent.first, answer.last, sent.packet))
                break
    return spans


def merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the same cycles as stretches that do not overlap, in order."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found
