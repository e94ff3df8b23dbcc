"""Descriptor fetch of either ring format: hop 3."""

from amaranth.hdl import Const, Module, Mux, Value, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..types.dma import ReadRequest, WriteRequest
from ..types.packet import packet_stream
from ..types.virtqueue import Descriptor, QueueLookup, RingFeatures, WorkItem
from .fetch_packed import PackedFetch
from .fetch_split import SplitFetch
from .suppression import Suppression

__all__ = ["Fetch"]

_TAKES = ("work", "read_packet", "ring_packet")
_GIVES = ("rearm_0", "rearm_1", "read_request", "ring_request", "committed")
_LOOKUPS = ("lookup_issue", "lookup_receive")
_VALUES_IN = ("forget", "forget_queue")
_VALUES_OUT = (
    "taken_queue", "write_en", "write_queue", "write_pointer", "write_descriptor", "commit_en",
    "commit_pointer", "failed",
)  # fmt: skip


class Fetch(wiring.Component):
    """Keeps the read-ahead stores of all virtqueues filled. [virtio 1.4 §2.7, §2.8]

    ``PackedFetch``, ``SplitFetch`` or both, one of which works; see there for what they do. What
    they put into the stores is the same: whole chains in the order in which they were made
    available, the buffer id in each descriptor of a chain.

    Parameters
    ----------
    width
        Bits of a packet beat.
    queues, paths
        Virtqueues, and paths among which they alternate (path = queue mod paths).
    batch
        Descriptors per fetch of packed virtqueues, a power of two up to 16. The walkers tell of
        room in steps of it.
    depth
        Descriptors per virtqueue in the read-ahead store, at least two batches.
    rings
        Formats that are built, of ``"split"`` and ``"packed"``.
    event_idx
        EVENT_IDX is built.
    fetches
        Descriptor reads in flight.

    Ports
    -----
    features : ``RingFeatures``
        Constant from DRIVER_OK to the reset.
    work, rearm_0, rearm_1, recheck : from and to the scheduler
    lookup_issue, lookup_receive : ``QueueLookup``
    read_request, read_packet : client of the read engine, for descriptors
    ring_request, ring_packet : another one: available rings, or fetches that are read again
    write_request, write_packet, write_done : client of the write engine
    taken_queue -> taken_{path} : walkers' pointers, one cycle latency
    short_reads : 1
        MRRS is 128 bytes.
    write_en, write_queue, write_pointer, write_descriptor, commit_en, commit_pointer
        To the read-ahead store of the path ``queue mod paths``; ``write_queue`` is the virtqueue.
    committed : stream of 16 bits
        A virtqueue got descriptors for its walker.
    failed : 1
        Strobe: a read failed, or a driver broke a rule.
    forget, forget_queue
        Strobe, while ``idle``: forget everything about one virtqueue, for its reset. Two cycles
        later it may be looked at again.
    idle : 1
        Nothing is in flight: no look, read, write or second look. A register; it counts from the
        second cycle in which ``Scheduler.hold`` is high.
    """

    def __init__(
        self,
        width: int,
        queues: int,
        paths: int,
        batch: int,
        depth: int,
        *,
        rings: tuple[str, ...] = ("split", "packed"),
        event_idx: bool = True,
        fetches: int = 32,
    ):
        self.width = width
        self.queues = queues
        self.paths = paths
        self.batch = batch
        self.depth = depth
        self.rings = rings
        self.event_idx = event_idx
        self.fetches = fetches
        pointer_bits = (2 * depth - 1).bit_length()
        super().__init__(
            {
                "features": In(RingFeatures),
                "work": In(stream.Signature(WorkItem)),
                "rearm_0": Out(stream.Signature(unsigned(16))),
                "rearm_1": Out(stream.Signature(unsigned(16))),
                "recheck": Out(stream.Signature(unsigned(16))),
                "lookup_issue": Out(QueueLookup()),
                "lookup_receive": Out(QueueLookup()),
                "read_request": Out(stream.Signature(ReadRequest)),
                "read_packet": In(packet_stream(width)),
                "ring_request": Out(stream.Signature(ReadRequest)),
                "ring_packet": In(packet_stream(width)),
                "write_request": Out(stream.Signature(WriteRequest)),
                "write_packet": Out(packet_stream(width)),
                "write_done": In(stream.Signature(unsigned(1))),
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
        sizes = (self.width, self.queues, self.paths, self.batch, self.depth)
        built = []
        if "split" in self.rings:
            m.submodules.split = split = SplitFetch(
                *sizes, event_idx=self.event_idx, fetches=self.fetches
            )
            m.d.comb += split.event_idx.eq(self.features.event_idx)
            built.append(split)
        if "packed" in self.rings:
            m.submodules.packed = packed = PackedFetch(*sizes, self.fetches)
            m.d.comb += packed.short_reads.eq(self.short_reads)
            built.append(packed)
        m.submodules.suppression = suppression = Suppression(self.width)
        for ours, theirs in (
            (self.recheck, suppression.recheck),
            (self.write_request, suppression.request),
            (self.write_packet, suppression.packet),
            (self.write_done, suppression.done),
        ):
            wiring.connect(m, wiring.flipped(ours), theirs)
        m.d.sync += self.idle.eq(suppression.idle & built[0].idle & built[-1].idle)

        packed_now = self.features.packed

        def pick(values):
            """What the format in use says."""
            first, last = Value.cast(values[0]), Value.cast(values[-1])
            return first if len(values) == 1 else Mux(packed_now, last, first)

        def give(sink, name):
            """Stream out of the format that is in use; the other one has nothing to say."""
            sources = [getattr(one, name) for one in built]
            m.d.comb += [
                Value.cast(sink.payload).eq(pick([source.payload for source in sources])),
                sink.valid.eq(sources[0].valid | sources[-1].valid),
                *(source.ready.eq(sink.ready) for source in sources),
            ]

        for name in _GIVES:
            give(getattr(self, name), name)
        give(suppression.update, "suppression")
        for name in _TAKES:
            source = getattr(self, name)
            sinks = [getattr(one, name) for one in built]
            for number, sink in enumerate(sinks):
                mine = packed_now == number if len(built) == 2 else Const(1)
                m.d.comb += [sink.payload.eq(source.payload), sink.valid.eq(source.valid & mine)]
            m.d.comb += source.ready.eq(pick([sink.ready for sink in sinks]))
        for name in _LOOKUPS:
            port, users = getattr(self, name), [getattr(one, name) for one in built]
            m.d.comb += port.queue.eq(pick([user.queue for user in users]))
            m.d.comb += [user.config.eq(port.config) for user in users]
        for name in (*_VALUES_IN, *(f"taken_{path}" for path in range(self.paths))):
            m.d.comb += [getattr(one, name).eq(getattr(self, name)) for one in built]
        for name in _VALUES_OUT:
            outputs = [getattr(one, name) for one in built]
            m.d.comb += Value.cast(getattr(self, name)).eq(pick(outputs))
        return m
