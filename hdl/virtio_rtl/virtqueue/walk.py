"""From ring descriptors to segments: hop 5."""

from amaranth.hdl import Module, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.bypass import BypassFIFO
from ..lib.stream import StreamFIFO
from ..types.dma import ReadRequest
from ..types.packet import packet_stream
from ..types.virtqueue import Buffer, Descriptor, QueueLookup, Segment
from .descriptor_stream import DescriptorBeat
from .ring_item import RingItem
from .service import BurstRequest, BurstResult
from .walk_expand import WalkExpand
from .walk_follow import WalkFollow
from .walk_landing import WalkLanding
from .walk_ring import WalkRing

__all__ = ["Walk"]


class Walk(wiring.Component):
    """Turns chains and indirect tables into segments and one record per buffer.

    ``WalkRing`` takes descriptors from the read-ahead store and asks for indirect tables ahead,
    which come back to ``WalkLanding``; ``WalkFollow`` puts both into one stream, in the order of
    the chains; ``WalkExpand`` makes segments of it.

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
        Depth of the output FIFOs.
    bounded
        The consumer takes no segment before the buffer's record: a chain of more than ``segments``
        segments is an error.
    rings
        Ring formats of the device: "packed", "split" or both.
    indirect
        Indirect tables are built; without them an indirect descriptor breaks a rule.

    Ports
    -----
    request : stream of ``BurstRequest``; result : stream of ``BurstResult``
    lookup : ``QueueLookup``
    walk_queue -> committed, taken; read_queue, read_pointer -> descriptor; take_*
        Read-ahead store; of a split chain it holds the descriptors in chain order, each with the
        id of the chain.
    rearm : stream of 16 bits
        The virtqueue has room again in its read-ahead store.
    table_request, table_packet : client of the read engine, for indirect tables
    jump_request : stream of 64 bits; jump_answer : stream of ``DescriptorBeat``
        To ``JumpReads``, for split indirect tables that are not in entry order; only there where
        these can be.
    segment : stream of ``Segment``; buffer : stream of ``Buffer``
    packed : 1
        The rings are packed. Ignored where only one format is built.
    pause : 1
        No new buffer is begun: one whose first descriptor was taken is finished, and a request
        goes on waiting. It may be raised and withdrawn at any time.
    resting : 1
        While ``pause`` is high: no buffer is inside, from its first descriptor in the store to its
        last segment. Then it stays so.
    forget : 1, forget_queue : 16
        Strobe, while ``resting`` only: the virtqueue was reset. Of other paths' virtqueues it means
        nothing. Its pointers are the store's to clear, beside this.

    One descriptor a cycle within a burst, and one cycle more for each ``batch``; three cycles a
    buffer where every request is for another virtqueue. Latency from ``request`` to the segment
    of a direct descriptor three cycles. ``resting`` follows its cause by two cycles. All outgoing
    streams come from registers.
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
        rings: tuple[str, ...] = ("packed",),
        indirect: bool = True,
        *,
        bounded: bool = False,
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
        self.rings = rings
        self.indirect = indirect
        self.bounded = bounded
        self.jumps = indirect and "split" in rings
        pointer_bits = (2 * depth - 1).bit_length()
        jumps = {
            "jump_request": Out(stream.Signature(unsigned(64))),
            "jump_answer": In(stream.Signature(DescriptorBeat)),
        }
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
                "packed": In(1),
                "pause": In(1),
                "resting": Out(1),
                "forget": In(1),
                "forget_queue": In(16),
            }
            | (jumps if self.jumps else {})
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.ring = ring = WalkRing(
            self.queues, self.paths, self.batch, self.depth, self.pull, self.wait_cycles,
            rings=self.rings, indirect=self.indirect,
        )  # fmt: skip
        m.submodules.items = items = BypassFIFO(RingItem, 16)
        m.submodules.expand = expand = WalkExpand(self.segments if self.bounded else None)
        m.submodules.segments = segments = StreamFIFO(Segment, self.segments + self.bounded)
        m.submodules.buffers = buffers = StreamFIFO(Buffer, self.buffers)
        wiring.connect(m, ring.item, items.input)
        descriptors = self._tables(m, ring, items.output) if self.indirect else items.output
        wiring.connect(m, descriptors, expand.item)
        wiring.connect(m, expand.segment, segments.input)
        wiring.connect(m, expand.buffer, buffers.input)
        for ours, theirs in (
            (self.request, ring.request),
            (self.result, ring.result),
            (self.lookup, ring.lookup),
            (self.rearm, ring.rearm),
            (self.table_request, ring.table_request),
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
            ring.packed.eq(self.packed),
            ring.pause.eq(self.pause),
            ring.forget.eq(self.forget & (self.forget_queue % self.paths == self.path)),
            ring.forget_queue.eq(self.forget_queue // self.paths),
        ]
        # Everything behind the ring side moves on as long as one of these has something.
        m.d.sync += self.resting.eq(
            ring.resting
            & self.pause
            & ~(items.output.valid | segments.output.valid | buffers.output.valid)
        )
        return m

    def _tables(self, m: Module, ring: WalkRing, items):
        """The way round for tables; returns the stream of descriptors."""
        m.submodules.landing = landing = WalkLanding(self.width, self.rings)
        m.submodules.follow = follow = WalkFollow(self.rings)
        wiring.connect(m, wiring.flipped(self.table_packet), landing.table_packet)
        wiring.connect(m, landing.entry, follow.entry)
        wiring.connect(m, items, follow.item)
        m.d.comb += [
            landing.packed.eq(self.packed),
            follow.packed.eq(self.packed),
            ring.table_freed.eq(follow.freed),
        ]
        if self.jumps:
            wiring.connect(m, follow.jump_request, wiring.flipped(self.jump_request))
            wiring.connect(m, wiring.flipped(self.jump_answer), follow.jump_answer)
        return follow.output
