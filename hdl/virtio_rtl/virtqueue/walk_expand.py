"""Descriptors become segments, chains become buffers."""

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..types.virtqueue import Buffer, Segment
from .ring_item import RingItem

__all__ = ["WalkExpand"]


class WalkExpand(wiring.Component):
    """Segments and buffer records, in ring order.

    Errors, marked in the buffer record: one was found before, readable after writable [virtio 1.4
    §2.7.4.2, §2.8.17], more segments than ``segments_max``.

    Parameters
    ----------
    segments_max
        Most segments of a buffer, or None. Segments past it are dropped, but for the last.

    Ports
    -----
    item : stream of ``RingItem``, none of them a chunk of a table
    segment : stream of ``Segment``
    buffer : stream of ``Buffer``, sent with the buffer's last segment

    One segment a cycle, combinational from ``item``. Whoever takes ``segment`` and
    ``buffer`` must have room for ``segments_max`` + 1 segments, and ``ready`` that does not wait
    for the other.
    """

    def __init__(self, segments_max: int | None):
        self.segments_max = segments_max
        super().__init__(
            {
                "item": In(stream.Signature(RingItem)),
                "segment": Out(stream.Signature(Segment)),
                "buffer": Out(stream.Signature(Buffer)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        item = self.item.payload
        readable = Signal(32)
        writable = Signal(32)
        failed = Signal()
        count = Signal(range((self.segments_max or 1) + 1))
        too_many = Const(0) if self.segments_max is None else count == self.segments_max

        bad = item.error | (~item.writable & (writable != 0) & (item.length != 0)) | too_many

        def saturated(total):
            return Mux(total[32], 0xFFFF_FFFF, total[:32])

        readable_sum = saturated((readable + Mux(item.writable, 0, item.length))[:33])
        writable_sum = saturated((writable + Mux(item.writable, item.length, 0))[:33])

        segment = self.segment.payload
        buffer = self.buffer.payload
        # Whoever waits for the buffer's record gets it: there is room for a segment more than
        # `segments_max`, the last one of a buffer that has too many.
        keep_segment = ~too_many | item.last
        room = Signal()
        fire = Signal()
        m.d.comb += [
            room.eq(self.segment.ready & self.buffer.ready),
            fire.eq(self.item.valid & room),
            segment.queue.eq(item.queue),
            segment.address.eq(item.address),
            # A buffer that breaks a rule is not executed any further.
            segment.length.eq(Mux(failed | bad, 0, item.length)),
            segment.writable.eq(item.writable),
            segment.last.eq(item.last),
            self.segment.valid.eq(self.item.valid & keep_segment & self.buffer.ready),
            buffer.queue.eq(item.queue),
            buffer.id.eq(item.id),
            buffer.slots.eq(item.slots),
            buffer.readable.eq(readable_sum),
            buffer.writable.eq(writable_sum),
            buffer.error.eq(failed | bad),
            buffer.absent.eq(item.absent),
            self.buffer.valid.eq(self.item.valid & item.last & self.segment.ready),
            self.item.ready.eq(room),
        ]
        with m.If(fire):
            m.d.sync += [
                readable.eq(Mux(item.last, 0, readable_sum)),
                writable.eq(Mux(item.last, 0, writable_sum)),
                failed.eq(~item.last & (failed | bad)),
            ]
            if self.segments_max is not None:
                m.d.sync += count.eq(Mux(item.last, 0, Mux(too_many, count, count + 1)))
        return m
