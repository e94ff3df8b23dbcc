"""The order of one client's tags."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from virtio_rtl.dma.read_records import share_layout, strobe
from virtio_rtl.lib.stream import SkidBuffer, StreamFIFO

__all__ = ["ReadQueue"]


class ReadQueue(wiring.Component):
    """Keep one client's tags in the order of their launch; offer the oldest once it has ended.

    Parameters
    ----------
    width, tags, slot_bytes
        As in `ReadEngine`.
    max_room
        Most beats that the client's FIFO has room for.

    Ports
    -----
    launched : In(strobe(share_layout(...)))
        There is room for every tag.
    coming : In(range(tags))
        The tag that ``ended`` names in the next cycle, if it is valid then.
    ended : In(strobe(range(tags)))
        The read of this tag has ended.
    ended_before : In(tags)
        The tags that have ended, from the cycle after ``ended`` on, and are not released.
    room : In(range(max_room + 1))
        Beats that the client can take; falls only by a grant, in the next cycle.
    share : Out(share_layout(...))
        The oldest tag.
    request : Out(1)
        ``share`` has ended, at once with ``ended``, and there is room for its beats.
    granted : In(1)
        ``share`` is taken; only with ``request``.

    One tag per cycle. All that ``request`` depends on is compared one cycle earlier, for the tag at
    the head and for the one behind it, so that little logic stands before the choice of a client
    and little behind it. A tag can be offered 5 cycles after its launch.
    """

    def __init__(self, width: int, tags: int, slot_bytes: int, max_room: int):
        self.tags = tags
        self.share_shape = share_layout(width, tags, slot_bytes)
        super().__init__(
            {
                "launched": In(strobe(self.share_shape)),
                "coming": In(range(tags)),
                "ended": In(strobe(range(tags))),
                "ended_before": In(tags),
                "room": In(range(max_room + 1)),
                "share": Out(self.share_shape),
                "request": Out(1),
                "granted": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.order = order = StreamFIFO(self.share_shape, self.tags)
        # Registers the order's ready, which is slow, and its output, which is compared.
        m.submodules.behind = behind = SkidBuffer(self.share_shape)
        wiring.connect(m, order.output, behind.input)
        m.d.comb += [
            order.input.payload.eq(self.launched.payload),
            order.input.valid.eq(self.launched.valid),
        ]
        head = Signal(self.share_shape)
        head_valid = Signal()
        head_ended = Signal()
        head_fits = Signal()
        head_comes = Signal()
        m.d.comb += [
            self.share.eq(head),
            self.request.eq(
                head_valid & head_fits & (head_ended | (head_comes & self.ended.valid))
            ),
        ]

        following = behind.output.payload
        fits, following_fits, both_fit = Signal(), Signal(), Signal()
        following_ended = Signal()
        m.d.comb += [
            fits.eq(self.room >= head.beats),
            following_fits.eq(self.room >= following.beats),
            both_fit.eq(self.room >= head.beats + following.beats),
            following_ended.eq(
                self.ended_before.bit_select(following.use.tag, 1)
                | (self.ended.valid & (self.ended.payload == following.use.tag))
            ),
            behind.output.ready.eq(~head_valid | self.granted),
        ]
        with m.If(~head_valid | self.granted):
            m.d.sync += [
                head.eq(following),
                head_valid.eq(behind.output.valid),
                head_ended.eq(following_ended),
                head_comes.eq(self.coming == following.use.tag),
                head_fits.eq(Mux(head_valid, both_fit, following_fits)),
            ]
        with m.Else():
            m.d.sync += [
                head_ended.eq(head_ended | (head_comes & self.ended.valid)),
                head_comes.eq(self.coming == head.use.tag),
                head_fits.eq(fits),
            ]
        return m
