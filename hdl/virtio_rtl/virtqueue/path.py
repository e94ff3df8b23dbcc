"""A walker with its read-ahead store."""

from amaranth.hdl import Module, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..types.dma import ReadRequest
from ..types.packet import packet_stream
from ..types.virtqueue import Buffer, Descriptor, QueueLookup, Segment
from .descriptor_stream import DescriptorBeat
from .read_ahead import ReadAhead
from .service import BurstRequest, BurstResult
from .walk import Walk

__all__ = ["WalkPath"]

_STORE_INPUTS = ("write_pointer", "write_descriptor", "commit_pointer")
_STREAMS_IN = ("request", "table_packet")
_STREAMS_OUT = ("result", "rearm", "table_request", "segment", "buffer", "lookup")


class WalkPath(wiring.Component):
    """``ReadAhead`` and ``Walk`` of the virtqueues of one direction. Wiring only.

    Parameters
    ----------
    width, queues, paths, path, batch, depth, pull, bounded, segments, wait_cycles, rings, indirect
        As of ``Walk``.

    Ports
    -----
    write_en, write_queue, write_pointer, write_descriptor, commit_en, commit_pointer
        From the fetch, for the virtqueues of all paths.
    taken_queue -> taken
        Pointer of the walker, for the fetch, one cycle latency.
    request, result, lookup, rearm, table_*, jump_*, segment, buffer, packed, pause, resting
        As of ``Walk``.
    forget : 1, forget_queue : 16
        Strobe: a virtqueue of any path was reset; its descriptors and pointers are cleared.
    busy : 1
        The store's pointers are being cleared after a reset.
    """

    def __init__(
        self,
        width: int,
        queues: int,
        paths: int,
        path: int,
        batch: int,
        depth: int,
        *,
        pull: bool,
        bounded: bool,
        segments: int,
        wait_cycles: int,
        rings: tuple[str, ...],
        indirect: bool,
    ):
        self.queues = queues
        self.paths = paths
        self.path = path
        self.depth = depth
        self.walk = Walk(
            width, queues, paths, path, batch, depth, pull=pull, segments=segments,
            wait_cycles=wait_cycles, rings=rings, indirect=indirect, bounded=bounded,
        )  # fmt: skip
        pointer = (2 * depth - 1).bit_length()
        members = {
            "write_en": In(1),
            "write_queue": In(16),
            "write_pointer": In(pointer),
            "write_descriptor": In(Descriptor),
            "commit_en": In(1),
            "commit_pointer": In(pointer),
            "taken_queue": In(16),
            "taken": Out(pointer),
            "request": In(stream.Signature(BurstRequest)),
            "result": Out(stream.Signature(BurstResult)),
            "lookup": Out(QueueLookup()),
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
            "busy": Out(1),
        }
        if self.walk.jumps:
            members["jump_request"] = Out(stream.Signature(unsigned(64)))
            members["jump_answer"] = In(stream.Signature(DescriptorBeat))
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        m.submodules.store = store = ReadAhead(self.queues // self.paths, self.depth)
        m.submodules.walk = walk = self.walk
        streams = [*_STREAMS_IN, *_STREAMS_OUT]
        if walk.jumps:
            streams += ["jump_request", "jump_answer"]
        for name in streams:
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(walk, name))
        m.d.comb += [getattr(store, name).eq(getattr(self, name)) for name in _STORE_INPUTS]

        def row(queue):
            return queue // self.paths

        here = self.write_queue % self.paths == self.path
        forgets = self.forget & (self.forget_queue % self.paths == self.path)
        m.d.comb += [
            store.write_en.eq(self.write_en & here),
            store.write_queue.eq(row(self.write_queue)),
            store.commit_en.eq(self.commit_en & here),
            store.commit_queue.eq(row(self.write_queue)),
            store.issue_queue.eq(row(self.taken_queue)),
            self.taken.eq(store.issue_taken),
            store.walk_queue.eq(row(walk.walk_queue)),
            walk.committed.eq(store.walk_committed),
            walk.taken.eq(store.walk_taken),
            store.read_queue.eq(row(walk.read_queue)),
            store.read_pointer.eq(walk.read_pointer),
            walk.descriptor.eq(store.read_descriptor),
            store.take_en.eq(walk.take_en),
            store.take_queue.eq(row(walk.take_queue)),
            store.take_pointer.eq(walk.take_pointer),
            store.forget.eq(forgets),
            store.forget_queue.eq(row(self.forget_queue)),
            walk.forget.eq(forgets),
            walk.forget_queue.eq(self.forget_queue),
            walk.packed.eq(self.packed),
            walk.pause.eq(self.pause),
            self.resting.eq(walk.resting),
            self.busy.eq(store.busy),
        ]
        return m
