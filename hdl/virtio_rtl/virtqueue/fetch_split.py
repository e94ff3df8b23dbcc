"""Descriptor fetch of the split virtqueue: hop 3."""

from amaranth.hdl import Module, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.stream import StreamArbiter, StreamFIFO
from ..types.dma import ReadRequest
from ..types.packet import packet_stream
from ..types.virtqueue import Descriptor, QueueLookup, SuppressionUpdate, WorkItem
from .split_available import SplitAvailable
from .split_group import SplitGroup
from .split_issue import SplitIssue
from .split_records import ring_read, split_ticket
from .split_resolve import SplitResolve
from .split_window import SplitWindow

__all__ = ["SplitFetch"]


class SplitFetch(wiring.Component):
    """Keeps the read-ahead stores of all split virtqueues filled. [virtio 1.4 §2.7]

    Reads ``avail.idx``, then heads, then descriptors. Wires ``SplitIssue``, ``SplitAvailable``,
    ``SplitGroup``, ``SplitWindow`` and ``SplitResolve``; see there for what they do. All pass
    through in order, so that one bit tells what was asked for before a rewind.

    Parameters
    ----------
    width
        Bits of a packet beat.
    queues, paths
        Virtqueues, and paths among which they alternate (path = queue mod paths).
    batch
        Steps in which the walkers tell of room.
    depth
        Descriptors per virtqueue in the read-ahead store, at least two batches.
    event_idx
        EVENT_IDX is built.
    fetches
        Reads of descriptors in flight, and as many of available rings.

    Ports
    -----
    event_idx : 1
        EVENT_IDX was negotiated.
    The others as of ``Fetch``.
    """

    def __init__(
        self,
        width: int,
        queues: int,
        paths: int,
        batch: int,
        depth: int,
        *,
        event_idx: bool = True,
        fetches: int = 32,
    ):
        self.width = width
        self.queues = queues
        self.paths = paths
        self.batch = batch
        self.depth = depth
        self.with_event_idx = event_idx
        self.fetches = fetches
        self.pointer_bits = (2 * depth - 1).bit_length()
        super().__init__(
            {
                "event_idx": In(1),
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
                "write_en": Out(1),
                "write_queue": Out(16),
                "write_pointer": Out(self.pointer_bits),
                "write_descriptor": Out(Descriptor),
                "commit_en": Out(1),
                "commit_pointer": Out(self.pointer_bits),
                "committed": Out(stream.Signature(unsigned(16))),
                "failed": Out(1),
                "forget": In(1),
                "forget_queue": In(16),
                "idle": Out(1),
            }
            | {f"taken_{path}": In(self.pointer_bits) for path in range(paths)}
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.issue = issue = SplitIssue(
            self.queues, self.paths, self.depth, event_idx=self.with_event_idx
        )
        m.submodules.available = available = SplitAvailable(self.width, self.queues, self.depth)
        m.submodules.group = group = SplitGroup(self.queues, self.depth)
        m.submodules.window = window = SplitWindow(self.width, self.depth)
        m.submodules.resolve = resolve = SplitResolve(self.queues, self.batch, self.depth)
        m.submodules.reads = reads = StreamFIFO(ring_read(self.pointer_bits), self.fetches)
        m.submodules.tickets = tickets = StreamFIFO(split_ticket(self.pointer_bits), self.fetches)
        m.submodules.rearms = rearms = StreamArbiter(unsigned(16), 2)
        wiring.connect(m, issue.read, reads.input)
        wiring.connect(m, reads.output, available.read)
        wiring.connect(m, available.entry, group.entry)
        wiring.connect(m, group.ticket, tickets.input)
        wiring.connect(m, tickets.output, window.ticket)
        wiring.connect(m, window.loaded, resolve.loaded)
        wiring.connect(m, available.rearm, rearms.input_0)
        wiring.connect(m, issue.rearm, rearms.input_1)
        for ours, theirs in (
            (self.work, issue.work),
            (self.rearm_0, resolve.rearm),
            (self.rearm_1, rearms.output),
            (self.lookup_issue, issue.lookup),
            (self.lookup_receive, available.lookup),
            (self.read_request, group.request),
            (self.read_packet, window.packet),
            (self.ring_request, issue.request),
            (self.ring_packet, available.packet),
            (self.suppression, issue.suppression),
            (self.committed, resolve.committed),
        ):
            wiring.connect(m, wiring.flipped(ours), theirs)
        idle = issue.idle & available.idle & group.idle & window.idle & resolve.idle
        m.d.comb += [
            issue.event_idx.eq(self.event_idx),
            available.state_queue.eq(issue.state_queue),
            issue.available.eq(available.state),
            resolve.state_queue.eq(issue.state_queue),
            issue.state.eq(resolve.state),
            self.taken_queue.eq(issue.taken_queue),
            window.window.eq(resolve.window),
            window.offset.eq(resolve.offset),
            resolve.entry.eq(window.entry),
            window.free.eq(resolve.free),
            self.write_en.eq(resolve.write_en),
            self.write_queue.eq(resolve.write_queue),
            self.write_pointer.eq(resolve.write_pointer),
            self.write_descriptor.eq(resolve.write_descriptor),
            self.commit_en.eq(resolve.commit_en),
            self.commit_pointer.eq(resolve.commit_pointer),
            self.failed.eq(issue.failed | available.failed | resolve.failed),
            self.idle.eq(idle & ~reads.output.valid & ~tickets.output.valid),
        ]
        for part in (issue, available, resolve):
            m.d.comb += [part.forget.eq(self.forget), part.forget_queue.eq(self.forget_queue)]
        m.d.comb += [
            getattr(issue, f"taken_{path}").eq(getattr(self, f"taken_{path}"))
            for path in range(self.paths)
        ]
        return m
