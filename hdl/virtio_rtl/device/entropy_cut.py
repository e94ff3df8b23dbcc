"""Beats of random bytes to packets of a given length."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..types.packet import packet_stream

__all__ = ["CutPackets"]


class CutPackets(wiring.Component):
    """Makes a packet of each length out of as many beats as it needs.

    What a packet leaves over of its last beat is thrown away, so that no byte is used twice. A
    packet begins when all of its beats are here, however slow they come: from its first beat on
    the engine can write nothing else.

    Parameters
    ----------
    width
        Data bits of a beat.
    longest
        Longest packet in bytes.
    held
        Beats that can wait at ``beats``, at least those of the longest packet.

    Ports
    -----
    length : stream of unsigned
        Length of each packet in bytes, 1 to ``longest``.
    beats : stream of ``width`` bits
    level : range(held + 1)
        Beats that wait there.
    output : packet_stream(width)
        The packets, in the order of the lengths; ``error`` is 0.
    stop : 1
        Level: take no more beats. A beat that stands at ``output`` already stays there.

    One beat a cycle, also when each is a packet; latency one cycle from the last one needed.
    ``output`` is a register; the ready signals of ``length`` and ``beats`` depend on
    ``output.ready``: both come from FIFOs.
    """

    def __init__(self, width: int, longest: int, held: int):
        if held * width < 8 * longest:
            raise ValueError(f"held = {held!r}: less than {longest} bytes")
        self.width = width
        self.longest = longest
        self.held = held
        super().__init__(
            {
                "length": In(stream.Signature(unsigned(longest.bit_length()))),
                "beats": In(stream.Signature(width)),
                "level": In(range(held + 1)),
                "output": Out(packet_stream(width)),
                "stop": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        lanes = self.width // 8
        inside = Signal()  # a packet has begun, with `remaining` bytes to go, in the `last` beat
        remaining = Signal.like(self.length.payload)
        last = Signal()
        begun = Signal()  # a beat of it has gone
        needed = Signal(range(-(-self.longest // lanes) + 1))
        open_ = Signal()
        moved = Signal()
        m.d.comb += [
            open_.eq(
                inside
                & (begun | (self.level >= needed))
                & ~self.stop
                & (~self.output.valid | self.output.ready)
            ),
            self.beats.ready.eq(open_),
            moved.eq(open_ & self.beats.valid),
            self.length.ready.eq(~inside | (moved & last)),
        ]
        with m.If(self.length.ready):
            m.d.sync += [
                inside.eq(self.length.valid),
                remaining.eq(self.length.payload),
                last.eq(self.length.payload <= lanes),
                begun.eq(0),
                needed.eq((self.length.payload + (lanes - 1)) >> (lanes - 1).bit_length()),
            ]
        with m.Elif(moved):
            m.d.sync += [
                begun.eq(1),
                remaining.eq(remaining - lanes),
                last.eq(remaining <= 2 * lanes),
            ]

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
