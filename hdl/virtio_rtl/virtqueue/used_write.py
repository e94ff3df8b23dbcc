"""Writes a batch of used descriptors."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.stream import StreamFIFO
from ..types.dma import WriteRequest
from ..types.packet import packet_beat, packet_stream
from ..types.virtqueue import PackedDescriptor, QueueLookup

__all__ = ["UsedBatch", "UsedEntry", "UsedWrite"]


class UsedEntry(data.Struct):
    """What a used descriptor says of its buffer."""

    id: 16
    length: 32


class UsedBatch(data.Struct):
    """``count`` neighbouring used descriptors from ring slot ``index`` on, in one ``bank``."""

    queue: 16
    bank: 2
    index: 15
    wrap: 1
    count: 5


class UsedWrite(wiring.Component):
    """Turns batches into writes of packed used descriptors. [virtio 1.4 §2.8.7]

    A used descriptor has AVAIL and USED equal to the device's wrap counter, WRITE if bytes were
    written to the buffer, and an address of 0.

    Parameters
    ----------
    width
        Bits of a packet beat.
    queues, batch, banks
        Layout of the entry memory, address {queue, bank, slot}.

    Ports
    -----
    batch : stream of ``UsedBatch``
    entry_address -> entry : ``UsedEntry``, one cycle latency
    lookup : ``QueueLookup``
    request, packet, done : client of the write engine
    written : stream of 16 bits
        Virtqueue of a batch that the posted path has accepted.

    One descriptor a cycle, batches without a pause between them (at 64 bits a descriptor every
    two cycles). The request of a lone descriptor is offered two cycles after its batch was taken.
    """

    def __init__(self, width: int, queues: int, batch: int, banks: int):
        self.width = width
        self.queues = queues
        self.batch_size = batch
        self.banks = banks
        super().__init__(
            {
                "batch": In(stream.Signature(UsedBatch)),
                "entry_address": Out(range(max(queues * banks * batch, 2))),
                "entry": In(UsedEntry),
                "lookup": Out(QueueLookup()),
                "request": Out(stream.Signature(WriteRequest)),
                "packet": Out(packet_stream(width)),
                "done": In(stream.Signature(unsigned(1))),
                "written": Out(stream.Signature(unsigned(16))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.requests = requests = StreamFIFO(WriteRequest, 2)
        m.submodules.waiting = waiting = StreamFIFO(unsigned(16), 16)
        # The request follows when its beats are all there: whoever is granted the posted path
        # must not make others wait for data that are still being put together.
        batch_beats = max(16 * self.batch_size * 8 // self.width, 1)
        m.submodules.beats = beats = StreamFIFO(packet_beat(self.width), 2 * batch_beats)
        wiring.connect(m, requests.output, wiring.flipped(self.request))
        wiring.connect(m, beats.output, wiring.flipped(self.packet))
        slot_bits = (self.batch_size - 1).bit_length()
        per_beat = max(self.width // 128, 1)
        beats_each = max(128 // self.width, 1)

        batch = Signal(UsedBatch)
        active = Signal()
        position = Signal(5)  # of the descriptor that is made now
        last = Signal()  # it is the batch's last one
        part = Signal(range(beats_each + 1))  # of a descriptor that takes several beats
        moves, step, ends = Signal(), Signal(), Signal()
        m.d.comb += [
            moves.eq(active & beats.input.ready & requests.input.ready & waiting.input.ready),
            step.eq(moves & (part == beats_each - 1)),
            ends.eq(step & last),
            self.batch.ready.eq(~active | ends),
        ]
        with m.If(moves):
            m.d.sync += part.eq(Mux(step, 0, part + 1))
        with m.If(self.batch.ready):
            m.d.sync += [
                active.eq(self.batch.valid),
                batch.eq(self.batch.payload),
                position.eq(0),
                last.eq(self.batch.payload.count == 1),
            ]
        with m.Elif(step):
            m.d.sync += [position.eq(position + 1), last.eq(position + 2 == batch.count)]

        # Entry and address are looked up one cycle ahead: of the batch that may come now, or of
        # the next descriptor.
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

        # One beat is filled from its low lanes up: a descriptor a cycle, 1 to 4 to a beat.
        descriptor = data.View(PackedDescriptor, Signal(128))
        beat = beats.input.payload
        lane = Signal(range(per_beat + 1))
        m.d.comb += [
            descriptor.length.eq(self.entry.length),
            descriptor.id.eq(self.entry.id),
            descriptor.write.eq(self.entry.length != 0),
            descriptor.avail.eq(batch.wrap),
            descriptor.used.eq(batch.wrap),
        ]
        if self.width >= 128:
            for index in range(per_beat):
                place = slice(128 * index, 128 * (index + 1))
                earlier = Signal(128, name=f"earlier_{index}")
                m.d.comb += beat.data[place].eq(Mux(lane == index, descriptor, earlier))
                with m.If(step & (lane == index)):
                    m.d.sync += earlier.eq(descriptor)
            m.d.comb += [
                beat.count.eq((lane + 1) << 4),
                beat.last.eq(last),
                beats.input.valid.eq(step & (last | (lane == per_beat - 1))),
            ]
            with m.If(step):
                m.d.sync += lane.eq(Mux(last | (lane == per_beat - 1), 0, lane + 1))
        else:
            m.d.comb += [
                beat.data.eq(descriptor.as_value().word_select(part, self.width)),
                beat.count.eq(self.width // 8),
                beat.last.eq(last & step),
                beats.input.valid.eq(moves),
            ]

        m.d.comb += [
            requests.input.payload.address.eq(
                self.lookup.config.descriptor_area + (batch.index << 4)
            ),
            requests.input.payload.length.eq(batch.count << 4),
            requests.input.payload.last.eq(1),
            requests.input.valid.eq(ends),
            waiting.input.payload.eq(batch.queue),
            waiting.input.valid.eq(ends),
        ]
        m.d.comb += [
            self.written.payload.eq(waiting.output.payload),
            self.written.valid.eq(waiting.output.valid & self.done.valid),
            waiting.output.ready.eq(self.done.valid & self.written.ready),
            self.done.ready.eq(waiting.output.valid & self.written.ready),
        ]
        return m
