"""Used descriptors of the packed virtqueue: hop 7."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..lib.stream import StreamArbiter, StreamFIFO
from ..lib.sweep import ResetSweep
from ..types.dma import WriteRequest
from ..types.packet import packet_stream
from ..types.virtqueue import Completion, QueueLookup
from .used_patience import UsedPatience
from .used_write import UsedBatch, UsedEntry, UsedWrite

__all__ = ["PackedUsed"]

_BANKS = 4
_AGE_BITS = 14


class _Open(data.Struct):
    """A virtqueue with used descriptors that wait for neighbours, and since when."""

    queue: 16
    since: _AGE_BITS


class PackedUsed(wiring.Component):
    """Collects completions per virtqueue and writes neighbouring used descriptors as one.

    A used descriptor goes to the device's current ring position, which then moves on by the
    chain's length; the device's wrap counter toggles when it passes the end of the ring
    [virtio 1.4 §2.8.7]. Up to ``batch`` descriptors share one write. A batch is closed when it is
    full, at a multiple of ``batch`` in the ring (so that writes stay aligned), at the ring's end
    and behind a chain of several slots; else as soon as no buffer is in the device any more, and
    at the latest ``linger`` cycles after its first entry: a lone buffer is not delayed, a flood is
    batched. While the posted path is the bottleneck, a batch of many busy virtqueues may wait up
    to ``linger_crowded`` cycles: then every byte that batching saves is a frame more.

    Parameters
    ----------
    width
        Bits of a packet beat.
    queues, inputs
        Virtqueues, and completion inputs.
    batch
        Most used descriptors in one write, a power of two up to 16.
    linger, linger_crowded
        Cycles, up to 8000. An entry may wait twice as long if several virtqueues are busy.

    Ports
    -----
    completion_{i} : stream of ``Completion``
    busy : 1
        Buffers are still inside the device.
    crowded : 1
        The posted path has more to send than it can.
    lookup, lookup_write : ``QueueLookup``
    request, packet, done : client of the write engine
    written : stream of 16 bits
        A virtqueue whose used descriptors were accepted by the posted path.

    One completion a cycle, one used descriptor written a cycle. Used descriptors of a
    virtqueue are in the order of the completions. The write of a lone buffer is offered 3 cycles
    after its completion was taken.
    """

    def __init__(
        self,
        width: int,
        queues: int,
        inputs: int,
        batch: int = 16,
        linger: int = 64,
        linger_crowded: int = 4096,
    ):
        self.width = width
        self.queues = queues
        self.inputs = inputs
        self.batch = batch
        self.linger = linger
        self.linger_crowded = linger_crowded
        super().__init__(
            {f"completion_{i}": In(stream.Signature(Completion)) for i in range(inputs)}
            | {
                "busy": In(1),
                "crowded": In(1),
                "lookup": Out(QueueLookup()),
                "lookup_write": Out(QueueLookup()),
                "request": Out(stream.Signature(WriteRequest)),
                "packet": Out(packet_stream(width)),
                "done": In(stream.Signature(unsigned(1))),
                "written": Out(stream.Signature(unsigned(16))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        count_bits = self.batch.bit_length()
        layout = data.StructLayout(
            {
                "index": 15,
                # Inverted wrap counter, so that 0 is its reset value.
                "wrapped": 1,
                "count": count_bits,
                "bank": 2,
                "listed": 1,
                # When the first entry of the open batch came.
                "since": _AGE_BITS,
            }
        )
        slot_bits = (self.batch - 1).bit_length()
        m.submodules.states = states = Memory(shape=layout, depth=self.queues, init=[])
        m.submodules.entries = entries = Memory(
            shape=UsedEntry, depth=self.queues * _BANKS * self.batch, init=[]
        )
        m.submodules.sweep = sweep = ResetSweep(self.queues)
        m.submodules.arbiter = arbiter = StreamArbiter(Completion, self.inputs)
        m.submodules.open_list = open_list = StreamFIFO(_Open, self.queues + 1)
        # One bank of a virtqueue is being filled and one is in `write`, so that all others may
        # wait here.
        m.submodules.batches = batches = StreamFIFO(UsedBatch, _BANKS - 2)
        m.submodules.write = write = UsedWrite(self.width, self.queues, self.batch, _BANKS)
        for i in range(self.inputs):
            wiring.connect(
                m, wiring.flipped(getattr(self, f"completion_{i}")), getattr(arbiter, f"input_{i}")
            )
        for ours, theirs in (
            (self.lookup_write, write.lookup),
            (self.request, write.request),
            (self.packet, write.packet),
            (self.done, write.done),
            (self.written, write.written),
        ):
            wiring.connect(m, wiring.flipped(ours), theirs)

        states_write = states.write_port()
        states_read = states.read_port(transparent_for=[states_write])
        entries_write = entries.write_port()
        entries_read = entries.read_port()
        # The only entry of a batch that went past the queue is read while it is written.
        fresh = Signal()
        fresh_entry = Signal(UsedEntry)
        m.d.comb += [
            entries_read.addr.eq(write.entry_address),
            write.entry.eq(Mux(fresh, fresh_entry, entries_read.data)),
        ]

        now = Signal(_AGE_BITS)
        # What began now or later is young; half of the circle lies on either side.
        young_from = Signal(_AGE_BITS)
        m.submodules.patience = patience = UsedPatience(self.linger, self.linger_crowded)
        m.d.sync += [
            # Or we ourselves have more to write than we can.
            patience.crowded.eq(self.crowded | ~batches.input.ready),
            now.eq(now + 1),
            young_from.eq(now + 2 - patience.cycles),
        ]

        def is_young(since):
            return ~(since - young_from)[_AGE_BITS - 1]

        oldest = open_list.output
        due = Signal()
        m.d.sync += due.eq(
            oldest.valid & ~oldest.ready & (~self.busy | ~is_young(oldest.payload.since))
        )

        # First stage: choose what to do, and look the virtqueue's state up.
        advance = Signal()
        flush_now = Signal()
        queue_now = Signal(16)
        # Second stage: do it. State that is written here is seen by the next lookup.
        completion = Signal(Completion)
        appends = Signal()
        flushes = Signal()
        m.d.comb += [
            flush_now.eq(due & ~sweep.busy),
            queue_now.eq(Mux(flush_now, oldest.payload.queue, arbiter.output.payload.queue)),
            oldest.ready.eq(flush_now & advance),
            arbiter.output.ready.eq(~flush_now & ~sweep.busy & advance),
        ]
        with m.If(advance):
            m.d.sync += [
                appends.eq(arbiter.output.valid & arbiter.output.ready),
                flushes.eq(flush_now),
                completion.eq(arbiter.output.payload),
                completion.queue.eq(queue_now),
            ]

        state = states_read.data
        size = self.lookup.config.size
        queue = completion.queue
        looked_up = Mux(advance, queue_now, queue)
        next_state = data.View(layout, Signal(layout))
        m.d.comb += [
            states_read.addr.eq(looked_up),
            self.lookup.queue.eq(looked_up),
            states_write.addr.eq(queue),
            states_write.data.eq(next_state),
            next_state.eq(state),
        ]

        slot = state.count[:slot_bits] if slot_bits else 0
        bank_address = Cat(slot, state.bank, queue) if slot_bits else Cat(state.bank, queue)
        moved = Signal(17)
        beyond = Signal(signed(18))  # slots past the ring's end
        past_end = Signal()
        closes = Signal()
        young = Signal()
        room = batches.input.ready
        batch, batch_valid = Signal(UsedBatch), Signal()
        m.d.comb += [
            moved.eq(state.index + completion.slots),
            # So that only one sum waits for the state.
            beyond.eq(state.index + (completion.slots - size)),
            past_end.eq(beyond >= 0),
            entries_write.addr.eq(bank_address),
            entries_write.data.id.eq(completion.id),
            entries_write.data.length.eq(completion.written),
            closes.eq(
                past_end
                | (completion.slots != 1)
                | (state.count == self.batch - 1)
                | ((moved & (self.batch - 1)) == 0)
                # A lone buffer is given back at once.
                | ~self.busy
            ),
            batch.queue.eq(queue),
            batch.bank.eq(state.bank),
            batch.wrap.eq(~state.wrapped),
            batch.index.eq(state.index - state.count),
            # Past the queue while that is empty.
            batches.input.payload.eq(batch),
            batches.input.valid.eq(batch_valid & (batches.output.valid | ~write.batch.ready)),
            batches.output.ready.eq(write.batch.ready),
            write.batch.payload.eq(Mux(batches.output.valid, batches.output.payload, batch)),
            write.batch.valid.eq(batches.output.valid | batch_valid),
            open_list.input.payload.queue.eq(queue),
            open_list.input.payload.since.eq(now),
            young.eq(self.busy & (state.count != 0) & is_young(state.since)),
            # Everything that may end in a write waits for room for one.
            advance.eq(~(appends | flushes) | room),
        ]
        m.d.sync += [
            fresh.eq(write.batch.ready & ~batches.output.valid & (state.count == 0)),
            fresh_entry.eq(entries_write.data),
        ]
        with m.If(appends & room):
            m.d.comb += [
                entries_write.en.eq(1),
                states_write.en.eq(1),
                next_state.index.eq(Mux(past_end, beyond, moved)),
                next_state.wrapped.eq(state.wrapped ^ past_end),
                batch.count.eq(state.count + 1),
                batch_valid.eq(closes),
            ]
            with m.If(closes):
                m.d.comb += [
                    next_state.count.eq(0),
                    next_state.bank.eq(state.bank + 1),
                ]
            with m.Else():
                m.d.comb += [
                    next_state.count.eq(state.count + 1),
                    next_state.listed.eq(1),
                    open_list.input.valid.eq(~state.listed),
                ]
                with m.If(state.count == 0):
                    m.d.comb += next_state.since.eq(now)
        with m.If(flushes & room):
            with m.If(young):
                # The batch that was listed is gone; the one that is open now began later.
                m.d.comb += [
                    open_list.input.payload.since.eq(state.since),
                    open_list.input.valid.eq(1),
                ]
            with m.Else():
                m.d.comb += [
                    states_write.en.eq(1),
                    next_state.listed.eq(0),
                    next_state.count.eq(0),
                    batch.count.eq(state.count),
                    batch_valid.eq(state.count != 0),
                ]
                with m.If(state.count != 0):
                    m.d.comb += next_state.bank.eq(state.bank + 1)

        with m.If(sweep.busy):
            m.d.comb += [
                states_write.addr.eq(sweep.address),
                states_write.data.eq(0),
                states_write.en.eq(1),
            ]
        return m
