"""Writes a batch of used descriptors or elements."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.stream import StreamFIFO
from ..types.dma import WriteRequest
from ..types.packet import packet_beat, packet_stream
from ..types.virtqueue import PackedDescriptor, QueueLookup, UsedProgress
from .used_beats import UsedBeats
from .used_position import chosen

__all__ = ["UsedBatch", "UsedEntry", "UsedWrite"]


class UsedEntry(data.Struct):
    """What the used ring says of a buffer."""

    id: 16
    length: 32


class UsedBatch(data.Struct):
    """``count`` entries of one ``bank``, for neighbouring places from ``index`` on.

    ``wrap`` is the device's wrap counter there (packed only). ``end`` is the position behind the
    batch, as in ``UsedProgress``, and ``moved`` is how far that is from its beginning: more than
    ``count`` if chains have several slots, or if one entry stands for several buffers.
    """

    queue: 16
    bank: 2
    index: 15
    wrap: 1
    count: 5
    end: 16
    moved: 16


class _SplitElement(data.Struct):
    """Used ring element. [virtio 1.4 §2.7.8]"""

    id: 32
    length: 32


class UsedWrite(wiring.Component):
    """Turns batches into writes to the used ring.

    Packed: descriptors with AVAIL and USED equal to the device's wrap counter, WRITE if bytes were
    written to the buffer, and an address of 0 [virtio 1.4 §2.8.7]. Split: elements, and behind them
    on the same posted path, as the last request of the same group, ``used.idx``
    [virtio 1.4 §2.7.8, §2.7.14].

    Parameters
    ----------
    width
        Bits of a packet beat.
    queues, batch, banks
        Layout of the entry memory, address {queue, bank, slot}.
    rings
        Ring formats that are built.

    Ports
    -----
    packed : 1
        The ring format in use.
    batch : stream of ``UsedBatch``
    entry_address -> entry : ``UsedEntry``, one cycle latency
    lookup : ``QueueLookup``
    request, packet, done : client of the write engine
    written : stream of ``UsedProgress``
        A batch that the posted path has accepted.
    idle : 1
        No batch is here, and all were told. Combinational.

    One entry a cycle, batches without a pause between them; at 64 bits a packed descriptor takes
    two cycles. ``used.idx`` takes one cycle a batch. The request of a lone entry is offered two
    cycles after its batch was taken, that of ``used.idx`` one later.

    Limitation: the size of a split virtqueue has to be a power of two.
    """

    def __init__(self, width: int, queues: int, batch: int, banks: int, rings: tuple[str, ...]):
        self.width = width
        self.queues = queues
        self.batch_size = batch
        self.banks = banks
        self.rings = rings
        super().__init__(
            {
                "packed": In(1),
                "batch": In(stream.Signature(UsedBatch)),
                "entry_address": Out(range(max(queues * banks * batch, 2))),
                "entry": In(UsedEntry),
                "lookup": Out(QueueLookup()),
                "request": Out(stream.Signature(WriteRequest)),
                "packet": Out(packet_stream(width)),
                "done": In(stream.Signature(unsigned(1))),
                "written": Out(stream.Signature(UsedProgress)),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        packed = chosen(self.rings, self.packed)
        m.submodules.requests = requests = StreamFIFO(WriteRequest, 2)
        m.submodules.waiting = waiting = StreamFIFO(UsedProgress, 16)
        # A request follows when its beats are there, or all but the one with used.idx, which
        # comes in the next cycle: whoever is granted the posted path must not make others wait
        # for data that are still being put together.
        batch_bytes = 16 * self.batch_size if "packed" in self.rings else 8 * self.batch_size + 2
        batch_beats = -(-batch_bytes * 8 // self.width)
        m.submodules.beats = beats = StreamFIFO(packet_beat(self.width), 2 * batch_beats)
        m.submodules.fill = fill = UsedBeats(self.width, self.rings)
        wiring.connect(m, requests.output, wiring.flipped(self.request))
        wiring.connect(m, fill.packet, beats.input)
        wiring.connect(m, beats.output, wiring.flipped(self.packet))
        slot_bits = (self.batch_size - 1).bit_length()

        batch = Signal(UsedBatch)
        active = Signal()
        position = Signal(5)  # of the entry that is made now
        last = Signal()  # it is the batch's last one
        at_index = Signal()  # split: used.idx is made now
        room, step, ends = Signal(), Signal(), Signal()
        m.d.comb += [
            room.eq(requests.input.ready & waiting.input.ready),
            step.eq(active & room & fill.word.ready),
            ends.eq(step & Mux(packed, last, at_index)),
            self.batch.ready.eq(~active | ends),
            self.idle.eq(~active & ~waiting.output.valid),
        ]
        with m.If(self.batch.ready):
            m.d.sync += [
                active.eq(self.batch.valid),
                batch.eq(self.batch.payload),
                position.eq(0),
                last.eq(self.batch.payload.count == 1),
                at_index.eq(0),
            ]
        with m.Elif(step):
            m.d.sync += [
                position.eq(position + 1),
                last.eq(position + 2 == batch.count),
                at_index.eq(last),
            ]

        # Entry and address are looked up one cycle ahead: of the batch that may come now, or of
        # the next entry.
        source = self.batch.payload
        slot = Mux(step, position + 1, position)[:slot_bits]
        with m.If(self.batch.ready):
            m.d.comb += [
                self.entry_address.eq(Cat(Const(0, slot_bits), source.bank, source.queue)),
                self.lookup.queue.eq(source.queue),
            ]
        with m.Else():
            m.d.comb += [
                self.entry_address.eq(Cat(slot, batch.bank, batch.queue)),
                self.lookup.queue.eq(batch.queue),
            ]

        # Bytes: a word of each entry, then used.idx.
        descriptor = data.View(PackedDescriptor, Signal(128))
        element = Signal(_SplitElement)
        m.d.comb += [
            descriptor.length.eq(self.entry.length),
            descriptor.id.eq(self.entry.id),
            descriptor.write.eq(self.entry.length != 0),
            descriptor.avail.eq(batch.wrap),
            descriptor.used.eq(batch.wrap),
            element.id.eq(Mux(at_index, batch.end, self.entry.id)),
            element.length.eq(self.entry.length),
            fill.packed.eq(packed),
            fill.word.payload.word.eq(Mux(packed, descriptor.as_value()[64:], element)),
            fill.word.payload.index.eq(~packed & at_index),
            fill.word.payload.last.eq(Mux(packed, last, at_index)),
            fill.word.valid.eq(active & room),
        ]

        # Where they go.
        config = self.lookup.config
        base, offset = Signal(64), Signal(19)
        with m.If(packed):
            m.d.comb += [base.eq(config.descriptor_area), offset.eq(batch.index << 4)]
        with m.Else():
            place = Signal(15)
            m.d.comb += [
                place.eq(batch.index & (config.size - 1)),
                base.eq(config.device_area),
                offset.eq(Mux(at_index, 2, (place << 3) + 4)),
            ]
        m.d.comb += [
            requests.input.payload.address.eq(base + offset),
            requests.input.payload.length.eq(
                Mux(packed, batch.count << 4, Mux(at_index, 2, batch.count << 3))
            ),
            requests.input.payload.last.eq(packed | at_index),
            requests.input.valid.eq(step & (last | at_index)),
        ]

        # Who is to be told when they were accepted.
        m.d.comb += [
            waiting.input.payload.queue.eq(batch.queue),
            waiting.input.payload.index.eq(batch.end),
            waiting.input.payload.count.eq(batch.moved),
            waiting.input.valid.eq(ends),
            self.written.payload.eq(waiting.output.payload),
            self.written.valid.eq(waiting.output.valid & self.done.valid),
            waiting.output.ready.eq(self.done.valid & self.written.ready),
            self.done.ready.eq(waiting.output.valid & self.written.ready),
        ]
        return m
