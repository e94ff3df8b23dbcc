"""Stream plumbing: FIFO, skid buffer, arbiter."""

from amaranth.hdl import Module, Mux, Shape, ShapeLike, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

__all__ = ["SkidBuffer", "StreamArbiter", "StreamFIFO"]


class StreamFIFO(wiring.Component):
    """First-in first-out queue between two streams.

    Parameters
    ----------
    shape
        Payload shape.
    depth
        Entries, at least 1.

    Ports
    -----
    input, output
        Streams of ``shape``.
    level
        Entries held, the one at the output included.

    One entry per cycle in and out (one every two cycles if ``depth`` is 1 or 2); latency at most
    two cycles when empty; order is kept.
    """

    def __init__(self, shape: ShapeLike, depth: int):
        if depth < 1:
            raise ValueError(f"depth = {depth!r}: at least 1")
        self.shape = shape
        self.depth = depth
        super().__init__(
            {
                "input": In(stream.Signature(shape)),
                "output": Out(stream.Signature(shape)),
                "level": Out(range(depth + 1)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.fifo = fifo = SyncFIFOBuffered(
            width=Shape.cast(self.shape).width, depth=self.depth
        )
        m.d.comb += [
            fifo.w_data.eq(Value.cast(self.input.payload)),
            fifo.w_en.eq(self.input.valid),
            self.input.ready.eq(fifo.w_rdy),
            Value.cast(self.output.payload).eq(fifo.r_data),
            self.output.valid.eq(fifo.r_rdy),
            fifo.r_en.eq(self.output.ready),
            self.level.eq(fifo.level),
        ]
        return m


class SkidBuffer(wiring.Component):
    """Two-entry buffer that registers payload, valid and ready: cuts every combinational path.

    Parameters
    ----------
    shape
        Payload shape.

    Ports
    -----
    input, output
        Streams of ``shape``.

    One entry per cycle; latency one cycle; order is kept.
    """

    def __init__(self, shape: ShapeLike):
        self.shape = shape
        super().__init__(
            {
                "input": In(stream.Signature(shape)),
                "output": Out(stream.Signature(shape)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        width = Shape.cast(self.shape).width
        head = Signal(width)
        head_valid = Signal()
        spare = Signal(width)
        spare_valid = Signal()
        m.d.comb += [
            self.input.ready.eq(~spare_valid),
            Value.cast(self.output.payload).eq(head),
            self.output.valid.eq(head_valid),
        ]
        with m.If(self.output.ready | ~head_valid):
            with m.If(spare_valid):
                m.d.sync += [head.eq(spare), head_valid.eq(1), spare_valid.eq(0)]
            with m.Else():
                m.d.sync += [
                    head.eq(Value.cast(self.input.payload)),
                    head_valid.eq(self.input.valid),
                ]
        with m.Elif(self.input.valid & self.input.ready):
            m.d.sync += [spare.eq(Value.cast(self.input.payload)), spare_valid.eq(1)]
        return m


class StreamArbiter(wiring.Component):
    """Round-robin arbiter of ``count`` streams onto one.

    Parameters
    ----------
    shape
        Payload shape; with ``packets`` it has a field ``last``.
    count
        Number of inputs, at least 1.
    packets
        Hold the grant from a packet's first beat to the beat whose ``last`` is set.

    Ports
    -----
    input_0 ... input_{count-1}, output
        Streams of ``shape``.
    grant
        Index of the input that stands at the output.

    Combinational from input to output, one entry per cycle, no bubble when the grant moves. A
    grant that was offered and not taken stays, so that an offered payload never changes.
    """

    def __init__(self, shape: ShapeLike, count: int, *, packets: bool = False):
        if count < 1:
            raise ValueError(f"count = {count!r}: at least 1")
        self.shape = shape
        self.count = count
        self.packets = packets
        super().__init__(
            {f"input_{i}": In(stream.Signature(shape)) for i in range(count)}
            | {"output": Out(stream.Signature(shape)), "grant": Out(range(max(count, 2)))}
        )

    def elaborate(self, platform):
        m = Module()
        inputs = [getattr(self, f"input_{i}") for i in range(self.count)]
        last_granted = Signal(range(max(self.count, 2)))
        held = Signal()
        choice = Signal.like(last_granted)
        with m.Switch(last_granted):
            for current in range(self.count):
                with m.Case(current):
                    # Written from the lowest to the highest priority: the last match wins.
                    m.d.comb += choice.eq(current)
                    for step in reversed(range(1, self.count + 1)):
                        candidate = (current + step) % self.count
                        with m.If(inputs[candidate].valid):
                            m.d.comb += choice.eq(candidate)
        m.d.comb += self.grant.eq(Mux(held, last_granted, choice))
        for index, source in enumerate(inputs):
            with m.If(self.grant == index):
                m.d.comb += [
                    self.output.payload.eq(source.payload),
                    self.output.valid.eq(source.valid),
                    source.ready.eq(self.output.ready),
                ]
        with m.If(self.output.valid):
            taken = self.output.ready
            release = taken & self.output.payload.last if self.packets else taken
            m.d.sync += [last_granted.eq(self.grant), held.eq(~release)]
        return m
