"""The network side of the net device: AXI4-Stream to packets and back."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..types.axis import AXIStream
from ..types.packet import packet_stream

__all__ = ["PacketToPort", "PortToPacket"]


class PortToPacket(wiring.Component):
    """Frames from the port, as packets; drops what arrives while nobody can take it.

    A frame is dropped whole when ``open`` is low at its first beat, and its rest is dropped when
    ``cut`` strikes in the middle, so that the other side may be reset at any moment; ``cut``
    withdraws a beat that is offered.

    Parameters
    ----------
    width
        Bits of a beat.
    dest_bits
        Bits of ``tdest``, or 0.

    Ports
    -----
    port : ``AXIStream(width, dest_bits)`` in
    output : packet_stream(width, dest_bits); ``error`` is the frame's ``tuser``
    open : 1
    cut : 1

    Combinational, one beat a cycle.
    """

    def __init__(self, width: int, dest_bits: int = 0):
        self.width = width
        self.dest_bits = dest_bits
        super().__init__(
            {
                "port": In(AXIStream(width, dest_bits)),
                "output": Out(packet_stream(width, dest_bits)),
                "open": In(1),
                "cut": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        lanes = self.width // 8
        inside = Signal()
        dropping = Signal()
        drop = Signal()
        count = Signal(range(lanes + 1))
        # The lanes that are kept are the lowest ones, so that one of them is the last.
        ends = [self.port.tkeep[k] & ~self.port.tkeep[k + 1] for k in range(lanes - 1)]
        ends.append(self.port.tkeep[lanes - 1])
        m.d.comb += [
            count.eq(
                Cat(
                    Cat(end for k, end in enumerate(ends, 1) if k >> bit & 1).any()
                    for bit in range(len(count))
                )
            ),
            drop.eq(self.cut | Mux(inside, dropping, ~self.open)),
            self.output.payload.data.eq(self.port.tdata),
            self.output.payload.count.eq(count),
            self.output.payload.last.eq(self.port.tlast),
            self.output.payload.error.eq(self.port.tuser),
            self.output.valid.eq(self.port.tvalid & ~drop),
            self.port.tready.eq(self.output.ready | drop),
        ]
        if self.dest_bits:
            m.d.comb += self.output.payload.dest.eq(self.port.tdest)
        with m.If(self.port.tvalid & self.port.tready):
            m.d.sync += [inside.eq(~self.port.tlast), dropping.eq(drop)]
        with m.Elif(self.output.valid):
            # A frame has begun when its first beat is offered: only a cut withdraws that.
            m.d.sync += [inside.eq(1), dropping.eq(0)]
        with m.Elif(self.cut):
            m.d.sync += dropping.eq(1)
        return m


class PacketToPort(wiring.Component):
    """Packets, as frames to the port.

    Parameters
    ----------
    width
        Bits of a beat.
    dest_bits
        Bits of ``tdest``, or 0.

    Ports
    -----
    input : packet_stream(width, dest_bits)
    port : ``AXIStream(width, dest_bits)`` out

    Combinational, one beat a cycle.
    """

    def __init__(self, width: int, dest_bits: int = 0):
        self.width = width
        self.dest_bits = dest_bits
        super().__init__(
            {
                "input": In(packet_stream(width, dest_bits)),
                "port": Out(AXIStream(width, dest_bits)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        beat = self.input.payload
        for lane in range(self.width // 8):
            m.d.comb += self.port.tkeep[lane].eq(beat.count > lane)
        m.d.comb += [
            self.port.tdata.eq(beat.data),
            self.port.tlast.eq(beat.last),
            self.port.tuser.eq(beat.last & beat.error),
            self.port.tvalid.eq(self.input.valid),
            self.input.ready.eq(self.port.tready),
        ]
        if self.dest_bits:
            m.d.comb += self.port.tdest.eq(beat.dest)
        return m
