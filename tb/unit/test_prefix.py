"""Headers of fixed length in front of packets: put there, and taken off."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from dest_helper import steered_packet
from virtqueue_helper import Moves, Strobes, nothing_more, spread

from lib.dma_model import packet_beats
from lib.sim import params, simulate
from lib.streams import StreamSink, StreamSource, reset, start_clock
from virtio_rtl.lib.prefix import AddPrefix, DropPrefix
from virtio_rtl.types.packet import packet_beat, packet_stream

LENGTHS = {
    64: (1, 7, 9, 12, 20, 31),
    128: (1, 12, 15, 17, 33, 47),
    256: (1, 12, 31, 33, 65),
    512: (1, 12, 63, 65, 130),
}


def prefix(length: int) -> bytes:
    """Bytes without a pattern."""
    return random.Random(length).randbytes(length)


class Bench(wiring.Component):
    """One DropPrefix and one AddPrefix of each length, side by side; `dest` is dropped's only."""

    def __init__(self, width: int, dest_bits: int):
        self.width, self.dest_bits = width, dest_bits
        streams = {"drop": packet_stream(width, dest_bits), "add": packet_stream(width)}
        names = [(kind, f"{kind}_{n}") for kind in streams for n in LENGTHS[width]]
        super().__init__(
            {f"{name}_i": In(streams[kind]) for kind, name in names}
            | {f"{name}_o": Out(streams[kind]) for kind, name in names}
            | {f"drop_{n}_dropped": Out(1) for n in LENGTHS[width]}
        )

    def elaborate(self, platform: Any) -> Module:
        """Wire them to the ports."""
        m = Module()
        for length in LENGTHS[self.width]:
            for kind in ("drop", "add"):
                part: Any = (
                    DropPrefix(self.width, length, self.dest_bits)
                    if kind == "drop"
                    else AddPrefix(self.width, prefix(length))
                )
                name = f"{kind}_{length}"
                m.submodules[name] = part
                wiring.connect(m, wiring.flipped(getattr(self, f"{name}_i")), part.input)
                wiring.connect(m, part.output, wiring.flipped(getattr(self, f"{name}_o")))
                if kind == "drop":
                    m.d.comb += getattr(self, f"{name}_dropped").eq(part.dropped)
        return m


def golden(kind: str, length: int, packet: bytes) -> bytes:
    return packet[length:] if kind == "drop" else prefix(length) + packet


async def run(dut: Any, kind: str, length: int, sizes: list[int], stall: float) -> tuple[int, int]:
    """Pass packets of these sizes; return the cycles from first to last input and output beat."""
    width = params().width
    name = f"{kind}_{length}"
    dest_bits = params().dest_bits if kind == "drop" else 0
    layout = packet_beat(width, dest_bits)
    source = StreamSource(dut, f"{name}_i", layout, stall=stall)
    sink = StreamSink(dut, f"{name}_o", layout, stall=stall)
    taken, given = Moves(dut, f"{name}_i"), Moves(dut, f"{name}_o")
    dropped = Strobes(dut, f"{name}_dropped") if kind == "drop" else None
    await reset(dut)
    packets = [
        (random.randbytes(size), random.random() < 0.3, random.getrandbits(dest_bits))
        for size in sizes
    ]
    for packet, error, dest in packets:
        beats: list[dict[str, Any]] = packet_beats(packet, width, error=error)
        for beat in beats:
            beat |= {"dest": dest} if dest_bits else {}
        for beat in beats[:-1]:
            beat["error"] = random.getrandbits(1)  # counts on the last beat only
        lanes = width // 8
        beats[-1]["data"] |= random.getrandbits(width) << 8 * beats[-1]["count"]
        beats[-1]["data"] &= (1 << 8 * lanes) - 1
        source.queue(beats)
    for packet, error, dest in packets:
        if want := golden(kind, length, packet):
            got, *marks = await steered_packet(sink)
            assert got == want, f"{name}: packet of {len(packet)} bytes"
            assert marks == [error, dest]
    await source.idle()
    await nothing_more(dut, sink, wait=10)
    if dropped:
        assert dropped.count == sum(len(packet) <= length and not bad for packet, bad, _ in packets)
    spans = spread(taken.cycles), (spread(given.cycles) if given.cycles else 0)
    source.stop()
    sink.stop()
    return spans


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def every_length_under_stalls(dut: Any) -> None:
    """Packets of 1 to 200 bytes in random order, both ends stalling."""
    start_clock(dut)
    for kind in ("drop", "add"):
        for length in LENGTHS[params().width]:
            sizes = random.sample(range(1, 201), 200)
            await run(dut, kind, length, sizes, stall=random.choice([0.1, 0.4]))


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def one_beat_a_cycle(dut: Any) -> None:
    """Dropping never stalls the input; adding never leaves a gap at the output."""
    start_clock(dut)
    width = params().width
    lanes = width // 8
    for kind in ("drop", "add"):
        for length in LENGTHS[width]:
            sizes = [*range(1, 2 * lanes + length + 2), *random.sample(range(1, 200), 40)]
            sizes.append(length + 1)
            came, left = await run(dut, kind, length, sizes, stall=0.0)
            if kind == "drop":
                assert came == sum(-(-size // lanes) for size in sizes)
            else:
                assert left == sum(-(-(size + length) // lanes) for size in sizes)


@pytest.mark.parametrize(("width", "dest_bits"), [(64, 2), (128, 0), (256, 7), (512, 0)])
def test_prefix(width: int, dest_bits: int) -> None:
    simulate(
        Bench(width, dest_bits), module=__name__, name=f"prefix_{width}_{dest_bits}",
        params={"width": width, "dest_bits": dest_bits},
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_refuses_whole_beats() -> None:
    for length in (8, 16, 0):
        with pytest.raises(ValueError, match="multiple"):
            DropPrefix(64, length)
        with pytest.raises(ValueError, match="multiple"):
            AddPrefix(64, bytes(length))
