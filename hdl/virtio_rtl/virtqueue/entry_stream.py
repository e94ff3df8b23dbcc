"""Packets of available ring entries, one at a time."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..types.packet import packet_stream

__all__ = ["Entry", "EntryStream"]


class Entry(data.Struct):
    """Two bytes, the ``last`` of their packet, and the ``error`` of their beat."""

    value: 16
    last: 1
    error: 1


class EntryStream(wiring.Component):
    """Cuts packets into little-endian numbers of two bytes.

    Parameters
    ----------
    width
        Bits of a packet beat.

    Ports
    -----
    packet : packet_stream(width)
        Packets of an even number of bytes.
    output : stream of ``Entry``

    One entry a cycle; latency one cycle.
    """

    def __init__(self, width: int):
        self.width = width
        super().__init__(
            {"packet": In(packet_stream(width)), "output": Out(stream.Signature(Entry))}
        )

    def elaborate(self, platform):
        m = Module()
        beat, entry = self.packet.payload, self.output.payload
        held = Signal(self.width)
        left = Signal(range(self.width // 16 + 1))
        last = Signal()
        ends = Signal()
        m.d.comb += [
            ends.eq(left <= 1),
            entry.value.eq(held[:16]),
            entry.last.eq(last & ends),
            self.output.valid.eq(left != 0),
        ]
        with m.If((left == 0) | (ends & self.output.ready)):
            m.d.comb += self.packet.ready.eq(1)
            m.d.sync += left.eq(0)
            with m.If(self.packet.valid):
                m.d.sync += [
                    held.eq(beat.data),
                    left.eq(beat.count >> 1),
                    last.eq(beat.last),
                    entry.error.eq(beat.error),
                ]
        with m.Elif(self.output.ready):
            m.d.sync += [left.eq(left - 1), held.eq(held >> 16)]
        return m
