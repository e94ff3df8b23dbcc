"""Packets of packed descriptors, one descriptor at a time."""

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..types.packet import packet_stream
from ..types.virtqueue import PackedDescriptor

__all__ = ["DescriptorBeat", "DescriptorStream"]


class DescriptorBeat(data.Struct):
    """A descriptor, the ``last`` of its packet, and the ``error`` of its beat."""

    descriptor: PackedDescriptor
    last: 1
    error: 1


class DescriptorStream(wiring.Component):
    """Cut packets into 16-byte descriptors.

    Parameters
    ----------
    width
        Bits of a packet beat: 64, 128, 256 or 512.

    Ports
    -----
    packet : packet_stream(width)
        Packets of a whole number of descriptors.
    output : stream of ``DescriptorBeat``
    skip : 1
        All but one descriptor of each beat are left out; ``last`` still comes. For who only waits
        for the end of the packet.

    One descriptor a cycle at 128 bits and more, one every second cycle at 64; latency one cycle.
    """

    def __init__(self, width: int):
        self.width = width
        super().__init__(
            {
                "packet": In(packet_stream(width)),
                "output": Out(stream.Signature(DescriptorBeat)),
                "skip": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        beat = self.packet.payload
        if self.width <= 128:
            parts = 128 // self.width
            held = Signal(max(128 - self.width, 1))
            have = Signal(range(parts + 1))
            output = self.output.payload
            assembled = Value.cast(beat.data) if parts == 1 else held_concat(held, beat.data)
            full = have == parts - 1
            with m.If(~self.output.valid | self.output.ready):
                m.d.sync += self.output.valid.eq(self.packet.valid & full)
                m.d.comb += self.packet.ready.eq(1)
                with m.If(self.packet.valid):
                    m.d.sync += [
                        Value.cast(output.descriptor).eq(assembled),
                        output.last.eq(beat.last),
                        output.error.eq(beat.error),
                        held.eq(beat.data),
                        have.eq(0) if parts == 1 else have.eq(have + 1),
                    ]
                    if parts > 1:
                        with m.If(full):
                            m.d.sync += have.eq(0)
            return m

        held = Signal(self.width)
        left = Signal(range(self.width // 128 + 1))
        last = Signal()
        error = Signal()
        ends_beat = Signal()
        m.d.comb += [
            ends_beat.eq((left == 1) | self.skip),
            Value.cast(self.output.payload.descriptor).eq(held[:128]),
            self.output.payload.last.eq(last & ends_beat),
            self.output.payload.error.eq(error),
            self.output.valid.eq(left != 0),
        ]
        with m.If((left == 0) | (ends_beat & self.output.ready)):
            m.d.comb += self.packet.ready.eq(1)
            m.d.sync += left.eq(0)
            with m.If(self.packet.valid):
                m.d.sync += [
                    held.eq(beat.data),
                    left.eq(beat.count >> 4),
                    last.eq(beat.last),
                    error.eq(beat.error),
                ]
        with m.Elif(self.output.ready):
            m.d.sync += [left.eq(left - 1), held.eq(held >> 128)]
        return m


def held_concat(held: Signal, beat_data: Value) -> Value:
    """The earlier beat below the later one."""
    return Value.cast(beat_data) << len(held) | held
