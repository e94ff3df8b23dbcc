"""Tags: the free ones, and those in quarantine."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from virtio_rtl.dma.read_records import LOW_TAGS, one_hot, strobe, tag_use
from virtio_rtl.dma.read_timer import EPOCH_BITS, is_expired
from virtio_rtl.lib.stream import SkidBuffer, StreamFIFO

__all__ = ["TagPool"]


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

    One tag per cycle out and back in; a tag that was released can be taken 5 cycles later. A tag in
    quarantine comes back after another time-out and after its release. Quarantine outlives reset,
    so that a completion that comes after a reset cannot be taken for the reply to a new read.
    [PCIe 3.0 §2.3.2, §2.8]
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

        # The tag that is looked up in one cycle is cleared in the next.
        sweeping = Signal(init=1)
        clearing = Signal()
        sweep_tag = Signal(range(tags))
        m.d.comb += self.preparing.eq(sweeping | clearing)
        m.d.sync += [
            clearing.eq(sweeping),
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
            leaves.eq(oldest_valid & expired & ~self.preparing & ~self.release.valid),
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
        with m.If(self.preparing):
            m.d.sync += [
                returned.tag.eq(self.clear.payload),
                returned.generation.eq(1),
                returns.eq(self.clear.valid),
            ]
        with m.Elif(self.release.valid):
            m.d.sync += [
                returned.tag.eq(self.release.payload.tag),
                returned.generation.eq(~self.release.payload.generation),
                returns.eq(~quarantined.bit_select(self.release.payload.tag, 1)),
            ]
        with m.Else():
            m.d.sync += [
                returned.tag.eq(oldest.use.tag),
                returned.generation.eq(~oldest.use.generation),
                returns.eq(leaves & ~undelivered.bit_select(oldest.use.tag, 1)),
            ]

        low_in, low = self._add_store(m, "low", min(tags, LOW_TAGS))
        m.d.comb += [
            low_in.payload.eq(returned),
            low_in.valid.eq(returns & (returned.tag < LOW_TAGS)),
            self.free.payload.eq(low.payload),
            self.free.valid.eq(low.valid),
            low.ready.eq(self.free.ready),
        ]
        if tags > LOW_TAGS:
            high_in, high = self._add_store(m, "high", tags - LOW_TAGS)
            take_high = Signal()
            m.d.comb += [
                high_in.payload.eq(returned),
                high_in.valid.eq(returns & (returned.tag >= LOW_TAGS)),
                take_high.eq(self.extended_tag & high.valid),
                low.ready.eq(self.free.ready & ~take_high),
                high.ready.eq(self.free.ready & take_high),
            ]
            with m.If(take_high):
                m.d.comb += [self.free.payload.eq(high.payload), self.free.valid.eq(1)]
        return m

    def _add_store(self, m, name, depth):
        """Free tags, behind registers: who takes one decides late in the cycle."""
        m.submodules[name] = store = StreamFIFO(tag_use(self.tags), depth)
        m.submodules[f"{name}_next"] = following = SkidBuffer(tag_use(self.tags))
        wiring.connect(m, store.output, following.input)
        return store.input, following.output
