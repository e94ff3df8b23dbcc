"""Takes descriptors out of the read-ahead store, chain by chain."""

from amaranth.hdl import Const, Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..types.dma import ReadRequest
from ..types.virtqueue import Descriptor, QueueLookup
from .ring_item import RingItem
from .service import BurstRequest, BurstResult
from .walk_requests import WalkRequests
from .walk_table import WalkTable
from .walk_wait import WalkWait

__all__ = ["WalkRing"]


class WalkRing(wiring.Component):
    """Walks the ring side of chains; one descriptor a cycle within a chain or a burst.

    A pull path takes requests of one buffer each; those for the virtqueue that it is at join its
    burst. A request that comes while another is served waits here, so that going to another
    virtqueue costs two cycles. With several virtqueues ``WalkWait`` ends the waiting for a buffer
    that does not come.

    ``WalkTable`` asks for indirect tables, as soon as the ring descriptor is seen and while
    earlier tables are still on their way. An indirect descriptor ends its chain.

    Rules checked, besides those of ``WalkTable``: a chain takes no more slots than the virtqueue
    has [virtio 1.4 §2.7.5, §2.8.8]; no indirect descriptor where ``indirect`` is off.

    Parameters and ports as of ``Walk``; ``table_freed`` is the number of table descriptors that
    were used in this cycle (0 or 1). ``resting``: while ``pause`` is high nothing is inside here,
    a register. Latency from ``request`` to the first ``item`` two cycles; ``result`` and
    ``rearm`` are registers.
    """

    def __init__(
        self,
        queues: int,
        paths: int,
        batch: int,
        depth: int,
        pull: bool,
        wait_cycles: int,
        *,
        rings: tuple[str, ...] = ("packed",),
        indirect: bool = True,
    ):
        self.rings = rings
        self.indirect = indirect
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
                "packed": In(1),
                "pause": In(1),
                "resting": Out(1),
                "forget": In(1),
                "forget_queue": In(range(max(queues // paths, 2))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        queue = Signal(16)
        buffers_left = Signal(6)
        committed = Signal(self.pointer_bits)
        taken = Signal(self.pointer_bits)
        next_pointer = Signal(self.pointer_bits)  # behind taken
        size = Signal(16)
        slots = Signal(16)
        chained = Signal()
        # Room that was given back and not yet told to the scheduler.
        owed = Signal()

        descriptor, item = self.descriptor, self.item.payload
        advance = Signal()
        exhausted = Signal()  # taken is committed
        m.submodules.requests = requests = WalkRequests(self.pull)
        wiring.connect(m, wiring.flipped(self.request), requests.request)
        begin, joins = requests.begin, requests.joins
        walked = Mux(begin, requests.chosen.queue, queue)
        m.d.comb += [
            self.walk_queue.eq(walked),
            self.lookup.queue.eq(walked),
            self.read_queue.eq(queue),
            self.read_pointer.eq(Mux(advance, next_pointer, taken)),
            self.take_queue.eq(queue),
            self.take_pointer.eq(taken),
            item.queue.eq(queue),
            # Never more than the ring has, also for a chain that breaks that rule.
            item.slots.eq(Mux(slots < size, slots + 1, size)),
            requests.queue.eq(queue),
            requests.full.eq(buffers_left[-1]),
        ]
        ends_store = next_pointer == committed
        batch_crossed = (next_pointer & (self.batch - 1)) == 0
        burst_over = (buffers_left == 0) & ~joins
        # No new buffer is begun; one that was is finished.
        stop = self.pause & ~chained
        if self.indirect:
            m.submodules.table = table = WalkTable(self.rings)
            wiring.connect(m, table.request, wiring.flipped(self.table_request))
            m.d.comb += [
                table.start.payload.address.eq(descriptor.address),
                table.start.payload.length.eq(descriptor.length),
                table.start.payload.follows.eq(chained),
                table.start.payload.next.eq(descriptor.next),
                table.packed.eq(self.packed),
                table.size.eq(size),
                table.freed.eq(self.table_freed),
            ]

        with m.If(self.rearm.ready):
            m.d.sync += self.rearm.valid.eq(0)
        if not self.pull:
            with m.If(self.result.ready):
                m.d.sync += self.result.valid.eq(0)
        with m.If(joins):
            m.d.sync += buffers_left.eq(buffers_left + 1)

        def end_buffer():
            m.d.sync += buffers_left.eq(Mux(joins, buffers_left, buffers_left - 1))

        def take_next(*, ends_buffer):
            """Leave this ring descriptor behind, and read the next one."""
            m.d.comb += advance.eq(1)
            m.d.sync += [
                taken.eq(next_pointer),
                next_pointer.eq(next_pointer + 1),
                exhausted.eq(ends_store),
                owed.eq(owed | batch_crossed),
            ]
            with m.If(ends_buffer):
                end_buffer()
                m.d.sync += [slots.eq(0), chained.eq(0)]
            with m.Else():
                m.d.sync += [slots.eq(Mux(slots < size, slots + 1, slots)), chained.eq(1)]
            ends_burst = ends_buffer & (buffers_left == 1) & ~joins
            with m.If(ends_burst | ends_store | batch_crossed):
                m.next = "STORE"
            with m.Else():
                m.next = "TAKE"

        def next_burst():
            with m.If(requests.waits):
                m.d.comb += begin.eq(1)
                m.next = "LOOK"
            with m.Else():
                m.next = "IDLE"

        if self.pull and self.several:
            m.submodules.wait = wait = WalkWait(self.queues // self.paths, self.wait_cycles)
            m.d.comb += [
                wait.queue.eq(walked // self.paths),
                wait.enabled.eq(self.lookup.config.enabled),
                wait.forget.eq(self.forget),
                wait.forget_queue.eq(self.forget_queue),
            ]

        with m.FSM(name="walk_ring") as fsm:
            with m.State("IDLE"):
                m.d.comb += begin.eq(1)
                with m.If(requests.some):
                    m.next = "LOOK"
            with m.State("LOOK"):
                m.d.sync += [
                    committed.eq(self.committed),
                    taken.eq(self.taken),
                    next_pointer.eq(self.taken + 1),
                    exhausted.eq(self.taken == self.committed),
                    size.eq(self.lookup.config.size),
                ]
                m.d.comb += self.read_pointer.eq(self.taken)
                with m.If((self.taken != self.committed) & ~stop):
                    m.next = "TAKE"
                # Else the rest of the chain, or the buffer asked for, is still to come: look again.
                if self.pull and self.several:
                    m.d.comb += [
                        wait.found.eq((self.taken != self.committed) & ~stop),
                        # The time of a pause does not count.
                        wait.waiting.eq((self.taken == self.committed) & ~chained & ~self.pause),
                    ]
                    with m.If(wait.give_up):
                        m.next = "ABSENT"
                if not self.pull:
                    with m.Elif(~chained & ~self.pause):
                        m.next = "STORE"
            too_long = slots >= size
            with m.State("TAKE"):
                m.d.comb += [
                    item.address.eq(descriptor.address),
                    item.length.eq(descriptor.length),
                    item.writable.eq(descriptor.write),
                    item.last.eq(~descriptor.next),
                    item.id.eq(descriptor.id),
                    item.error.eq(too_long if self.indirect else too_long | descriptor.indirect),
                ]
                with m.If(stop):
                    m.next = "STORE"
                if self.indirect:
                    with m.Elif(descriptor.indirect):
                        m.d.comb += table.start.valid.eq(1)
                        m.next = "TABLE"
                with m.Else():
                    m.d.comb += self.item.valid.eq(1)
                    with m.If(self.item.ready):
                        take_next(ends_buffer=~descriptor.next)
            if self.indirect:
                with m.State("TABLE"):
                    # The store goes on showing the indirect descriptor.
                    m.d.comb += [
                        item.id.eq(descriptor.id),
                        item.table.eq(~table.chunk.payload.bad),
                        item.error.eq(table.chunk.payload.bad),
                        item.last.eq(table.chunk.payload.last),
                        self.item.valid.eq(table.chunk.valid),
                        table.chunk.ready.eq(self.item.ready),
                    ]
                    if "split" in self.rings:
                        m.d.comb += item.error.eq(table.chunk.payload.bad | too_long)
                        with m.If(item.table):
                            m.d.comb += item.address.eq(descriptor.address)
                            m.d.comb += item.length.eq(descriptor.length)
                    with m.If(self.item.valid & self.item.ready & item.last):
                        take_next(ends_buffer=Const(1))
            if self.pull and self.several:
                with m.State("ABSENT"):
                    m.d.comb += [
                        self.item.valid.eq(1),
                        item.absent.eq(1),
                        item.last.eq(1),
                        item.slots.eq(0),
                    ]
                    m.d.comb += wait.waiting.eq((self.taken == self.committed) & ~self.pause)
                    with m.If(self.item.ready):
                        end_buffer()
                        with m.If((buffers_left == 1) & ~joins):
                            m.next = "STORE"
                        with m.Elif(~wait.give_up):
                            m.next = "LOOK"
            with m.State("STORE"):
                # Also in mid-chain: the store may need the room before the chain can end.
                m.d.comb += self.take_en.eq(1)
                with m.If(~self.result.valid):
                    m.d.sync += [
                        self.result.payload.queue.eq(queue),
                        self.result.payload.exhausted.eq(exhausted),
                    ]
                with m.If(~(owed & self.rearm.valid)):
                    with m.If(owed):
                        m.d.sync += [self.rearm.valid.eq(1), self.rearm.payload.eq(queue)]
                    m.d.sync += owed.eq(0)
                    if self.pull:
                        with m.If(~chained & burst_over):
                            next_burst()
                    else:
                        with m.If(~chained & (burst_over | exhausted)):
                            with m.If(~self.result.valid):
                                m.d.sync += self.result.valid.eq(1)
                                next_burst()
                    with m.Elif(exhausted | stop):
                        m.next = "LOOK"
                    with m.Else():
                        m.next = "TAKE"
        m.d.sync += self.resting.eq(stop & (fsm.ongoing("IDLE") | fsm.ongoing("LOOK")))
        m.d.comb += requests.serving.eq(~fsm.ongoing("IDLE"))
        with m.If(begin):
            m.d.sync += [
                queue.eq(requests.chosen.queue),
                buffers_left.eq(requests.chosen.buffers),
                slots.eq(0),
                chained.eq(0),
                owed.eq(0),
            ]
        return m
