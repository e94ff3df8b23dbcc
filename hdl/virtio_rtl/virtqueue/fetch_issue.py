"""Decides which descriptors to fetch, and issues the reads: hop 3, first half."""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..lib.sweep import ResetSweep
from ..types.dma import ReadRequest
from ..types.virtqueue import FetchTicket, QueueLookup, SuppressionUpdate, WorkItem
from .fetch_state import receive_state
from .suppression import EventFlags

__all__ = ["FetchIssue"]


class FetchIssue(wiring.Component):
    """Looks at one virtqueue at a time and issues at most one descriptor read for it.

    A first look reads one batch. While every batch comes back full, the number of batches in
    flight doubles, up to eight, the read-ahead store or one lap of the ring: a lone buffer costs
    one read, a flood keeps the round trip covered. A fetch ends at a multiple of the batch, so
    that reads stay aligned.

    A driver that keeps few buffers in flight makes slots available only as others are used. A
    fetch further ahead than that finds nothing, and what is available meanwhile waits until all of
    them are back. So each one halves the most that may be in flight, down to two batches; 32 full
    batches in a row double it again.

    Before a virtqueue goes idle, the device enables notifications again and looks once more
    [virtio 1.4 §2.8.10]; it disables them only in a flood.

    Parameters
    ----------
    queues, paths
        Virtqueues, and paths among which they alternate (path = queue mod paths).
    batch
        Descriptors per fetch, a power of two up to 16.
    depth
        Descriptors per virtqueue in the read-ahead store.

    Ports
    -----
    work : stream of ``WorkItem``, from the scheduler
    rearm : stream of 16 bits, to the scheduler
    lookup : ``QueueLookup``
    state_queue -> state : what ``FetchReceive`` knows, one cycle latency
    taken_queue -> taken_{path} : pointer of the walker, one cycle latency
    short_reads : 1
        MRRS is 128 bytes: no more than 8 descriptors a read.
    request : stream of ``ReadRequest``
    ticket : stream of ``FetchTicket``, one per request, in the same order
    suppression : stream of ``SuppressionUpdate``
    forget, forget_queue
        Strobe: forget everything about one virtqueue, of which nothing is in flight.
    idle : 1
        No look is going on.

    Five to six cycles a look; the reads overlap. From ``work`` to ``request`` three cycles.
    """

    def __init__(self, queues: int, paths: int, batch: int, depth: int):
        self.queues = queues
        self.paths = paths
        self.batch = batch
        self.depth = depth
        self.pointer_bits = (2 * depth - 1).bit_length()
        super().__init__(
            {
                "work": In(stream.Signature(WorkItem)),
                "rearm": Out(stream.Signature(unsigned(16))),
                "lookup": Out(QueueLookup()),
                "state_queue": Out(16),
                "state": In(receive_state(self.pointer_bits)),
                "taken_queue": Out(16),
                "short_reads": In(1),
                "request": Out(stream.Signature(ReadRequest)),
                "ticket": Out(stream.Signature(FetchTicket)),
                "suppression": Out(stream.Signature(SuppressionUpdate)),
                "forget": In(1),
                "forget_queue": In(16),
                "idle": Out(1),
            }
            | {f"taken_{path}": In(self.pointer_bits) for path in range(paths)}
        )

    def elaborate(self, platform):
        m = Module()
        own_layout = data.StructLayout(
            {
                "index": 15,
                "wrapped": 1,
                "pointer": self.pointer_bits,
                "epoch": 1,
                "doorbell": 1,
                "quiet": 1,
            }
        )
        m.submodules.own = own = Memory(shape=own_layout, depth=self.queues, init=[])
        m.submodules.sweep = sweep = ResetSweep(self.queues)
        own_read = own.read_port()
        own_write = own.write_port()

        queue = Signal(16)
        rung = Signal()
        # Looked up in one cycle, decided in the next, acted upon in the third.
        base = Signal(own_layout)
        in_flight = Signal(self.pointer_bits)
        count = Signal(range(self.batch + 1))
        more = Signal()
        streak = Signal(2)
        doublings = Signal(2)
        room = Signal(self.pointer_bits + 1)
        size = Signal(16)
        enabled = Signal()
        descriptor_area = Signal(64)
        device_area = Signal(64)

        present = Signal(16)
        m.d.comb += [
            present.eq(Mux(self.work.ready, self.work.payload.queue, queue)),
            self.lookup.queue.eq(present),
            self.state_queue.eq(present),
            self.taken_queue.eq(present),
            own_read.addr.eq(present),
        ]
        taken = Signal(self.pointer_bits)
        with m.Switch(queue % self.paths if self.paths > 1 else 0):
            for path in range(self.paths):
                with m.Case(path):
                    m.d.comb += taken.eq(getattr(self, f"taken_{path}"))

        widest = 3 - self.state.narrow
        config = self.lookup.config
        start = data.View(own_layout, Signal(own_layout))
        m.d.comb += start.eq(own_read.data)
        with m.If(own_read.data.epoch != self.state.epoch):
            m.d.comb += [
                start.index.eq(self.state.index),
                start.wrapped.eq(self.state.wrapped),
                start.pointer.eq(self.state.pointer),
                start.epoch.eq(self.state.epoch),
            ]
        # A fetch is one read of the host: it ends where MRRS or a page could cut it.
        in_batch = (config.descriptor_area[4:8] + start.index)[:4] & (self.batch - 1)
        to_batch_end = Signal(range(self.batch + 1))
        m.d.comb += to_batch_end.eq(self.batch - in_batch)
        if self.batch == 16:
            with m.If(self.short_reads):
                m.d.comb += to_batch_end.eq(8 - in_batch[:3])
        to_ring_end = config.size - start.index

        idle = in_flight == 0
        fetch = Signal()
        fits = room >= count
        window = Signal(range(8 * self.batch + 1))
        m.d.comb += window.eq(self.batch << doublings)
        next_index = Signal(16)
        # No slot may be in flight for two laps: what it held two laps ago looks available.
        one_lap = (in_flight + count) <= size
        ahead = more & (in_flight < window) & one_lap
        m.d.comb += [
            next_index.eq(base.index + count),
            fetch.eq(fits & Mux(idle, base.doorbell | rung | more, ahead)),
        ]
        next_own = data.View(own_layout, Signal(own_layout))
        # What was decided.
        fetches = Signal()
        goes_quiet = Signal()
        ends_quiet = Signal()
        speculative = Signal()
        goes_on = Signal()
        own_then = data.View(own_layout, Signal(own_layout))
        m.d.comb += next_own.eq(base)
        with m.If(fetch):
            m.d.comb += [
                next_own.index.eq(next_index),
                next_own.pointer.eq(base.pointer + count),
                # A doorbell is spent only by a fetch that cannot be rewound to an earlier look.
                next_own.doorbell.eq((base.doorbell | rung) & ~idle),
            ]
            with m.If(next_index == size):
                m.d.comb += [next_own.index.eq(0), next_own.wrapped.eq(~base.wrapped)]
        with m.Else():
            m.d.comb += next_own.doorbell.eq(base.doorbell | rung)
        quiet_now = Signal()
        quiet_end = Signal()
        m.d.comb += [
            quiet_now.eq(fetch & more & (streak == 3) & ~base.quiet),
            quiet_end.eq(idle & ~more & ~base.doorbell & ~rung & base.quiet),
            next_own.quiet.eq((base.quiet | quiet_now) & ~quiet_end),
        ]

        request_sent = Signal()
        ticket_sent = Signal()
        suppression_sent = Signal()
        need_suppression = goes_quiet | ends_quiet

        m.d.comb += [
            self.request.payload.address.eq(descriptor_area + (base.index << 4)),
            self.request.payload.length.eq(count << 4),
            self.request.payload.last.eq(1),
            self.ticket.payload.queue.eq(queue),
            self.ticket.payload.count.eq(count),
            self.ticket.payload.epoch.eq(base.epoch),
            self.ticket.payload.speculative.eq(speculative),
            self.suppression.payload.queue.eq(queue),
            self.suppression.payload.address.eq(device_area),
            # le16 offset and wrap, then le16 flags.
            self.suppression.payload.data.eq(
                Mux(goes_quiet, EventFlags.DISABLE.value << 16, EventFlags.ENABLE.value << 16)
            ),
            self.suppression.payload.length.eq(4),
            self.suppression.payload.recheck.eq(ends_quiet),
            self.rearm.payload.eq(queue),
        ]
        m.d.comb += [sweep.clear.eq(self.forget), sweep.row.eq(self.forget_queue)]
        with m.FSM(name="fetch_issue") as fsm:
            with m.State("IDLE"):
                m.d.comb += self.work.ready.eq(~sweep.busy)
                m.d.sync += [
                    queue.eq(self.work.payload.queue),
                    rung.eq(self.work.payload.doorbell),
                ]
                with m.If(self.work.valid & ~sweep.busy):
                    m.next = "LOOK"
            with m.State("LOOK"):
                m.d.sync += [
                    base.eq(start),
                    in_flight.eq(start.pointer - self.state.pointer),
                    count.eq(Mux(to_ring_end < to_batch_end, to_ring_end, to_batch_end)),
                    more.eq(self.state.more),
                    streak.eq(self.state.streak),
                    doublings.eq(Mux(self.state.streak > widest, widest, self.state.streak)),
                    room.eq(self.depth - (start.pointer - taken)[: self.pointer_bits]),
                    size.eq(config.size),
                    enabled.eq(config.enabled & ~self.state.halted),
                    descriptor_area.eq(config.descriptor_area),
                    device_area.eq(config.device_area),
                    request_sent.eq(0),
                    ticket_sent.eq(0),
                    suppression_sent.eq(0),
                ]
                m.next = "DECIDE"
            with m.State("DECIDE"):
                m.d.sync += [
                    fetches.eq(fetch),
                    goes_quiet.eq(quiet_now),
                    ends_quiet.eq(quiet_end),
                    speculative.eq(~idle),
                    goes_on.eq(fetch & more),
                    own_then.eq(next_own),
                ]
                m.next = "ACT"
                with m.If(~enabled):
                    m.next = "IDLE"
            with m.State("ACT"):
                m.d.comb += [
                    self.request.valid.eq(fetches & ~request_sent),
                    self.ticket.valid.eq(fetches & ~ticket_sent),
                    self.suppression.valid.eq(need_suppression & ~suppression_sent),
                ]
                with m.If(self.request.valid & self.request.ready):
                    m.d.sync += request_sent.eq(1)
                with m.If(self.ticket.valid & self.ticket.ready):
                    m.d.sync += ticket_sent.eq(1)
                with m.If(self.suppression.valid & self.suppression.ready):
                    m.d.sync += suppression_sent.eq(1)
                done = Cat(
                    ~fetches | request_sent | self.request.ready,
                    ~fetches | ticket_sent | self.ticket.ready,
                    ~need_suppression | suppression_sent | self.suppression.ready,
                ).all()
                with m.If(done):
                    m.d.comb += own_write.en.eq(1)
                    m.next = "IDLE"
                    with m.If(goes_on):
                        m.next = "REARM"
            with m.State("REARM"):
                m.d.comb += self.rearm.valid.eq(1)
                with m.If(self.rearm.ready):
                    m.next = "IDLE"

        m.d.comb += self.idle.eq(fsm.ongoing("IDLE") & ~sweep.busy)
        m.d.comb += [own_write.addr.eq(queue), own_write.data.eq(own_then)]
        with m.If(sweep.busy):
            m.d.comb += [
                own_write.addr.eq(sweep.address),
                own_write.data.eq(0),
                own_write.en.eq(1),
            ]
        return m
