"""Descriptor fetch of the packed virtqueue: hop 3."""

from amaranth.hdl import Module, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.stream import StreamFIFO
from ..types.dma import ReadRequest
from ..types.packet import packet_stream
from ..types.virtqueue import (
    Descriptor,
    FetchTicket,
    QueueLookup,
    SuppressionUpdate,
    WorkItem,
)
from .fetch_issue import FetchIssue
from .fetch_receive import FetchReceive

__all__ = ["PackedFetch"]


class PackedFetch(wiring.Component):
    """Keeps the read-ahead stores of all virtqueues filled. [virtio 1.4 §2.8]

    Wires ``FetchIssue`` and ``FetchReceive``; see there for what they do.

    Parameters
    ----------
    width
        Bits of a packet beat.
    queues, paths, batch, depth
        As of ``FetchIssue``.
    fetches
        Descriptor reads in flight.

    Ports
    -----
    work, rearm_0, rearm_1 : from and to the scheduler
    lookup_issue, lookup_receive : ``QueueLookup``
    read_request, read_packet : client of the read engine
    ring_request, ring_packet : another one, for fetches that must be read again
    suppression : stream of ``SuppressionUpdate``
    taken_queue -> taken_{path} : walkers' pointers
    short_reads : 1
        MRRS is 128 bytes.
    write_*, commit_* : to the read-ahead stores
    committed : stream of 16 bits
    failed : 1
    forget, forget_queue
        Strobe: forget everything about one virtqueue, of which nothing is in flight.
    idle : 1
        No look and no read is going on.
    """

    def __init__(
        self, width: int, queues: int, paths: int, batch: int, depth: int, fetches: int = 32
    ):
        self.width = width
        self.queues = queues
        self.paths = paths
        self.batch = batch
        self.depth = depth
        self.fetches = fetches
        pointer_bits = (2 * depth - 1).bit_length()
        super().__init__(
            {
                "work": In(stream.Signature(WorkItem)),
                "rearm_0": Out(stream.Signature(unsigned(16))),
                "rearm_1": Out(stream.Signature(unsigned(16))),
                "lookup_issue": Out(QueueLookup()),
                "lookup_receive": Out(QueueLookup()),
                "read_request": Out(stream.Signature(ReadRequest)),
                "read_packet": In(packet_stream(width)),
                "ring_request": Out(stream.Signature(ReadRequest)),
                "ring_packet": In(packet_stream(width)),
                "suppression": Out(stream.Signature(SuppressionUpdate)),
                "taken_queue": Out(16),
                "short_reads": In(1),
                "write_en": Out(1),
                "write_queue": Out(16),
                "write_pointer": Out(pointer_bits),
                "write_descriptor": Out(Descriptor),
                "commit_en": Out(1),
                "commit_pointer": Out(pointer_bits),
                "committed": Out(stream.Signature(unsigned(16))),
                "failed": Out(1),
                "forget": In(1),
                "forget_queue": In(16),
                "idle": Out(1),
            }
            | {f"taken_{path}": In(pointer_bits) for path in range(paths)}
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.issue = issue = FetchIssue(self.queues, self.paths, self.batch, self.depth)
        m.submodules.receive = receive = FetchReceive(
            self.width, self.queues, self.paths, self.batch, self.depth
        )
        m.submodules.tickets = tickets = StreamFIFO(FetchTicket, self.fetches)
        wiring.connect(m, issue.ticket, tickets.input)
        wiring.connect(m, tickets.output, receive.ticket)
        wiring.connect(m, wiring.flipped(self.work), issue.work)
        for ours, theirs in (
            (self.rearm_0, receive.rearm),
            (self.rearm_1, issue.rearm),
            (self.suppression, issue.suppression),
            (self.lookup_issue, issue.lookup),
            (self.lookup_receive, receive.lookup),
            (self.read_request, issue.request),
            (self.read_packet, receive.packet),
            (self.ring_request, receive.repair_request),
            (self.ring_packet, receive.repair_packet),
            (self.committed, receive.committed),
        ):
            wiring.connect(m, wiring.flipped(ours), theirs)
        m.d.comb += [
            receive.issue_queue.eq(issue.state_queue),
            issue.state.eq(receive.issue_state),
            self.taken_queue.eq(issue.taken_queue),
            issue.short_reads.eq(self.short_reads),
            self.write_en.eq(receive.write_en),
            self.write_queue.eq(receive.write_queue),
            self.write_pointer.eq(receive.write_pointer),
            self.write_descriptor.eq(receive.write_descriptor),
            self.commit_en.eq(receive.commit_en),
            self.commit_pointer.eq(receive.commit_pointer),
            self.failed.eq(receive.failed),
            self.idle.eq(issue.idle & ~tickets.output.valid & receive.idle),
        ]
        for half in (issue, receive):
            m.d.comb += [half.forget.eq(self.forget), half.forget_queue.eq(self.forget_queue)]
        m.d.comb += [
            getattr(issue, f"taken_{path}").eq(getattr(self, f"taken_{path}"))
            for path in range(self.paths)
        ]
        return m
