"""A queue that costs no cycle while it is empty."""

from amaranth.hdl import Module, Mux, ShapeLike
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .stream import StreamFIFO

__all__ = ["BypassFIFO"]


class BypassFIFO(wiring.Component):
    """Queue that an entry passes in the same cycle when nothing is ahead of it.

    Parameters
    ----------
    shape
        Payload shape.
    depth
        Entries that can wait, at least 2.

    Ports
    -----
    input, output
        Streams of ``shape``.

    Combinational from ``input`` to ``output`` (one multiplexer) when empty, else as ``StreamFIFO``;
    one entry per cycle; order is kept. ``input.ready`` is a register: it never depends on
    ``output.ready``.
    """

    def __init__(self, shape: ShapeLike, depth: int):
        if depth < 2:
            raise ValueError(f"depth = {depth!r}: at least 2")
        self.shape = shape
        self.depth = depth
        super().__init__(
            {"input": In(stream.Signature(shape)), "output": Out(stream.Signature(shape))}
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.fifo = fifo = StreamFIFO(self.shape, self.depth)
        waiting = fifo.output
        m.d.comb += [
            self.input.ready.eq(fifo.input.ready),
            self.output.valid.eq(waiting.valid | self.input.valid),
            self.output.payload.eq(Mux(waiting.valid, waiting.payload, self.input.payload)),
            waiting.ready.eq(self.output.ready),
            fifo.input.payload.eq(self.input.payload),
            fifo.input.valid.eq(self.input.valid & (waiting.valid | ~self.output.ready)),
        ]
        return m
