"""Used buffers, told to the driver: hop 7."""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..lib.stream import StreamArbiter, StreamFIFO
from ..lib.sweep import ResetSweep
from ..types.dma import WriteRequest
from ..types.packet import packet_stream
from ..types.virtqueue import Completion, QueueLookup, RingFeatures, UsedProgress
from .used_batch import UsedBatching, used_state
from .used_patience import AGE_BITS, UsedPatience, is_young
from .used_position import chosen
from .used_write import UsedBatch, UsedEntry, UsedWrite

__all__ = ["Used"]

_BANKS = 4


class _Open(data.Struct):
    """A virtqueue with used buffers that wait for neighbours, and since when."""

    queue: 16
    since: AGE_BITS


class Used(wiring.Component):
    """Collects completions per virtqueue and writes neighbouring used ring entries as one.

    Packed: a used descriptor goes to the device's current ring position, which then moves on by
    the chain's length [virtio 1.4 §2.8.7]. Split: a used element each, and then the used index
    [virtio 1.4 §2.7.8, §2.7.14].

    Up to ``batch`` buffers share one write. A batch is closed when it is full, at a multiple of
    ``batch`` in the ring (so that writes stay aligned), at the ring's end and (packed) behind a
    chain of several slots; else as soon as no buffer is in the device any more, and at
    the latest ``linger`` cycles after its first entry: a lone buffer is not delayed, a flood is
    batched. While the posted path is the bottleneck, a batch of many busy virtqueues may wait up
    to ``linger_crowded`` cycles: then every byte that batching saves is a frame more.

    IN_ORDER [virtio 1.4 §2.7.9, §2.8.11]: buffers that the device has only read are not written
    one by one. One entry with the id of the batch's last buffer, at the batch's first position,
    stands for all of them, however many slots each has. These are buffers of the inputs in
    ``read_only`` into which nothing was written; every other buffer is written for itself, since a
    skipped one has no length of its own.

    Parameters
    ----------
    width
        Bits of a packet beat.
    queues, inputs
        Virtqueues, and completion inputs.
    batch
        Most buffers in one write, a power of two up to 16.
    linger, linger_crowded
        Cycles, up to 8000. An entry may wait twice as long if several virtqueues are busy.
    rings
        Ring formats that are built, ``"split"`` and ``"packed"`` or one of them.
    in_order
        Batching with IN_ORDER is built.
    read_only
        Completion inputs whose buffers the device only reads: those that IN_ORDER may skip.

    Ports
    -----
    features : ``RingFeatures``
    completion_{i} : stream of ``Completion``
    busy : 1
        Buffers are still inside the device.
    crowded : 1
        The posted path has more to send than it can.
    lookup, lookup_write : ``QueueLookup``
    request, packet, done : client of the write engine
    written : stream of ``UsedProgress``
        Used buffers that were accepted by the posted path.
    forget : 1, forget_queue : 16
        Strobe: set the state of a virtqueue of which nothing is here back to that after a reset.
    idle : 1
        No completion is offered, waits or is being written, and all were told. A register.

    One completion a cycle, one entry written a cycle. Used buffers of a virtqueue are in the
    order of the completions. The write of a lone buffer is offered 3 cycles after its completion
    was taken.

    Limitation: the size of a split virtqueue has to be a power of two.
    """

    def __init__(
        self,
        width: int,
        queues: int,
        inputs: int,
        batch: int = 16,
        linger: int = 64,
        linger_crowded: int = 4096,
        *,
        rings: tuple[str, ...] = ("split", "packed"),
        in_order: bool = True,
        read_only: tuple[int, ...] = (),
    ):
        self.width = width
        self.queues = queues
        self.inputs = inputs
        self.batch = batch
        self.linger = linger
        self.linger_crowded = linger_crowded
        self.rings = rings
        self.in_order = in_order
        self.read_only = read_only
        super().__init__(
            {f"completion_{i}": In(stream.Signature(Completion)) for i in range(inputs)}
            | {
                "features": In(RingFeatures),
                "busy": In(1),
                "crowded": In(1),
                "lookup": Out(QueueLookup()),
                "lookup_write": Out(QueueLookup()),
                "request": Out(stream.Signature(WriteRequest)),
                "packet": Out(packet_stream(width)),
                "done": In(stream.Signature(unsigned(1))),
                "written": Out(stream.Signature(UsedProgress)),
                "forget": In(1),
                "forget_queue": In(16),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        slot_bits = (self.batch - 1).bit_length()
        packed = chosen(self.rings, self.features.packed)
        m.submodules.states = states = Memory(
            shape=used_state(self.rings, self.in_order), depth=self.queues, init=[]
        )
        m.submodules.entries = entries = Memory(
            shape=UsedEntry, depth=self.queues * _BANKS * self.batch, init=[]
        )
        m.submodules.sweep = sweep = ResetSweep(self.queues)
        m.submodules.arbiter = arbiter = StreamArbiter(Completion, self.inputs)
        m.submodules.open_list = open_list = StreamFIFO(_Open, self.queues + 1)
        # One bank of a virtqueue is being filled and one is in `write`, so that all others may
        # wait here.
        m.submodules.batches = batches = StreamFIFO(UsedBatch, _BANKS - 2)
        m.submodules.write = write = UsedWrite(
            self.width, self.queues, self.batch, _BANKS, self.rings
        )
        m.submodules.batching = batching = UsedBatching(self.batch, self.rings, self.in_order)
        m.submodules.patience = patience = UsedPatience(self.linger, self.linger_crowded)
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
            write.packed.eq(packed),
            entries_read.addr.eq(write.entry_address),
            write.entry.eq(Mux(fresh, fresh_entry, entries_read.data)),
        ]

        # Or we ourselves have more to write than we can.
        m.d.sync += patience.crowded.eq(self.crowded | ~batches.input.ready)
        oldest = open_list.output
        due = Signal()
        m.d.sync += due.eq(
            oldest.valid
            & ~oldest.ready
            & (~self.busy | ~is_young(oldest.payload.since, patience.young_from))
        )

        # First stage: choose what to do, and look the virtqueue's state up.
        advance = Signal()
        flush_now = Signal()
        queue_now = Signal(16)
        offered = arbiter.output.payload
        only_read = Cat(arbiter.grant == i for i in self.read_only).any()
        # Second stage: do it. State that is written here is seen by the next lookup.
        completion = Signal(Completion)
        skippable = Signal()
        appends = Signal()
        flushes = Signal()
        m.d.comb += [
            sweep.clear.eq(self.forget),
            sweep.row.eq(self.forget_queue),
            flush_now.eq(due & ~sweep.busy),
            queue_now.eq(Mux(flush_now, oldest.payload.queue, offered.queue)),
            oldest.ready.eq(flush_now & advance),
            arbiter.output.ready.eq(~flush_now & ~sweep.busy & advance),
        ]
        with m.If(advance):
            m.d.sync += [
                appends.eq(arbiter.output.valid & arbiter.output.ready),
                flushes.eq(flush_now),
                completion.eq(offered),
                completion.queue.eq(queue_now),
            ]
            if self.in_order:
                m.d.sync += skippable.eq(
                    self.features.in_order & only_read & (offered.written == 0)
                )

        queue = completion.queue
        looked_up = Mux(advance, queue_now, queue)
        # Everything that may end in a write waits for room for one.
        room = Signal()
        m.d.comb += [
            room.eq(batches.input.ready & ~sweep.busy),
            advance.eq(~(appends | flushes) | room),
            states_read.addr.eq(looked_up),
            self.lookup.queue.eq(looked_up),
            batching.packed.eq(packed),
            batching.state.eq(states_read.data),
            batching.size.eq(self.lookup.config.size),
            batching.appends.eq(appends & room),
            batching.flushes.eq(flushes & room),
            batching.completion.eq(completion),
            batching.skippable.eq(skippable),
            batching.busy.eq(self.busy),
            batching.now.eq(patience.now),
            batching.young_from.eq(patience.young_from),
            states_write.addr.eq(queue),
            states_write.data.eq(batching.next_state),
            states_write.en.eq(batching.changes),
            entries_write.addr.eq(Cat(batching.slot[:slot_bits], batching.batch.bank, queue)),
            entries_write.data.id.eq(completion.id),
            entries_write.data.length.eq(completion.written),
            entries_write.en.eq(appends & room),
            open_list.input.payload.queue.eq(queue),
            open_list.input.payload.since.eq(batching.since),
            open_list.input.valid.eq(batching.lists),
            # Past the queue while that is empty.
            batches.input.payload.eq(batching.batch),
            batches.input.valid.eq(batching.closes & (batches.output.valid | ~write.batch.ready)),
            batches.output.ready.eq(write.batch.ready),
            write.batch.payload.eq(
                Mux(batches.output.valid, batches.output.payload, batching.batch)
            ),
            write.batch.valid.eq(batches.output.valid | batching.closes),
        ]
        passes = write.batch.ready & ~batches.output.valid
        m.d.sync += [
            fresh.eq(passes & appends & (batching.slot == 0)),
            fresh_entry.eq(entries_write.data),
            self.idle.eq(
                ~(appends | flushes | arbiter.output.valid | oldest.valid | batches.output.valid)
                & write.idle
            ),
        ]
        with m.If(sweep.busy):
            m.d.comb += [
                states_write.addr.eq(sweep.address),
                states_write.data.eq(0),
                states_write.en.eq(1),
            ]
        return m
