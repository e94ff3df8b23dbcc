"""The packet that ``FetchReceive`` looks at, descriptor by descriptor."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..types.packet import packet_stream
from .descriptor_stream import DescriptorBeat, DescriptorStream

__all__ = ["FetchSource"]


class FetchSource(wiring.Component):
    """Takes one fetch at a time, from one of two clients of the read engine.

    Parameters
    ----------
    width
        Bits of a packet beat.

    Ports
    -----
    packet, repair_packet : packet_stream(width)
    output : stream of ``DescriptorBeat``
        ``ready`` also says that the next packet may begin.
    skip : 1
        As of ``DescriptorStream``.
    drop : 1
        Strobe, with a descriptor that is not the last: the rest of the packet is of no use.
    repair : 1
        Strobe, between two packets: the next one comes from ``repair_packet``.
    dropping : 1
        The rest of a packet is still passing.

    One descriptor a cycle, two cycles between packets.
    """

    def __init__(self, width: int):
        self.width = width
        super().__init__(
            {
                "packet": In(packet_stream(width)),
                "repair_packet": In(packet_stream(width)),
                "output": Out(stream.Signature(DescriptorBeat)),
                "skip": In(1),
                "drop": In(1),
                "repair": In(1),
                "dropping": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.descriptors = descriptors = DescriptorStream(self.width)
        source = descriptors.output
        repairing = Signal()
        ends = Signal()
        takes = Signal()
        may_load = Signal()
        m.d.comb += [
            takes.eq(self.output.ready | self.dropping),
            ends.eq(source.valid & source.payload.last),
            # Where the next packet comes from may still be open.
            may_load.eq(takes & ~ends),
            descriptors.packet.payload.eq(
                Mux(repairing, self.repair_packet.payload, self.packet.payload)
            ),
            descriptors.packet.valid.eq(
                Mux(repairing, self.repair_packet.valid, self.packet.valid) & may_load
            ),
            self.packet.ready.eq(descriptors.packet.ready & may_load & ~repairing),
            self.repair_packet.ready.eq(descriptors.packet.ready & may_load & repairing),
            descriptors.skip.eq(self.skip | self.dropping),
            source.ready.eq(takes),
            self.output.payload.eq(source.payload),
            self.output.valid.eq(source.valid & ~self.dropping),
        ]
        with m.If(self.drop):
            m.d.sync += self.dropping.eq(1)
        with m.If(self.repair):
            m.d.sync += repairing.eq(1)
        with m.If(ends & takes):
            m.d.sync += [self.dropping.eq(0), repairing.eq(0)]
        return m
