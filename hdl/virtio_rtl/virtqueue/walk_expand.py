"""Puts direct descriptors and indirect tables into one stream of segments."""

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.stream import StreamFIFO
from ..types.packet import packet_stream
from ..types.virtqueue import Buffer, Segment
from .descriptor_stream import DescriptorStream
from .ring_item import TABLE_ROOM, RingItem

__all__ = ["WalkExpand"]


class _TableEntry(data.Struct):
    """A descriptor of an indirect table; ``last`` ends the chunk that it came with."""

    address: 64
    length: 32
    writable: 1
    last: 1


class WalkExpand(wiring.Component):
    """Segments and buffer records, in ring order.

    A chunk of an indirect table is used only when it has come back whole and without error.
    Inside a table only WRITE counts; NEXT, ids and other flags are ignored [virtio 1.4 §2.8.19].

    Errors, marked in the buffer record: the ring side found one, a table read failed, readable
    after writable [virtio 1.4 §2.8.17], more segments than ``segments_max``.

    Parameters
    ----------
    width
        Bits of a packet beat.
    segments_max
        Most segments of a buffer, or None. Segments past it are dropped, but for the last.

    Ports
    -----
    item : stream of ``RingItem``
    table_packet : packet_stream(width), the chunks asked for
    table_freed : 1
    segment : stream of ``Segment``
    buffer : stream of ``Buffer``, sent with the buffer's last segment

    One segment a cycle, combinational from a direct descriptor. Whoever takes ``segment`` and
    ``buffer`` must have room for ``segments_max`` + 1 segments, and ``ready`` that does not wait
    for the other.
    """

    def __init__(self, width: int, segments_max: int | None):
        self.width = width
        self.segments_max = segments_max
        super().__init__(
            {
                "item": In(stream.Signature(RingItem)),
                "table_packet": In(packet_stream(width)),
                "table_freed": Out(1),
                "segment": Out(stream.Signature(Segment)),
                "buffer": Out(stream.Signature(Buffer)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.descriptors = descriptors = DescriptorStream(self.width)
        m.submodules.entries = entries = StreamFIFO(_TableEntry, TABLE_ROOM)
        m.submodules.chunks = chunks = StreamFIFO(1, TABLE_ROOM)
        wiring.connect(m, wiring.flipped(self.table_packet), descriptors.packet)

        landed = descriptors.output.payload
        # Room for both was reserved when the table was asked for.
        m.d.comb += [
            descriptors.output.ready.eq(1),
            entries.input.valid.eq(descriptors.output.valid),
            entries.input.payload.address.eq(landed.descriptor.address),
            entries.input.payload.length.eq(landed.descriptor.length),
            entries.input.payload.writable.eq(landed.descriptor.write),
            entries.input.payload.last.eq(landed.last),
            chunks.input.valid.eq(descriptors.output.valid & landed.last),
            chunks.input.payload.eq(landed.error),
        ]

        item = self.item.payload
        entry = entries.output.payload
        source_valid = Signal()
        last_of_item = Signal()
        m.d.comb += [
            last_of_item.eq(~item.table | entry.last),
            source_valid.eq(self.item.valid & (~item.table | chunks.output.valid)),
        ]

        readable = Signal(32)
        writable = Signal(32)
        failed = Signal()
        count = Signal(range((self.segments_max or 1) + 1))
        too_many = Const(0) if self.segments_max is None else count == self.segments_max

        address = Mux(item.table, entry.address, item.address)
        length = Mux(item.table, entry.length, item.length)
        write = Mux(item.table, entry.writable, item.writable)
        last = item.last & last_of_item
        bad = (
            item.error
            | (item.table & chunks.output.payload)
            | (~write & (writable != 0) & (length != 0))
            | too_many
        )

        def saturated(total):
            return Mux(total[32], 0xFFFF_FFFF, total[:32])

        readable_sum = saturated((readable + Mux(write, 0, length))[:33])
        writable_sum = saturated((writable + Mux(write, length, 0))[:33])

        segment = self.segment.payload
        buffer = self.buffer.payload
        # Whoever waits for the buffer's record gets it: there is room for a segment more than
        # `segments_max`, the last one of a buffer that has too many.
        keep_segment = ~too_many | last
        room = Signal()
        fire = Signal()
        m.d.comb += [
            room.eq(self.segment.ready & self.buffer.ready),
            fire.eq(source_valid & room),
            segment.queue.eq(item.queue),
            segment.address.eq(address),
            # A buffer that breaks a rule is not executed any further.
            segment.length.eq(Mux(failed | bad, 0, length)),
            segment.writable.eq(write),
            segment.last.eq(last),
            self.segment.valid.eq(source_valid & keep_segment & self.buffer.ready),
            buffer.queue.eq(item.queue),
            buffer.id.eq(item.id),
            buffer.slots.eq(item.slots),
            buffer.readable.eq(readable_sum),
            buffer.writable.eq(writable_sum),
            buffer.error.eq(failed | bad),
            buffer.absent.eq(item.absent),
            self.buffer.valid.eq(source_valid & last & self.segment.ready),
            self.item.ready.eq(room & (~item.table | (chunks.output.valid & entry.last))),
            entries.output.ready.eq(fire & item.table),
            chunks.output.ready.eq(fire & item.table & entry.last),
            self.table_freed.eq(fire & item.table),
        ]
        with m.If(fire):
            m.d.sync += [
                readable.eq(Mux(last, 0, readable_sum)),
                writable.eq(Mux(last, 0, writable_sum)),
                failed.eq(~last & (failed | bad)),
            ]
            if self.segments_max is not None:
                m.d.sync += count.eq(Mux(last, 0, Mux(too_many, count, count + 1)))
        return m
