"""The pattern of every unit test, on a FIFO: one file, the cocotb tests and their pytest.

pytest collects `test_*`; it builds the component and calls `simulate()`, which starts a simulator
that imports this same file and runs its `@cocotb.test()` functions (whose names do not start with
`test_`).
"""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from amaranth import Module
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from lib.sim import params, simulate
from lib.streams import StreamSink, StreamSource, cycles, reset, start_clock


def beat(width: int) -> data.StructLayout:
    """Return the payload of the example: data, and a flag on the last beat."""
    return data.StructLayout({"data": width, "last": 1})


class ExampleFifo(wiring.Component):
    """A FIFO with streams on both sides, standing in for a module of hdl/."""

    def __init__(self, width: int, depth: int) -> None:
        self.shape = beat(width)
        self.depth = depth
        super().__init__(
            {"i": In(stream.Signature(self.shape)), "o": Out(stream.Signature(self.shape))}
        )

    def elaborate(self, platform: Any) -> Module:
        """Wire the FIFO to the streams."""
        m = Module()
        m.submodules.fifo = queue = fifo.SyncFIFOBuffered(width=self.shape.size, depth=self.depth)
        m.d.comb += [
            queue.w_data.eq(self.i.payload),
            queue.w_en.eq(self.i.valid),
            self.i.ready.eq(queue.w_rdy),
            self.o.payload.eq(queue.r_data),
            self.o.valid.eq(queue.r_rdy),
            queue.r_en.eq(self.o.ready),
        ]
        return m


@cocotb.test(timeout_time=100, timeout_unit="us")
async def keeps_order_under_stalls(dut: Any) -> None:
    """All that goes in comes out, in order, whoever stalls."""
    layout = beat(params().width)
    start_clock(dut)
    for source_stall, sink_stall in ((0.0, 0.0), (0.3, 0.0), (0.0, 0.3), (0.5, 0.5)):
        source = StreamSource(dut, "i", layout, stall=source_stall)
        sink = StreamSink(dut, "o", layout, stall=sink_stall)
        await reset(dut)
        sent = [
            {"data": random.getrandbits(params().width), "last": random.getrandbits(1)}
            for _ in range(200)
        ]
        source.queue(sent)
        assert await sink.take(len(sent)) == sent
        await source.idle()
        await cycles(dut, 10)
        assert sink.now() is None
        source.stop()
        sink.stop()


@cocotb.test(timeout_time=100, timeout_unit="us")
async def fills_and_drains(dut: Any) -> None:
    """A blocked FIFO takes exactly what it can hold."""
    start_clock(dut)
    source, sink = StreamSource(dut, "i"), StreamSink(dut, "o", stall=1.0)
    await reset(dut)
    source.queue(range(2 * params().depth))
    await cycles(dut, 4 * params().depth)
    assert source.count == params().depth
    sink.stall = 0.0
    assert await sink.take(2 * params().depth) == list(range(2 * params().depth))


@pytest.mark.parametrize("width", [7, 40, 512])
def test_fifo(width: int) -> None:
    """The FIFO keeps order, and holds what it should."""
    context = {"width": width, "depth": 8}
    simulate(ExampleFifo(**context), module=__name__, name=f"example_{width}", params=context)
