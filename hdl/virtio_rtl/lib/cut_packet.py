"""Ending a packet whose source is reset."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..types.packet import packet_stream

__all__ = ["CutPacket"]


class CutPacket(wiring.Component):
    """Ends a packet whose source was reset in the middle: one more beat, last and in error.

    Parameters
    ----------
    width
        Bits of a beat.
    dest_bits
        Bits of the packets' ``dest``, or 0; that of a beat made up here is 0.

    Ports
    -----
    input : packet_stream(width, dest_bits), from a part that ``cut`` resets
    output : packet_stream(width, dest_bits), to a part that goes on
    cut : 1

    Combinational, one beat a cycle.
    """

    def __init__(self, width: int, dest_bits: int = 0):
        self.width = width
        super().__init__(
            {
                "input": In(packet_stream(width, dest_bits)),
                "output": Out(packet_stream(width, dest_bits)),
                "cut": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        inside = Signal()
        ending = Signal()
        moved = self.output.valid & self.output.ready
        with m.If(ending):
            m.d.comb += [
                self.output.payload.count.eq(1),
                self.output.payload.last.eq(1),
                self.output.payload.error.eq(1),
                self.output.valid.eq(1),
            ]
            with m.If(moved):
                m.d.sync += [ending.eq(0), inside.eq(0)]
        with m.Else():
            m.d.comb += [
                self.output.payload.eq(self.input.payload),
                self.output.valid.eq(self.input.valid & ~self.cut),
                self.input.ready.eq(self.output.ready & ~self.cut),
            ]
            with m.If(moved):
                m.d.sync += inside.eq(~self.input.payload.last)
            with m.If(self.cut):
                m.d.sync += ending.eq(inside)
        return m
