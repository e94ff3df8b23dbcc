"""Beats of random bytes to packets of a given length."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..types.packet import packet_stream

__all__ = ["CutPackets"]


class CutPackets(wiring.Component):
    """Makes a packet of each length out of as many beats as it needs.

    What a packet leaves over of its last beat is thrown away, so that no byte is used twice. A
    length may come only when all of its beats are there, or are in the next cycle: from a packet's
    first beat on the engine can write nothing else.

    Parameters
    ----------
    width
        Data bits of a beat.
    longest
        Longest packet in bytes.

    Ports
    -----
    length : stream of unsigned
        Length of each packet in bytes, 1 to ``longest``.
    beats : stream of ``width`` bits
    output : packet_stream(width)
        The packets, in the order of the lengths; ``error`` is 0.

    One beat a cycle, also when each is a packet; latency two cycles from a length.
    ``output`` is a register; the ready signals of ``length`` and ``beats`` depend on
    ``output.ready``: both come from FIFOs.
    """

    def __init__(self, width: int, longest: int):
        self.width = width
        self.longest = longest
        super().__init__(
            {
                "length": In(stream.Signature(unsigned(longest.bit_length()))),
                "beats": In(stream.Signature(width)),
                "output": Out(packet_stream(width)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        lanes = self.width // 8
        inside = Signal()  # a packet has begun, with `remaining` bytes to go, in the `last` beat
        remaining = Signal.like(self.length.payload)
        last = Signal()
        open_ = Signal()
        moved = Signal()
        m.d.comb += [
            open_.eq(inside & (~self.output.valid | self.output.ready)),
            self.beats.ready.eq(open_),
            moved.eq(open_ & self.beats.valid),
            self.length.ready.eq(~inside | (moved & last)),
        ]
        with m.If(self.length.ready):
            m.d.sync += [
                inside.eq(self.length.valid),
                remaining.eq(self.length.payload),
                last.eq(self.length.payload <= lanes),
            ]
        with m.Elif(moved):
            m.d.sync += [remaining.eq(remaining - lanes), last.eq(remaining <= 2 * lanes)]

        with m.If(moved):
            m.d.sync += [
                self.output.payload.data.eq(self.beats.payload),
                self.output.payload.count.eq(Mux(last, remaining, lanes)),
                self.output.payload.last.eq(last),
                self.output.valid.eq(1),
            ]
        with m.Elif(self.output.ready):
            m.d.sync += self.output.valid.eq(0)
        return m
