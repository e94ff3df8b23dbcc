"""FallThroughFIFO: order, capacity, rate, and the one cycle that it costs."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from amaranth.hdl import Module, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from virtqueue_helper import Moves, nothing_more, spread

from lib.sim import simulate
from lib.streams import StreamSink, StreamSource, cycles, reset, start_clock
from virtio_rtl.lib.fall_through import FallThroughFIFO

DEPTHS = (2, 3, 4, 8, 17, 33)


class Queues(wiring.Component):
    """Queues of several depths side by side."""

    def __init__(self) -> None:
        signature = stream.Signature(unsigned(24))
        super().__init__(
            {f"i_{depth}": In(signature) for depth in DEPTHS}
            | {f"o_{depth}": Out(signature) for depth in DEPTHS}
            | {f"level_{depth}": Out(range(depth)) for depth in DEPTHS}
        )

    def elaborate(self, platform: Any) -> Module:
        """Wire them to the ports."""
        m = Module()
        for depth in DEPTHS:
            m.submodules[f"fifo_{depth}"] = fifo = FallThroughFIFO(unsigned(24), depth)
            wiring.connect(m, wiring.flipped(getattr(self, f"i_{depth}")), fifo.input)
            wiring.connect(m, fifo.output, wiring.flipped(getattr(self, f"o_{depth}")))
            m.d.comb += getattr(self, f"level_{depth}").eq(fifo.level)
        return m


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def keeps_order_under_stalls(dut: Any) -> None:
    """All that goes in comes out, in order, whoever stalls."""
    start_clock(dut)
    for depth in DEPTHS:
        for stalls in ((0.0, 0.5), (0.5, 0.0), (0.4, 0.4)):
            source = StreamSource(dut, f"i_{depth}", stall=stalls[0])
            sink = StreamSink(dut, f"o_{depth}", stall=stalls[1])
            await reset(dut)
            sent = [random.getrandbits(24) for _ in range(200)]
            source.queue(sent)
            assert await sink.take(200) == sent, depth
            await nothing_more(dut, sink, wait=5)
            source.stop()
            sink.stop()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def holds_what_it_says(dut: Any) -> None:
    """Blocked, it takes `depth` entries; the level counts all but the one at the output."""
    start_clock(dut)
    for depth in DEPTHS:
        source = StreamSource(dut, f"i_{depth}")
        sink = StreamSink(dut, f"o_{depth}", stall=1.0)
        await reset(dut)
        source.queue(range(60))
        await cycles(dut, 80)
        assert source.count == depth
        assert int(getattr(dut, f"level_{depth}").value) == depth - 1
        sink.stall = 0.0
        assert await sink.take(60) == list(range(60))
        await cycles(dut, 3)
        assert int(getattr(dut, f"level_{depth}").value) == 0
        source.stop()
        sink.stop()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def an_entry_a_cycle_one_cycle_late(dut: Any) -> None:
    """Whatever the depth; empty or not."""
    start_clock(dut)
    for depth in DEPTHS:
        source, sink = StreamSource(dut, f"i_{depth}"), StreamSink(dut, f"o_{depth}")
        came, left = Moves(dut, f"i_{depth}"), Moves(dut, f"o_{depth}")
        await reset(dut)
        source.queue(range(50))
        assert await sink.take(50) == list(range(50))
        assert spread(came.cycles) == spread(left.cycles) == 50
        assert left.cycles[0] - came.cycles[0] == 1
        source.stop()
        sink.stop()


def test_fall_through() -> None:
    """All depths."""
    simulate(Queues(), module=__name__, name="fall_through")


@pytest.mark.parametrize("depth", [0, 1])
def test_refuses_less_than_two(depth: int) -> None:
    """One entry would be a register, not a queue."""
    with pytest.raises(ValueError, match="depth"):
        FallThroughFIFO(unsigned(8), depth)
