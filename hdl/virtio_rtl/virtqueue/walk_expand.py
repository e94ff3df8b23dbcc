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
    address: 64
    length: 32
    writable: 1


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
        Most segments of a buffer, or None. Segments past it are dropped.

    Ports
    -----
    item : stream of ``RingItem``
    table_packet : packet_stream(width), the chunks asked for
    table_freed : 1
    segment : stream of ``Segment``
    buffer : stream of ``Buffer``, sent with the buffer's last segment

    One segment a cycle.
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
            chunks.input.valid.eq(descriptors.output.valid & landed.last),
            chunks.input.payload.eq(landed.error),
        ]

        item = self.item.payload
        entry = entries.output.payload
        position = Signal(5)
        is_table = item.table != 0
        source_valid = Signal()
        last_of_item = Signal()
        m.d.comb += [
            last_of_item.eq(~is_table | (position + 1 == item.table)),
            source_valid.eq(
                self.item.valid & (~is_table | (entries.output.valid & chunks.output.valid))
            ),
        ]

        readable = Signal(32)
        writable = Signal(32)
        count = Signal(16)
        failed = Signal()

        address = Mux(is_table, entry.address, item.address)
        length = Mux(is_table, entry.length, item.length)
        write = Mux(is_table, entry.writable, item.writable)
        last = item.last & last_of_item
        too_many = (count >= self.segments_max) if self.segments_max is not None else 0
        bad = (
            item.error
            | (is_table & chunks.output.payload)
            | (~write & (writable != 0) & (length != 0))
            | too_many
        )
        readable_sum = (readable + Mux(write, 0, length))[:33]
        writable_sum = (writable + Mux(write, length, 0))[:33]
        saturated_readable = Mux(readable_sum[32], 0xFFFF_FFFF, readable_sum[:32])
        saturated_writable = Mux(writable_sum[32], 0xFFFF_FFFF, writable_sum[:32])

        segment = self.segment.payload
        buffer = self.buffer.payload
        segment_sent = Signal()
        buffer_sent = Signal()
        keep_segment = Const(1) if self.segments_max is None else ~too_many | last
        segment_done = segment_sent | self.segment.ready | ~keep_segment
        buffer_done = buffer_sent | self.buffer.ready | ~last
        both = segment_done & buffer_done
        m.d.comb += [
            segment.queue.eq(item.queue),
            segment.address.eq(address),
            # A buffer that breaks a rule is not executed any further.
            segment.length.eq(Mux(failed | bad, 0, length)),
            segment.writable.eq(write),
            segment.last.eq(last),
            self.segment.valid.eq(source_valid & keep_segment & ~segment_sent),
            buffer.queue.eq(item.queue),
            buffer.id.eq(item.id),
            buffer.slots.eq(item.slots),
            buffer.readable.eq(saturated_readable),
            buffer.writable.eq(saturated_writable),
            buffer.error.eq(failed | bad),
            buffer.absent.eq(item.absent),
            self.buffer.valid.eq(source_valid & last & ~buffer_sent),
        ]
        with m.If(source_valid & both):
            m.d.comb += [
                self.item.ready.eq(last_of_item),
                entries.output.ready.eq(is_table),
                chunks.output.ready.eq(is_table & last_of_item),
                self.table_freed.eq(is_table),
            ]
            m.d.sync += [
                position.eq(Mux(last_of_item, 0, position + 1)),
                segment_sent.eq(0),
                buffer_sent.eq(0),
                readable.eq(Mux(last, 0, saturated_readable)),
                writable.eq(Mux(last, 0, saturated_writable)),
                count.eq(Mux(last, 0, count + 1)),
                failed.eq(~last & (failed | bad)),
            ]
        with m.Elif(source_valid):
            m.d.sync += [
                segment_sent.eq(segment_sent | (self.segment.ready & keep_segment)),
                buffer_sent.eq(buffer_sent | (self.buffer.ready & last)),
            ]
        return m
