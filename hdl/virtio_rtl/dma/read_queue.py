"""The order of one client's tags."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from virtio_rtl.dma.read_records import share_layout, strobe
from virtio_rtl.lib.stream import StreamFIFO

__all__ = ["ReadQueue"]


class ReadQueue(wiring.Component):
    """Keep one client's tags in the order of their launch; offer the oldest once it has ended.

    Parameters
    ----------
    width, tags, slot_bytes
        As in `ReadEngine`.

    Ports
    -----
    launched : In(strobe(share_layout(...)))
        There is room for every tag.
    ended : In(strobe(range(tags)))
        The read of this tag has ended.
    ended_before : In(tags)
        The tags that have ended, from the cycle after ``ended`` on, and are not released.
    share : Out(stream share_layout(...))
        The oldest tag; valid when its read has ended, one cycle after ``ended`` at the earliest.

    One tag per cycle. The tag at the head watches ``ended`` itself; the one behind it is looked up
    in ``ended_before`` as it moves up, so that no other logic stands before this multiplexer.
    """

    def __init__(self, width: int, tags: int, slot_bytes: int):
        self.tags = tags
        self.share_shape = share_layout(width, tags, slot_bytes)
        super().__init__(
            {
                "launched": In(strobe(self.share_shape)),
                "ended": In(strobe(range(tags))),
                "ended_before": In(tags),
                "share": Out(stream.Signature(self.share_shape)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.order = order = StreamFIFO(self.share_shape, self.tags)
        m.d.comb += [
            order.input.payload.eq(self.launched.payload),
            order.input.valid.eq(self.launched.valid),
        ]
        head = Signal(self.share_shape)
        head_valid = Signal()
        head_ended = Signal()
        m.d.comb += [
            self.share.payload.eq(head),
            self.share.valid.eq(head_valid & head_ended),
        ]

        def ends_now(share):
            return self.ended.valid & (self.ended.payload == share.use.tag)

        with m.If(ends_now(head)):
            m.d.sync += head_ended.eq(1)
        following = order.output.payload
        with m.If(~head_valid | (self.share.valid & self.share.ready)):
            m.d.comb += order.output.ready.eq(1)
            m.d.sync += [
                head.eq(following),
                head_valid.eq(order.output.valid),
                head_ended.eq(
                    self.ended_before.bit_select(following.use.tag, 1) | ends_now(following)
                ),
            ]
        return m
