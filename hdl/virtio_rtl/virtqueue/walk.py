"""From ring descriptors to segments: hop 5."""

from amaranth.hdl import Module, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.bypass import BypassFIFO
from ..lib.stream import StreamFIFO
from ..types.dma import ReadRequest
from ..types.packet import packet_stream
from ..types.virtqueue import Buffer, Descriptor, QueueLookup, Segment
from .ring_item import RingItem
from .service import BurstRequest, BurstResult
from .walk_expand import WalkExpand
from .walk_ring import WalkRing

__all__ = ["Walk"]


class Walk(wiring.Component):
    """Turns chains and indirect tables into segments and one record per buffer.

    ``WalkRing`` takes descriptors from the read-ahead store and asks for indirect tables ahead;
    ``WalkExpand`` puts both into one stream, in ring order.

    Parameters
    ----------
    width
        Bits of a packet beat.
    queues, paths, path
        Virtqueues of the device; this walker serves those with ``queue % paths == path``.
    batch, depth
        Of the read-ahead store.
    pull
        The device asks for buffers (receive): a request waits until a buffer is available; see
        ``wait_cycles``.
    wait_cycles
        Pull paths of several virtqueues only: how long a request waits for a buffer; then it gets
        a record that is ``absent``, and one segment of no length.
    segments, buffers
        Depth of the output FIFOs. A pull path's consumer waits for the buffer record, so a chain
        of more segments than that is an error there.

    Ports
    -----
    request : stream of ``BurstRequest``; result : stream of ``BurstResult``
    lookup : ``QueueLookup``
    walk_queue -> committed, taken; read_queue, read_pointer -> descriptor; take_*
        Read-ahead store.
    rearm : stream of 16 bits
        The virtqueue has room again in its read-ahead store.
    table_request, table_packet : client of the read engine, for indirect tables
    segment : stream of ``Segment``; buffer : stream of ``Buffer``

    One descriptor a cycle within a burst, and one cycle more for each ``batch``; three cycles a
    buffer where every request is for another virtqueue. Latency from ``request`` to the segment
    of a direct descriptor three cycles. All outgoing streams
    come from registers.
    """

    def __init__(
        self,
        width: int,
        queues: int,
        paths: int,
        path: int,
        batch: int,
        depth: int,
        pull: bool,
        segments: int = 64,
        buffers: int = 64,
        wait_cycles: int = 1000,
    ):
        self.width = width
        self.queues = queues
        self.paths = paths
        self.path = path
        self.batch = batch
        self.depth = depth
        self.pull = pull
        self.segments = segments
        self.buffers = buffers
        self.wait_cycles = wait_cycles
        pointer_bits = (2 * depth - 1).bit_length()
        super().__init__(
            {
                "request": In(stream.Signature(BurstRequest)),
                "result": Out(stream.Signature(BurstResult)),
                "lookup": Out(QueueLookup()),
                "walk_queue": Out(16),
                "committed": In(pointer_bits),
                "taken": In(pointer_bits),
                "read_queue": Out(16),
                "read_pointer": Out(pointer_bits),
                "descriptor": In(Descriptor),
                "take_en": Out(1),
                "take_queue": Out(16),
                "take_pointer": Out(pointer_bits),
                "rearm": Out(stream.Signature(unsigned(16))),
                "table_request": Out(stream.Signature(ReadRequest)),
                "table_packet": In(packet_stream(width)),
                "segment": Out(stream.Signature(Segment)),
                "buffer": Out(stream.Signature(Buffer)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.ring = ring = WalkRing(
            self.queues, self.paths, self.batch, self.depth, self.pull, self.wait_cycles
        )
        m.submodules.items = items = BypassFIFO(RingItem, 16)
        m.submodules.expand = expand = WalkExpand(self.width, self.segments if self.pull else None)
        m.submodules.segments = segments = StreamFIFO(Segment, self.segments + self.pull)
        m.submodules.buffers = buffers = StreamFIFO(Buffer, self.buffers)
        wiring.connect(m, ring.item, items.input)
        wiring.connect(m, items.output, expand.item)
        wiring.connect(m, expand.segment, segments.input)
        wiring.connect(m, expand.buffer, buffers.input)
        for ours, theirs in (
            (self.request, ring.request),
            (self.result, ring.result),
            (self.lookup, ring.lookup),
            (self.rearm, ring.rearm),
            (self.table_request, ring.table_request),
            (self.table_packet, expand.table_packet),
            (self.segment, segments.output),
            (self.buffer, buffers.output),
        ):
            wiring.connect(m, wiring.flipped(ours), theirs)
        m.d.comb += [
            self.walk_queue.eq(ring.walk_queue),
            ring.committed.eq(self.committed),
            ring.taken.eq(self.taken),
            self.read_queue.eq(ring.read_queue),
            self.read_pointer.eq(ring.read_pointer),
            ring.descriptor.eq(self.descriptor),
            self.take_en.eq(ring.take_en),
            self.take_queue.eq(ring.take_queue),
            self.take_pointer.eq(ring.take_pointer),
            ring.table_freed.eq(expand.table_freed),
        ]
        return m
