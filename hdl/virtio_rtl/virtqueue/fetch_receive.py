"""Takes descriptors that were fetched, keeps those that are available: hop 3, second half."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..lib.sweep import ResetSweep
from ..types.packet import packet_stream
from ..types.virtqueue import Descriptor, FetchTicket, QueueLookup
from .descriptor_stream import DescriptorStream
from .fetch_issue import receive_state

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
    order; else it is read again. [virtio 1.4 §2.8.6]

    Only whole chains are committed to the walker, unless a chain is about to fill the store.

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
    lookup : ``QueueLookup``
    issue_queue -> issue_state : receive state for ``FetchIssue``, one cycle latency
    rearm : stream of 16 bits, to the scheduler
    committed : stream of 16 bits
        A virtqueue got descriptors for its walker.
    write_en, write_queue, write_pointer, write_descriptor, commit_en, commit_pointer
        To the read-ahead store of the path ``queue mod paths``; ``write_queue`` is the virtqueue.
    failed : 1
        A fetch failed on the bus; what it brought is dropped.

    One descriptor a cycle and five cycles a fetch.
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
            }
        )

    def elaborate(self, platform):
        m = Module()
        layout = receive_state(self.pointer_bits)
        m.submodules.states = states = Memory(shape=layout, depth=self.queues, init=[])
        m.submodules.sweep = sweep = ResetSweep(self.queues)
        m.submodules.descriptors = descriptors = DescriptorStream(self.width)
        states_write = states.write_port()
        own_read = states.read_port(transparent_for=[states_write])
        issue_read = states.read_port(transparent_for=[states_write])
        wiring.connect(m, wiring.flipped(self.packet), descriptors.packet)

        ticket = self.ticket.payload
        m.d.comb += [
            issue_read.addr.eq(self.issue_queue),
            self.issue_state.eq(issue_read.data),
            own_read.addr.eq(ticket.queue),
            self.lookup.queue.eq(ticket.queue),
        ]

        state = data.View(layout, Signal(layout))
        size = Signal(16)
        queue = Signal(16)
        speculative = Signal()
        wanted = Signal()
        # Progress within this fetch.
        good = Signal(range(self.batch + 1))
        ended = Signal()
        heads = Signal()
        open_now = Signal()
        chain_end = Signal(range(self.batch + 1))
        received_error = Signal()
        # Place of the fetch's first descriptor in its cache line of four.
        first_in_line = Signal(2)
        in_first_line = (first_in_line + good) < 4

        beat = descriptors.output.payload
        descriptor = beat.descriptor
        driver_wrap = ~state.wrapped
        available = (descriptor.avail == driver_wrap) & (descriptor.used != driver_wrap)

        m.d.comb += [
            self.write_queue.eq(queue),
            self.write_pointer.eq(state.pointer + good),
            self.write_descriptor.address.eq(descriptor.address),
            self.write_descriptor.length.eq(descriptor.length),
            self.write_descriptor.id.eq(descriptor.id),
            self.write_descriptor.next.eq(descriptor.next),
            self.write_descriptor.write.eq(descriptor.write),
            self.write_descriptor.indirect.eq(descriptor.indirect),
            self.rearm.payload.eq(queue),
            self.committed.payload.eq(queue),
        ]

        result = data.View(layout, Signal(layout))
        new_pointer = Signal(self.pointer_bits)
        new_index = Signal(16)
        stale = Signal()
        kept = Signal.like(good)
        full = Signal()
        # The part of a chain that a speculative fetch brought is believed only with a later head.
        m.d.comb += [
            stale.eq(speculative & state.chain_open & ~heads),
            kept.eq(Mux(stale, 0, good)),
            full.eq(~ended & ~stale),
            new_pointer.eq(state.pointer + kept),
            new_index.eq(state.index + kept),
            result.eq(state),
            result.pointer.eq(new_pointer),
            result.index.eq(new_index),
            # A stale fetch is simply read again.
            result.more.eq((full | stale) & ~received_error),
        ]
        with m.If(new_index == size):
            m.d.comb += [result.index.eq(0), result.wrapped.eq(~state.wrapped)]
        with m.If(~stale):
            m.d.comb += result.chain_open.eq(open_now)
        with m.If(full):
            m.d.comb += result.streak.eq(Mux(state.streak == 3, 3, state.streak + 1))
        with m.Else():
            m.d.comb += [result.epoch.eq(~state.epoch), result.streak.eq(state.streak >> 1)]
        uncommitted = Signal(self.pointer_bits)
        crowded = Signal()
        m.d.comb += [
            uncommitted.eq(new_pointer - state.committed),
            crowded.eq(uncommitted > self.depth - 2 * self.batch),
        ]
        with m.If(crowded):
            m.d.comb += result.committed.eq(new_pointer)
        with m.Elif(~stale & (chain_end != 0)):
            m.d.comb += result.committed.eq(state.pointer + chain_end)

        commits = Signal()
        m.d.comb += commits.eq(result.committed != state.committed)

        with m.FSM(name="fetch_receive"):
            with m.State("IDLE"):
                with m.If(self.ticket.valid & ~sweep.busy):
                    m.next = "LOAD"
            with m.State("LOAD"):
                m.d.sync += [
                    state.eq(own_read.data),
                    size.eq(self.lookup.config.size),
                    queue.eq(ticket.queue),
                    speculative.eq(ticket.speculative),
                    first_in_line.eq(
                        self.lookup.config.descriptor_area[4:6] + own_read.data.index[:2]
                    ),
                    wanted.eq(ticket.epoch == own_read.data.epoch),
                    good.eq(0),
                    ended.eq(0),
                    heads.eq(0),
                    open_now.eq(own_read.data.chain_open),
                    chain_end.eq(0),
                    received_error.eq(0),
                ]
                m.d.comb += self.ticket.ready.eq(1)
                m.next = "TAKE"
            with m.State("TAKE"):
                m.d.comb += descriptors.output.ready.eq(1)
                with m.If(descriptors.output.valid):
                    with m.If(wanted & available & ~ended):
                        m.d.comb += self.write_en.eq(1)
                        m.d.sync += [good.eq(good + 1), open_now.eq(descriptor.next)]
                        with m.If(~open_now & in_first_line):
                            m.d.sync += heads.eq(1)
                        with m.If(~descriptor.next):
                            m.d.sync += chain_end.eq(good + 1)
                    with m.Else():
                        m.d.sync += ended.eq(1)
                    with m.If(beat.last):
                        m.d.sync += received_error.eq(beat.error)
                        with m.If(beat.error):
                            # Nothing of it can be believed.
                            m.d.sync += [
                                ended.eq(1),
                                good.eq(0),
                                chain_end.eq(0),
                                open_now.eq(state.chain_open),
                            ]
                        m.next = "SETTLE"
            with m.State("SETTLE"):
                m.d.comb += [
                    states_write.en.eq(wanted),
                    self.commit_en.eq(wanted & commits),
                    self.failed.eq(wanted & received_error),
                ]
                m.next = "IDLE"
                with m.If(wanted & commits):
                    m.next = "ANNOUNCE"
                with m.Elif(wanted & ~received_error):
                    m.next = "REARM"
            with m.State("ANNOUNCE"):
                m.d.comb += self.committed.valid.eq(1)
                with m.If(self.committed.ready):
                    m.next = "REARM"
            with m.State("REARM"):
                m.d.comb += self.rearm.valid.eq(1)
                with m.If(self.rearm.ready):
                    m.next = "IDLE"

        m.d.comb += [
            self.commit_pointer.eq(result.committed),
            states_write.addr.eq(queue),
            states_write.data.eq(result),
        ]
        with m.If(sweep.busy):
            m.d.comb += [
                states_write.addr.eq(sweep.address),
                states_write.data.eq(0),
                states_write.en.eq(1),
            ]
        return m
