"""Where a chunk waits that cannot be sent at once."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from virtio_rtl.dma.read_records import chunk_layout

__all__ = ["ChunkBuffer"]


class ChunkBuffer(wiring.Component):
    """Let a chunk through in the same cycle; keep it if it is not taken.

    Parameters
    ----------
    width
        Data bits of the datapath: 64, 128, 256 or 512.

    Ports
    -----
    input, output : stream chunk_layout(width)

    One chunk per cycle, no latency, order is kept. ``input.ready`` is a register; ``output`` is one
    level of logic behind ``input``. What is offered at ``output`` stays, whatever ``input`` does
    after the cycle in which it was taken.
    """

    def __init__(self, width: int):
        self.shape = chunk_layout(width)
        super().__init__(
            {
                "input": In(stream.Signature(self.shape)),
                "output": Out(stream.Signature(self.shape)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        kept = Signal(self.shape)
        full = Signal()
        m.d.comb += [
            self.input.ready.eq(~full),
            self.output.valid.eq(full | self.input.valid),
            Value.cast(self.output.payload).eq(Mux(full, kept, self.input.payload)),
        ]
        m.d.sync += full.eq(self.output.valid & ~self.output.ready)
        with m.If(~full):
            # Kept even if it passes, so that the register does not wait for who takes it.
            m.d.sync += kept.eq(self.input.payload)
        return m
