"""Decides what to read of a split virtqueue's available ring, and issues the reads."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..types.dma import ReadRequest
from ..types.virtqueue import QueueLookup, SuppressionUpdate, WorkItem
from .split_ask import SplitAsk
from .split_notify import SplitNotify
from .split_records import BLOCK, available_state, issue_state, resolve_state, ring_read
from .split_states import SplitStates

__all__ = ["SplitIssue"]


class SplitIssue(wiring.Component):
    """Looks at one virtqueue at a time. [virtio 1.4 §2.7.6, §2.7.13]

    A look reads, if there is reason to, ``avail.idx``, and one piece of the available ring: up to
    16 heads that are known to be available, up to the next multiple of 32 bytes. ``avail.idx`` is
    read after a doorbell; in a flood, while the driver need not notify, once per round trip.
    One such read is in flight per virtqueue, and any number of pieces.

    Heads in flight count as descriptors of the read-ahead store, by the length that the
    virtqueue's chains had lately. The last place in the store is kept for the end of a chain that
    broke a rule.

    ``SplitNotify`` decides what to publish for the driver. When ``avail.idx`` is further ahead
    than the virtqueue is long, the driver has broken a rule: no more buffers are taken until a
    reset; only a chain that has begun still comes to its end, for the walker may be waiting in it.

    Parameters
    ----------
    queues, paths
        Virtqueues, and paths among which they alternate (path = queue mod paths).
    depth
        Descriptors per virtqueue in the read-ahead store.
    event_idx
        EVENT_IDX is built.

    Ports
    -----
    work : stream of ``WorkItem``, from the scheduler
    rearm : stream of 16 bits, to the scheduler
    lookup : ``QueueLookup``
    state_queue -> state, available : what the later stages know, one cycle latency
    taken_queue -> taken_{path} : pointer of the walker, one cycle latency
    event_idx : 1
        EVENT_IDX was negotiated.
    request : stream of ``ReadRequest``
    read : stream of ``ring_read``
        For each request, in the same order; between them, without a request, rests of chains.
    suppression : stream of ``SuppressionUpdate``
    failed : 1
        Strobe: ``avail.idx`` was impossible.
    forget, forget_queue
        Strobe: forget everything about one virtqueue, of which nothing is in flight.
    idle : 1
        No look is going on.

    Six to eight cycles a look; the reads overlap. From ``work`` to ``request`` three cycles for
    the index, five for heads.
    """

    def __init__(self, queues: int, paths: int, depth: int, *, event_idx: bool = True):
        self.queues = queues
        self.paths = paths
        self.depth = depth
        self.with_event_idx = event_idx
        self.pointer_bits = (2 * depth - 1).bit_length()
        super().__init__(
            {
                "work": In(stream.Signature(WorkItem)),
                "rearm": Out(stream.Signature(unsigned(16))),
                "lookup": Out(QueueLookup()),
                "state_queue": Out(16),
                "state": In(resolve_state(self.pointer_bits)),
                "available": In(available_state()),
                "taken_queue": Out(16),
                "event_idx": In(1),
                "request": Out(stream.Signature(ReadRequest)),
                "read": Out(stream.Signature(ring_read(self.pointer_bits))),
                "suppression": Out(stream.Signature(SuppressionUpdate)),
                "failed": Out(1),
                "forget": In(1),
                "forget_queue": In(16),
                "idle": Out(1),
            }
            | {f"taken_{path}": In(self.pointer_bits) for path in range(paths)}
        )

    def elaborate(self, platform):
        m = Module()
        own_layout = issue_state()
        m.submodules.own = own = SplitStates(own_layout, self.queues)
        m.submodules.notify = notify = SplitNotify(self.queues, event_idx=self.with_event_idx)
        state = self.state
        config = self.lookup.config

        queue = Signal(16)
        rung = Signal()
        present = Signal(16)
        m.d.comb += [
            present.eq(Mux(self.work.ready, self.work.payload.queue, queue)),
            self.lookup.queue.eq(present),
            self.state_queue.eq(present),
            self.taken_queue.eq(present),
            own.read_queue.eq(present),
            notify.queue.eq(present),
        ]
        taken = Signal(self.pointer_bits)
        with m.Switch(queue % self.paths if self.paths > 1 else 0):
            for path in range(self.paths):
                with m.Case(path):
                    m.d.comb += taken.eq(getattr(self, f"taken_{path}"))

        # Looked up in one cycle, measured in the second, counted, then decided.
        base = Signal(own_layout)
        seen = Signal(available_state())
        rest = Signal(resolve_state(self.pointer_bits))
        limit = Signal(self.pointer_bits)
        room = Signal(self.pointer_bits)
        size = Signal(16)
        enabled = Signal()
        driver_area = Signal(64)
        device_area = Signal(64)
        # Measured.
        ahead = Signal(16)  # available and not asked for
        unbegun = Signal(16)  # available, and the chain has not begun
        in_flight = Signal(self.pointer_bits)
        fits = Signal(self.pointer_bits)
        to_end = Signal(range(BLOCK + 1))
        then = Signal(own_layout)
        count = Signal(range(BLOCK + 1))
        goes_on = Signal()
        m.submodules.ask = ask = SplitAsk(self.pointer_bits)
        wiring.connect(m, ask.request, wiring.flipped(self.request))
        wiring.connect(m, ask.read, wiring.flipped(self.read))
        asked_index = Signal()

        start = data.View(own_layout, Signal(own_layout))
        m.d.comb += start.eq(own.read_data)
        with m.If(own.read_data.epoch != state.epoch):
            m.d.comb += [
                start.position.eq(state.position),
                start.epoch.eq(state.epoch),
                start.chained.eq(state.chained),
            ]
        slot = Signal(15)
        place = Signal(4)  # of the slot in its 32 bytes
        to_ring_end = Signal(16)
        m.d.comb += [
            slot.eq(base.position & (size - 1)),
            place.eq(driver_area[1:5] + 2 + slot),
            to_ring_end.eq(size - slot),
        ]

        doorbell = base.doorbell | rung
        index_busy = base.asked != seen.answered
        reads_index = Signal()
        m.d.comb += [
            notify.position.eq(base.position),
            notify.event_idx.eq(self.event_idx),
            reads_index.eq(
                ~index_busy & ~base.halted & (doorbell | (notify.quiet & (seen.found | base.moved)))
            ),
        ]

        # Counted.
        most = Signal(range(BLOCK + 1))
        free_heads = Signal(self.pointer_bits)
        alone = Signal()
        continues = Signal()
        broken = Signal()
        heads = Signal(range(BLOCK + 1))
        known_heads = Mux(ahead[4:].any(), BLOCK, ahead[:4])
        m.d.comb += [
            # Whole pieces, while there is something in flight that will lead to another look.
            heads.eq(Mux(free_heads >= most, most, Mux(alone, free_heads, 0))),
        ]
        fetches = ~continues & ~broken & ~base.halted & (heads != 0)
        read = ask.read_as
        m.d.comb += [
            self.rearm.payload.eq(queue),
            notify.device_area.eq(device_area),
            notify.size.eq(size),
            notify.flood.eq((seen.streak == 3) & (ahead != 0)),
            notify.dry.eq(
                ~base.halted
                & (ahead == 0)
                & ~then.doorbell
                & ~index_busy
                & ~asked_index
                & ~continues
            ),
            ask.driver_area.eq(driver_area),
            ask.slot.eq(slot),
            ask.count.eq(count),
            read.queue.eq(queue),
            read.epoch.eq(base.epoch),
            read.limit.eq(limit),
            read.estimate.eq(rest.estimate),
            read.place.eq(rest.place),
        ]

        m.d.sync += self.failed.eq(0)
        m.d.comb += [
            own.forget.eq(self.forget),
            own.forget_queue.eq(self.forget_queue),
            notify.forget.eq(self.forget),
            notify.forget_queue.eq(self.forget_queue),
        ]
        wiring.connect(m, notify.suppression, wiring.flipped(self.suppression))
        with m.FSM(name="split_issue") as fsm:
            with m.State("IDLE"):
                m.d.comb += self.work.ready.eq(~own.busy)
                m.d.sync += [
                    queue.eq(self.work.payload.queue),
                    rung.eq(self.work.payload.doorbell),
                ]
                with m.If(self.work.valid & ~own.busy):
                    m.next = "LOOK"
            with m.State("LOOK"):
                m.d.comb += notify.look.eq(1)
                m.d.sync += [
                    base.eq(start),
                    seen.eq(self.available),
                    rest.eq(state),
                    limit.eq(taken + self.depth - 1),
                    room.eq(self.depth - 1 - (state.pointer - taken)[: self.pointer_bits]),
                    size.eq(config.size),
                    enabled.eq(config.enabled & ~state.halted),
                    driver_area.eq(config.driver_area),
                    device_area.eq(config.device_area),
                ]
                m.next = "MEASURE"
            with m.State("MEASURE"):
                m.d.sync += [
                    ahead.eq(seen.known - base.position),
                    unbegun.eq(seen.known - rest.position),
                    in_flight.eq(base.position - rest.position),
                    fits.eq(room >> rest.estimate),
                    to_end.eq(Mux(to_ring_end < BLOCK - place, to_ring_end, BLOCK - place)),
                    then.eq(base),
                    then.doorbell.eq(doorbell & ~reads_index),
                    then.asked.eq(base.asked ^ reads_index),
                    then.moved.eq(base.moved & ~reads_index),
                    asked_index.eq(reads_index),
                ]
                m.d.comb += ask.index.eq(reads_index & enabled)
                m.next = "COUNT"
                with m.If(~enabled):
                    m.next = "IDLE"
            with m.State("COUNT"):
                m.d.sync += [
                    most.eq(Mux(known_heads < to_end, known_heads, to_end)),
                    free_heads.eq(Mux(fits > in_flight, fits - in_flight, 0)),
                    alone.eq(in_flight == 0),
                    broken.eq((ahead > size) | (unbegun > size)),
                    continues.eq(
                        rest.open & (in_flight == 0) & (base.chained == rest.chained) & (room != 0)
                    ),
                ]
                m.next = "DECIDE"
            with m.State("DECIDE"):
                m.d.comb += [
                    notify.decide.eq(1),
                    ask.heads.eq(fetches),
                    ask.chain.eq(continues),
                ]
                m.d.sync += [
                    count.eq(heads),
                    goes_on.eq((fetches | continues) & (ahead != Mux(fetches, heads, 0))),
                    self.failed.eq(broken & ~base.halted),
                    then.halted.eq(broken | base.halted),
                    then.moved.eq(then.moved | fetches),
                    then.chained.eq(base.chained ^ continues),
                ]
                with m.If(fetches):
                    m.d.sync += then.position.eq(base.position + heads)
                m.next = "ACT"
            with m.State("ACT"):
                with m.If(ask.done & notify.done):
                    m.d.comb += own.write_en.eq(1)
                    m.next = "IDLE"
                    with m.If(goes_on):
                        m.next = "REARM"
            with m.State("REARM"):
                m.d.comb += self.rearm.valid.eq(1)
                with m.If(self.rearm.ready):
                    m.next = "IDLE"

        m.d.comb += [
            self.idle.eq(fsm.ongoing("IDLE") & ~own.busy),
            own.queue.eq(queue),
            own.write_data.eq(then),
        ]
        return m
