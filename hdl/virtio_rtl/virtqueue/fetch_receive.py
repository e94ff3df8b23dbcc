"""Takes descriptors that were fetched, keeps those that are available: hop 3, second half."""

from amaranth.hdl import Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..lib.sweep import ResetSweep
from ..types.dma import ReadRequest
from ..types.packet import packet_stream
from ..types.virtqueue import Descriptor, FetchTicket, QueueLookup
from .fetch_source import FetchSource
from .fetch_state import look_ahead, receive_state

__all__ = ["FetchReceive"]


class FetchReceive(wiring.Component):
    """Sorts fetched packed descriptors into available and not yet available.

    A descriptor is available when its AVAIL bit equals the driver's wrap counter and its USED
    bit does not [virtio 1.4 §2.8.1]. The first one that is not ends the fetch: everything behind
    it, fetches already in flight included, is thrown away and fetched again later.

    A driver writes the body of a chain before it makes the head available, in any order. Within
    a fetch the host samples cache lines in ascending order, so a body behind its head is newer. A
    speculative fetch may have been read before the fetch that holds the head: its part of that
    chain is trusted only if it ends in the fetch's first cache line and a later buffer in the
    same line, sampled in the same moment, is available, for the driver makes buffers available in
    order; else the fetch is read once more, while those behind it wait where they are.
    [virtio 1.4 §2.8.6]

    Only whole chains are committed to the walker, unless a chain is about to fill the store. A
    chain whose next descriptor is not available, although its head was when the fetch was issued,
    breaks a rule. It is ended with an indirect descriptor without a table, an error to the walker,
    and the virtqueue is not read any more. A failed read, after which nothing is read before a
    doorbell, does the same to a chain that the walker has begun. The id there is the last one read
    (a chain's own stands in its last descriptor [virtio 1.4 §2.8.6]); it takes a slot more.

    Parameters
    ----------
    width
        Bits of a packet beat.
    queues, paths, batch, depth
        As of ``FetchIssue``.

    Ports
    -----
    packet : packet_stream(width), from the read engine
    ticket : stream of ``FetchTicket``, in the order of the packets
    repair_request, repair_packet : another client of the read engine
        Fetches that must be read again.
    lookup : ``QueueLookup``
    issue_queue -> issue_state : receive state for ``FetchIssue``, one cycle latency
    rearm : stream of 16 bits, to the scheduler
    committed : stream of 16 bits
        A virtqueue got descriptors for its walker.
    write_en, write_queue, write_pointer, write_descriptor, commit_en, commit_pointer
        To the read-ahead store of the path ``queue mod paths``; ``write_queue`` is the virtqueue.
    failed : 1
        A fetch failed on the bus, what it brought is dropped; or a chain broke a rule.
    forget, forget_queue, idle
        As of ``FetchIssue``; idle when no fetch is being taken.

    One descriptor a cycle and five cycles a fetch; what lies behind the first descriptor that is
    not available is not waited for.
    """

    def __init__(self, width: int, queues: int, paths: int, batch: int, depth: int):
        self.width = width
        self.queues = queues
        self.paths = paths
        self.batch = batch
        self.depth = depth
        self.pointer_bits = (2 * depth - 1).bit_length()
        super().__init__(
            {
                "packet": In(packet_stream(width)),
                "ticket": In(stream.Signature(FetchTicket)),
                "repair_request": Out(stream.Signature(ReadRequest)),
                "repair_packet": In(packet_stream(width)),
                "lookup": Out(QueueLookup()),
                "issue_queue": In(16),
                "issue_state": Out(receive_state(self.pointer_bits)),
                "rearm": Out(stream.Signature(unsigned(16))),
                "committed": Out(stream.Signature(unsigned(16))),
                "write_en": Out(1),
                "write_queue": Out(16),
                "write_pointer": Out(self.pointer_bits),
                "write_descriptor": Out(Descriptor),
                "commit_en": Out(1),
                "commit_pointer": Out(self.pointer_bits),
                "failed": Out(1),
                "forget": In(1),
                "forget_queue": In(16),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        layout = receive_state(self.pointer_bits)
        m.submodules.states = states = Memory(shape=layout, depth=self.queues, init=[])
        m.submodules.sweep = sweep = ResetSweep(self.queues)
        m.submodules.source = source = FetchSource(self.width)
        wiring.connect(m, wiring.flipped(self.packet), source.packet)
        wiring.connect(m, wiring.flipped(self.repair_packet), source.repair_packet)
        states_write = states.write_port()
        own_read = states.read_port(transparent_for=[states_write])
        issue_read = states.read_port(transparent_for=[states_write])
        ticket = self.ticket.payload
        m.d.comb += [
            issue_read.addr.eq(self.issue_queue),
            self.issue_state.eq(issue_read.data),
            own_read.addr.eq(ticket.queue),
            self.lookup.queue.eq(ticket.queue),
        ]

        # What was known before this fetch.
        state = data.View(layout, Signal(layout))
        fetch = Signal(FetchTicket)
        last_slot = Signal(16)
        descriptor_area = Signal(64)
        wanted = Signal()
        first_in_line = Signal(2)  # place of the fetch's first descriptor in its cache line of four
        # Progress within this fetch.
        now = data.View(layout, Signal(layout))
        uncommitted = Signal(self.pointer_bits)
        good = Signal(range(self.batch + 1))
        ended = Signal()
        heads = Signal()
        ends_chain = Signal()
        received_error = Signal()
        broken = Signal()
        in_first_line = (first_in_line + good) < 4
        beat = source.output.payload
        descriptor = beat.descriptor
        driver_wrap = ~now.wrapped
        available = (descriptor.avail == driver_wrap) & (descriptor.used != driver_wrap)
        m.d.comb += [
            source.skip.eq(ended | ~wanted),
            self.write_queue.eq(fetch.queue),
            self.write_pointer.eq(now.pointer),
            *(
                getattr(self.write_descriptor, name).eq(getattr(descriptor, name))
                for name in ("address", "length", "id", "next", "write", "indirect")
            ),
            self.rearm.payload.eq(fetch.queue),
            self.committed.payload.eq(fetch.queue),
        ]

        # The part of a chain that a speculative fetch brought is believed only with a later head.
        stale = fetch.speculative & state.chain_open & ~heads & ~received_error
        # Its head was available before the fetch was issued.
        missing = ~fetch.speculative & state.chain_open & (good == 0)
        breaks = Mux(received_error, state.parted, missing) & ~broken
        crowded = uncommitted > self.depth - 2 * self.batch
        commits = ends_chain | crowded
        result = data.View(layout, Signal(layout))
        m.d.comb += [
            result.eq(now),
            result.committed.eq(Mux(crowded, now.pointer, now.committed)),
            result.parted.eq(now.parted | (crowded & now.chain_open)),
            # A chain that has begun must be there: if it is not, a second look makes sure.
            result.more.eq((~ended | now.chain_open) & ~received_error),
        ]
        look_ahead(m, state, result, full=~ended, ahead=fetch.speculative, empty=good == 0)
        with m.If(ended):
            m.d.comb += result.epoch.eq(~state.epoch)

        def restart(known, pointer_minus_committed):
            """Nothing of this fetch has been seen."""
            m.d.sync += [
                now.eq(known),
                uncommitted.eq(pointer_minus_committed),
                good.eq(0),
                ended.eq(0),
                heads.eq(0),
                ends_chain.eq(0),
                received_error.eq(0),
            ]

        def one_more(*, ends):
            """Another descriptor is in the store."""
            m.d.sync += [
                now.pointer.eq(now.pointer + 1),
                uncommitted.eq(uncommitted + 1),
                good.eq(good + 1),
                now.chain_open.eq(~ends),
            ]
            with m.If(ends):
                m.d.sync += [ends_chain.eq(1), now.parted.eq(0)]
                m.d.sync += now.committed.eq(now.pointer + 1)

        m.d.comb += [sweep.clear.eq(self.forget), sweep.row.eq(self.forget_queue)]
        with m.FSM(name="fetch_receive") as fsm:
            with m.State("IDLE"):
                with m.If(self.ticket.valid & ~sweep.busy & ~source.dropping):
                    m.next = "LOAD"
            with m.State("LOAD"):
                known = own_read.data
                m.d.sync += [
                    state.eq(known),
                    fetch.eq(ticket),
                    last_slot.eq(self.lookup.config.size - 1),
                    descriptor_area.eq(self.lookup.config.descriptor_area),
                    first_in_line.eq(self.lookup.config.descriptor_area[4:6] + known.index[:2]),
                    wanted.eq(ticket.epoch == known.epoch),
                    broken.eq(0),
                ]
                restart(known, known.pointer - known.committed)
                m.d.comb += self.ticket.ready.eq(1)
                m.next = "TAKE"
            with m.State("TAKE"):
                m.d.comb += source.output.ready.eq(1)
                with m.If(source.output.valid):
                    with m.If(wanted & available & ~ended):
                        m.d.comb += self.write_en.eq(1)
                        one_more(ends=~descriptor.next)
                        m.d.sync += [now.index.eq(now.index + 1), now.id.eq(descriptor.id)]
                        with m.If(now.index == last_slot):
                            m.d.sync += [now.index.eq(0), now.wrapped.eq(~now.wrapped)]
                        with m.If(~now.chain_open & in_first_line):
                            m.d.sync += heads.eq(1)
                    with m.Else():
                        m.d.sync += ended.eq(1)
                    useless = ~available | (stale & ~in_first_line)
                    with m.If(~beat.last & ~beat.error & wanted & useless):
                        # What follows is of no use.
                        m.d.comb += source.drop.eq(1)
                        m.next = "SETTLE"
                    with m.If(beat.last):
                        with m.If(beat.error):
                            # Nothing of it can be believed.
                            restart(state, state.pointer - state.committed)
                            m.d.sync += [ended.eq(1), received_error.eq(1)]
                        m.next = "SETTLE"
            with m.State("SETTLE"):
                with m.If(~wanted):
                    m.next = "IDLE"
                with m.Elif(stale):
                    m.next = "REPAIR"
                with m.Elif(breaks):
                    m.next = "BREAK"
                with m.Else():
                    m.d.comb += [
                        states_write.en.eq(1),
                        self.commit_en.eq(commits),
                        self.committed.valid.eq(commits),
                        self.failed.eq(received_error & ~broken),
                    ]
                    with m.If(commits & ~self.committed.ready):
                        m.next = "ANNOUNCE"
                    with m.Elif(received_error):
                        m.next = "IDLE"
                    with m.Else():
                        m.next = "REARM"
            with m.State("REPAIR"):
                m.d.comb += self.repair_request.valid.eq(1)
                with m.If(self.repair_request.ready):
                    m.next = "SWITCH"
            with m.State("SWITCH"):
                restart(state, state.pointer - state.committed)
                m.d.sync += fetch.speculative.eq(0)
                with m.If(~source.dropping):
                    m.d.comb += source.repair.eq(1)
                    m.next = "TAKE"
            with m.State("BREAK"):
                m.d.comb += [
                    self.write_en.eq(1),
                    self.write_descriptor.eq(Descriptor.const({"indirect": 1})),
                    self.write_descriptor.id.eq(now.id),
                    self.failed.eq(1),
                ]
                one_more(ends=Const(1))
                m.d.sync += [broken.eq(1), now.halted.eq(1)]
                m.next = "SETTLE"
            with m.State("ANNOUNCE"):
                m.d.comb += self.committed.valid.eq(1)
                with m.If(self.committed.ready):
                    m.next = "REARM"
            with m.State("REARM"):
                m.d.comb += self.rearm.valid.eq(1)
                with m.If(self.rearm.ready):
                    m.next = "IDLE"

        m.d.comb += [
            self.idle.eq(fsm.ongoing("IDLE") & ~sweep.busy & ~source.dropping),
            self.repair_request.payload.address.eq(descriptor_area + (state.index << 4)),
            self.repair_request.payload.length.eq(fetch.count << 4),
            self.repair_request.payload.last.eq(1),
            self.commit_pointer.eq(result.committed),
            states_write.addr.eq(fetch.queue),
            states_write.data.eq(result),
        ]
        with m.If(sweep.busy):
            m.d.comb += [states_write.addr.eq(sweep.address), states_write.data.eq(0)]
            m.d.comb += states_write.en.eq(1)
        return m
