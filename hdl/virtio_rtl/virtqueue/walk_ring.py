"""Takes descriptors out of the read-ahead store, chain by chain."""

from amaranth.hdl import Const, Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..types.dma import ReadRequest
from ..types.virtqueue import Descriptor, QueueLookup
from .ring_item import TABLE_ROOM, RingItem
from .service import BurstRequest, BurstResult
from .walk_wait import WalkWait

__all__ = ["WalkRing"]

_TABLE_CHUNK = 16


class WalkRing(wiring.Component):
    """Walks the ring side of chains; one descriptor a cycle within a chain or a burst.

    A pull path takes requests of one buffer each; those for the virtqueue that it is at join its
    burst. Going to another virtqueue costs two cycles. With several virtqueues ``WalkWait`` ends
    the waiting for a buffer that does not come.

    Indirect tables are read in chunks of up to 16 descriptors, as soon as the ring descriptor is
    seen and while earlier tables are still on their way; room for what comes back is reserved.

    Rules checked, [virtio 1.4 §2.8.8, §2.8.19]: an indirect descriptor stands alone in its chain,
    its length is a multiple of 16, not 0, and holds no more descriptors than the virtqueue; a
    chain takes no more slots than the virtqueue has.

    Ports as of ``Walk``; ``table_freed`` is the number of table descriptors that
    ``WalkExpand`` has consumed in this cycle (0 or 1).
    """

    def __init__(
        self, queues: int, paths: int, batch: int, depth: int, pull: bool, wait_cycles: int
    ):
        self.several = queues > paths
        self.queues = queues
        self.paths = paths
        self.wait_cycles = wait_cycles
        self.batch = batch
        self.depth = depth
        self.pull = pull
        self.pointer_bits = (2 * depth - 1).bit_length()
        super().__init__(
            {
                "request": In(stream.Signature(BurstRequest)),
                "result": Out(stream.Signature(BurstResult)),
                "lookup": Out(QueueLookup()),
                "walk_queue": Out(16),
                "committed": In(self.pointer_bits),
                "taken": In(self.pointer_bits),
                "read_queue": Out(16),
                "read_pointer": Out(self.pointer_bits),
                "descriptor": In(Descriptor),
                "take_en": Out(1),
                "take_queue": Out(16),
                "take_pointer": Out(self.pointer_bits),
                "rearm": Out(stream.Signature(unsigned(16))),
                "table_request": Out(stream.Signature(ReadRequest)),
                "table_freed": In(1),
                "item": Out(stream.Signature(RingItem)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        queue = Signal(16)
        buffers_left = Signal(6)
        committed = Signal(self.pointer_bits)
        taken = Signal(self.pointer_bits)
        size = Signal(16)
        slots = Signal(16)
        chained = Signal()
        # Room that was given back and not yet told to the scheduler.
        owed = Signal()

        table_room = Signal(range(TABLE_ROOM + 1), init=TABLE_ROOM)
        table_taken = Signal(range(_TABLE_CHUNK + 1))
        m.d.sync += table_room.eq(table_room + self.table_freed - table_taken)
        table_address = Signal(64)
        table_left = Signal(28)
        table_id = Signal(16)
        table_bad = Signal()
        chunk = Signal(range(_TABLE_CHUNK + 1))

        descriptor = self.descriptor
        item = self.item.payload
        next_pointer = Signal(self.pointer_bits)
        advance = Signal()
        m.d.comb += [
            self.read_queue.eq(queue),
            self.read_pointer.eq(Mux(advance, next_pointer, taken)),
            next_pointer.eq(taken + 1),
            self.walk_queue.eq(queue),
            self.lookup.queue.eq(queue),
            self.take_queue.eq(queue),
            self.take_pointer.eq(taken),
            self.result.payload.queue.eq(queue),
            self.result.payload.exhausted.eq(taken == committed),
            self.rearm.payload.eq(queue),
            item.queue.eq(queue),
            # Never more than the ring has, also for a chain that breaks that rule.
            item.slots.eq(Mux(slots < size, slots + 1, size)),
        ]
        bad_table = (
            (descriptor.length[:4] != 0)
            | (descriptor.length == 0)
            | ((descriptor.length >> 4) > size)
            | chained
            | descriptor.next
        )
        batch_crossed = (next_pointer & (self.batch - 1)) == 0
        # A pull path goes on with the same virtqueue, without a new look, while it is asked to.
        joined = Signal()
        same = Signal()
        burst_over = (buffers_left == 0) & ~joined

        def take_next(*, ends_buffer):
            """Leave this ring descriptor behind, and read the next one."""
            m.d.comb += advance.eq(1)
            m.d.sync += [taken.eq(next_pointer), owed.eq(owed | batch_crossed)]
            with m.If(ends_buffer):
                m.d.sync += [
                    buffers_left.eq(buffers_left + joined - 1),
                    slots.eq(0),
                    chained.eq(0),
                ]
            with m.Else():
                m.d.sync += [slots.eq(Mux(slots < size, slots + 1, slots)), chained.eq(1)]
            ends_burst = ends_buffer & (buffers_left == 1) & ~joined
            with m.If(ends_burst | (next_pointer == committed) | batch_crossed):
                m.next = "STORE"
            with m.Else():
                m.next = "TAKE"

        def after_store():
            with m.If(~chained & burst_over):
                m.next = "IDLE" if self.pull else "FINISH"
            with m.Else():
                m.next = "LOOK"

        # Takes the next request, and looks its virtqueue up.
        begin = Signal()
        give_up = Signal()
        if self.pull:
            # Below, whoever ends a buffer in the same cycle takes it into account.
            m.d.sync += buffers_left.eq(buffers_left + joined)
        if self.pull and self.several:
            m.submodules.wait = wait = WalkWait(self.queues // self.paths, self.wait_cycles)
            m.d.comb += [
                wait.queue.eq(self.walk_queue // self.paths),
                give_up.eq(wait.give_up),
            ]
        with m.FSM(name="walk_ring") as fsm:
            with m.State("IDLE"):
                m.d.comb += begin.eq(1)
                with m.If(self.request.valid):
                    m.next = "LOOK"
            with m.State("LOOK"):
                m.d.sync += [
                    committed.eq(self.committed),
                    taken.eq(self.taken),
                    size.eq(self.lookup.config.size),
                ]
                m.d.comb += self.read_pointer.eq(self.taken)
                with m.If(self.taken != self.committed):
                    m.next = "TAKE"
                # Else the rest of the chain, or the buffer asked for, is still to come: look again.
                if self.pull and self.several:
                    m.d.comb += [
                        wait.found.eq(self.taken != self.committed),
                        wait.waiting.eq((self.taken == self.committed) & ~chained),
                        wait.enabled.eq(self.lookup.config.enabled),
                    ]
                    with m.If(give_up):
                        m.d.comb += [
                            self.item.valid.eq(1),
                            item.absent.eq(1),
                            item.last.eq(1),
                            item.slots.eq(0),
                        ]
                        with m.If(self.item.ready):
                            m.d.sync += buffers_left.eq(buffers_left + joined - 1)
                            with m.If((buffers_left == 1) & ~joined):
                                m.next = "IDLE"
                if not self.pull:
                    with m.Elif(~chained):
                        m.next = "FINISH"
            with m.State("TAKE"):
                m.d.comb += [
                    item.address.eq(descriptor.address),
                    item.length.eq(descriptor.length),
                    item.writable.eq(descriptor.write),
                    item.last.eq(~descriptor.next),
                    item.id.eq(descriptor.id),
                    item.error.eq(slots >= size),
                ]
                with m.If(descriptor.indirect):
                    m.d.sync += [
                        table_address.eq(descriptor.address),
                        table_left.eq(descriptor.length >> 4),
                        table_id.eq(descriptor.id),
                        table_bad.eq(bad_table),
                    ]
                    m.next = "TABLE"
                with m.Else():
                    m.d.comb += self.item.valid.eq(1)
                    with m.If(self.item.ready):
                        take_next(ends_buffer=~descriptor.next)
            with m.State("TABLE"):
                m.d.comb += [
                    chunk.eq(Mux(table_left > _TABLE_CHUNK, _TABLE_CHUNK, table_left)),
                    item.id.eq(table_id),
                    item.last.eq(table_bad | (table_left <= _TABLE_CHUNK)),
                    item.error.eq(table_bad),
                    item.table.eq(Mux(table_bad, 0, chunk)),
                    self.table_request.payload.address.eq(table_address),
                    self.table_request.payload.length.eq(chunk << 4),
                    self.table_request.payload.last.eq(1),
                ]
                with m.If(table_bad):
                    m.d.comb += self.item.valid.eq(1)
                    with m.If(self.item.ready):
                        m.next = "TABLE_END"
                with m.Elif(table_room >= chunk):
                    m.d.comb += self.table_request.valid.eq(1)
                    with m.If(self.table_request.ready):
                        m.d.comb += table_taken.eq(chunk)
                        m.next = "TABLE_ITEM"
            with m.State("TABLE_ITEM"):
                m.d.comb += [
                    chunk.eq(Mux(table_left > _TABLE_CHUNK, _TABLE_CHUNK, table_left)),
                    item.id.eq(table_id),
                    item.last.eq(table_left <= _TABLE_CHUNK),
                    item.table.eq(chunk),
                    self.item.valid.eq(1),
                ]
                with m.If(self.item.ready):
                    m.d.sync += [
                        table_left.eq(table_left - chunk),
                        table_address.eq(table_address + (_TABLE_CHUNK << 4)),
                    ]
                    m.next = "TABLE"
                    with m.If(item.last):
                        m.next = "TABLE_END"
            with m.State("TABLE_END"):
                take_next(ends_buffer=Const(1))
            with m.State("STORE"):
                # Also in mid-chain: the store may need the room before the chain can end.
                m.d.comb += self.take_en.eq(1)
                with m.If(owed):
                    m.next = "REARM"
                with m.Else():
                    after_store()
                    if self.pull:
                        m.d.comb += begin.eq(~chained & (buffers_left == 0) & ~same)
                        with m.If(begin & self.request.valid):
                            m.next = "LOOK"
            with m.State("REARM"):
                m.d.comb += self.rearm.valid.eq(1)
                with m.If(self.rearm.ready):
                    m.d.sync += owed.eq(0)
                    after_store()
            if not self.pull:
                with m.State("FINISH"):
                    m.d.comb += self.result.valid.eq(1)
                    with m.If(self.result.ready):
                        m.next = "IDLE"
        m.d.comb += self.request.ready.eq(begin | same)
        with m.If(begin):
            m.d.sync += [
                buffers_left.eq(self.request.payload.buffers),
                slots.eq(0),
                chained.eq(0),
                owed.eq(0),
                queue.eq(self.request.payload.queue),
            ]
            with m.If(self.request.valid):
                m.d.comb += [
                    self.walk_queue.eq(self.request.payload.queue),
                    self.lookup.queue.eq(self.request.payload.queue),
                ]
        if self.pull:
            m.d.comb += [
                same.eq(
                    ~fsm.ongoing("IDLE") & (self.request.payload.queue == queue) & ~buffers_left[-1]
                ),
                joined.eq(self.request.valid & same),
            ]
        return m
