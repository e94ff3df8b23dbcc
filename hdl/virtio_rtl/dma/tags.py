"""Tags: the free ones, those in quarantine, and how many a client may hold."""

from amaranth.hdl import Const, Module, Mux, Shape, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from virtio_rtl.dma.read_records import LOW_TAGS, one_hot, strobe, tag_use
from virtio_rtl.dma.read_timer import EPOCH_BITS, is_expired
from virtio_rtl.lib.stream import StreamFIFO

__all__ = ["TagPool", "TagQuota"]


class TagPool(wiring.Component):
    """Give tags out, and take them back when nothing can arrive for them any more.

    Parameters
    ----------
    tags
        Number of tags, a power of two from 8 to 256.

    Ports
    -----
    extended_tag : In(1)
        When 0, only tags 0 to 31 are given out.
    epoch : In(3)
        From `ReadTimer`.
    free : Out(stream tag_use(tags))
        The next tag; the offer may change until it is taken.
    release : In(strobe(tag_use(tags)))
        The tag was read out.
    quarantine : In(strobe(tag_use(tags)))
        The tag's read ended, but completions for it may still come; always before its release.
    clear : Out(strobe(range(tags)))
        Forget the state of this tag.
    preparing : Out(1)
        After reset: tags are being cleared, one per cycle; no tag may be used.

    One tag per cycle out and back in. A tag in quarantine comes back after another time-out and
    after its release. Quarantine outlives reset, so that a completion that comes after a reset
    cannot be taken for the reply to a new read. [PCIe 3.0 §2.3.2, §2.8]
    """

    def __init__(self, tags: int):
        if tags not in (8, 16, 32, 64, 128, 256):
            raise ValueError(f"tags = {tags!r}: a power of two from 8 to 256")
        self.tags = tags
        super().__init__(
            {
                "extended_tag": In(1),
                "epoch": In(EPOCH_BITS),
                "free": Out(stream.Signature(tag_use(tags))),
                "release": In(strobe(tag_use(tags))),
                "quarantine": In(strobe(tag_use(tags))),
                "clear": Out(strobe(range(tags))),
                "preparing": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        tags = self.tags
        quarantined = Signal(tags, reset_less=True)
        undelivered = Signal(tags)

        sweeping = Signal(init=1)
        sweep_tag = Signal(range(tags))
        m.d.comb += [
            self.preparing.eq(sweeping),
            self.clear.valid.eq(sweeping & ~quarantined.bit_select(sweep_tag, 1)),
            self.clear.payload.eq(sweep_tag),
        ]
        with m.If(sweeping):
            m.d.sync += [sweep_tag.eq(sweep_tag + 1), sweeping.eq(sweep_tag != tags - 1)]

        # Entries stand in the order of time, so that only the oldest one has to be watched.
        entry_layout = data.StructLayout({"use": tag_use(tags), "stamp": EPOCH_BITS})
        m.submodules.queue = queue = memory.Memory(shape=entry_layout, depth=tags, init=[])
        queue_write = queue.write_port()
        queue_read = queue.read_port()
        write_index = Signal(range(2 * tags), reset_less=True)
        read_index = Signal(range(2 * tags), reset_less=True)
        oldest_valid = Signal()
        oldest = queue_read.data
        expired = Signal()
        leaves = Signal()
        m.d.comb += [
            queue_write.en.eq(self.quarantine.valid),
            queue_write.addr.eq(write_index[:-1]),
            queue_write.data.use.eq(self.quarantine.payload),
            queue_write.data.stamp.eq(self.epoch),
            queue_read.en.eq(1),
            queue_read.addr.eq(read_index[:-1]),
            leaves.eq(oldest_valid & expired & ~sweeping & ~self.release.valid),
        ]
        m.d.sync += [
            write_index.eq(write_index + self.quarantine.valid),
            read_index.eq(read_index + leaves),
            oldest_valid.eq((write_index != read_index) & ~leaves),
            expired.eq(oldest_valid & is_expired(self.epoch, oldest.stamp) & ~leaves),
        ]

        entered = one_hot(self.quarantine.payload.tag, tags) & self.quarantine.valid.replicate(tags)
        left = one_hot(oldest.use.tag, tags) & leaves.replicate(tags)
        released = one_hot(self.release.payload.tag, tags) & self.release.valid.replicate(tags)
        m.d.sync += [
            quarantined.eq((quarantined & ~left) | entered),
            undelivered.eq((undelivered & ~released) | entered),
        ]

        returned = Signal(tag_use(tags))
        returns = Signal()
        with m.If(sweeping):
            m.d.comb += [
                returned.tag.eq(sweep_tag),
                returned.generation.eq(1),
                returns.eq(self.clear.valid),
            ]
        with m.Elif(self.release.valid):
            m.d.comb += [
                returned.tag.eq(self.release.payload.tag),
                returned.generation.eq(~self.release.payload.generation),
                returns.eq(~quarantined.bit_select(self.release.payload.tag, 1)),
            ]
        with m.Else():
            m.d.comb += [
                returned.tag.eq(oldest.use.tag),
                returned.generation.eq(~oldest.use.generation),
                returns.eq(leaves & ~undelivered.bit_select(oldest.use.tag, 1)),
            ]

        m.submodules.low = low = StreamFIFO(tag_use(tags), min(tags, LOW_TAGS))
        m.d.comb += [
            low.input.payload.eq(returned),
            low.input.valid.eq(returns),
            self.free.payload.eq(low.output.payload),
            self.free.valid.eq(low.output.valid),
            low.output.ready.eq(self.free.ready),
        ]
        if tags > LOW_TAGS:
            m.submodules.high = high = StreamFIFO(tag_use(tags), tags - LOW_TAGS)
            is_high = returned.tag >= LOW_TAGS
            take_high = Signal()
            m.d.comb += [
                low.input.valid.eq(returns & ~is_high),
                high.input.payload.eq(returned),
                high.input.valid.eq(returns & is_high),
                take_high.eq(self.extended_tag & high.output.valid),
                low.output.ready.eq(self.free.ready & ~take_high),
                high.output.ready.eq(self.free.ready & take_high),
            ]
            with m.If(take_high):
                m.d.comb += [self.free.payload.eq(high.output.payload), self.free.valid.eq(1)]
        return m


class TagQuota(wiring.Component):
    """Keep some tags for every client, so that a client that stands still stops nobody else.

    Parameters
    ----------
    tags
        Number of tags.
    clients
        Number of clients.
    reserved
        Tags that each client can always get; the rest is shared.

    Ports
    -----
    extended_tag : In(1)
        When 0, there are only 32 tags to share.
    grant, release : In(strobe(range(clients)))
        This client gets a tag, or gives one back.
    eligible : Out(clients)
        Clients that may get a tag.

    One grant and one release per cycle; ``eligible`` is up to date in the next cycle. Tags in
    quarantine are nobody's, so that while there are some, a reserved tag may have to be waited for.
    """

    def __init__(self, tags: int, clients: int, reserved: int):
        if not (reserved >= 1 and reserved * clients <= min(tags, LOW_TAGS)):
            raise ValueError(f"reserved = {reserved!r}: at least 1, and enough for every client")
        self.tags = tags
        self.clients = clients
        self.reserved = reserved
        client = Shape.cast(range(max(clients, 2)))
        super().__init__(
            {
                "extended_tag": In(1),
                "grant": In(strobe(client)),
                "release": In(strobe(client)),
                "eligible": Out(clients),
            }
        )

    def elaborate(self, platform):
        m = Module()
        owned_by_all = self.clients * self.reserved
        shared_used = Signal(range(self.tags + 1))
        shared_limit = Signal(range(self.tags + 1))
        shared_left = Signal()
        m.d.sync += shared_limit.eq(
            Mux(self.extended_tag, self.tags, min(self.tags, LOW_TAGS)) - owned_by_all
        )
        m.d.comb += shared_left.eq(shared_used < shared_limit)

        more, less = Const(0, 1), Const(0, 1)
        for index in range(self.clients):
            held = Signal(range(self.tags + 1), name=f"held_{index}")
            granted = self.grant.valid & (self.grant.payload == index)
            released = self.release.valid & (self.release.payload == index)
            gains, loses = granted & ~released, released & ~granted
            m.d.sync += held.eq(held + gains - loses)
            m.d.comb += self.eligible[index].eq((held < self.reserved) | shared_left)
            more = more | (gains & (held >= self.reserved))
            less = less | (loses & (held > self.reserved))
        m.d.sync += shared_used.eq(shared_used + more - less)
        return m
