"""A walker on its read-ahead store, and chains with what must come of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from amaranth.hdl import Module, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from virtio_rtl.types.dma import ReadRequest
from virtio_rtl.types.packet import packet_stream
from virtio_rtl.types.virtqueue import Buffer, Descriptor, QueueLookup, Segment
from virtio_rtl.virtqueue.read_ahead import ReadAhead
from virtio_rtl.virtqueue.service import BurstRequest, BurstResult
from virtio_rtl.virtqueue.walk import Walk
from virtio_rtl.virtqueue.walk_jump import JumpReads

__all__ = ["QUEUES", "SEGMENTS", "Bench", "Case", "absent", "between"]

QUEUES, SEGMENTS = 3, 24
MAX32 = 0xFFFF_FFFF


def between(walk: Walk, store: ReadAhead) -> list[Any]:
    """Return the assignments that join a walker and its store."""
    return [
        store.walk_queue.eq(walk.walk_queue),
        walk.committed.eq(store.walk_committed),
        walk.taken.eq(store.walk_taken),
        store.read_queue.eq(walk.read_queue),
        store.read_pointer.eq(walk.read_pointer),
        walk.descriptor.eq(store.read_descriptor),
        store.take_en.eq(walk.take_en),
        store.take_queue.eq(walk.take_queue),
        store.take_pointer.eq(walk.take_pointer),
    ]


class Bench(wiring.Component):
    """A walker on its read-ahead store, alone with the reads of split tables."""

    def __init__(
        self,
        width: int,
        batch: int,
        depth: int,
        pull: bool,
        wait_cycles: int = 1000,
        rings: tuple[str, ...] = ("packed",),
        indirect: bool = True,
    ):
        self.walk = Walk(
            width, QUEUES, 1, 0, batch, depth, pull, SEGMENTS, 16, wait_cycles=wait_cycles,
            rings=rings, indirect=indirect, bounded=pull,
        )  # fmt: skip
        self.store = ReadAhead(QUEUES, depth)
        self.jumps = JumpReads(width, 1) if self.walk.jumps else None
        pointer = range(2 * depth)
        jump_members = {
            "jump_request": Out(stream.Signature(ReadRequest)),
            "jump_packet": In(packet_stream(width)),
        }
        super().__init__(
            {
                "request": In(stream.Signature(BurstRequest)),
                "result": Out(stream.Signature(BurstResult)),
                "lookup": Out(QueueLookup()),
                "rearm": Out(stream.Signature(unsigned(16))),
                "table_request": Out(stream.Signature(ReadRequest)),
                "table_packet": In(packet_stream(width)),
                "segment": Out(stream.Signature(Segment)),
                "buffer": Out(stream.Signature(Buffer)),
                "write_en": In(1),
                "write_queue": In(range(QUEUES)),
                "write_pointer": In(pointer),
                "write_descriptor": In(Descriptor),
                "commit_en": In(1),
                "commit_queue": In(range(QUEUES)),
                "commit_pointer": In(pointer),
                "issue_queue": In(range(QUEUES)),
                "issue_taken": Out(pointer),
                "busy": Out(1),
                "packed": In(1),
                "pause": In(1),
                "resting": Out(1),
                "forget": In(1),
                "forget_queue": In(range(QUEUES)),
            }
            | (jump_members if self.jumps is not None else {})
        )

    def elaborate(self, platform: Any) -> Module:
        """Wire as the engine does."""
        m = Module()
        m.submodules.walk, m.submodules.store = walk, store = self.walk, self.store
        for name in ("request", "result", "lookup", "rearm", "table_request", "table_packet",
                     "segment", "buffer"):  # fmt: skip
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(walk, name))
        for name in ("write_en", "write_queue", "write_pointer", "write_descriptor",
                     "commit_en", "commit_queue", "commit_pointer", "issue_queue"):  # fmt: skip
            m.d.comb += getattr(store, name).eq(getattr(self, name))
        m.d.comb += [
            *between(walk, store),
            self.issue_taken.eq(store.issue_taken),
            self.busy.eq(store.busy),
            walk.packed.eq(self.packed),
            walk.pause.eq(self.pause),
            self.resting.eq(walk.resting),
        ]
        for part in (store, walk):
            m.d.comb += [
                part.forget.eq(self.forget),
                part.forget_queue.eq(self.forget_queue),
            ]
        if self.jumps is not None:
            m.submodules.jumps = jumps = self.jumps
            wiring.connect(m, walk.jump_request, jumps.request_0)
            wiring.connect(m, jumps.answer_0, walk.jump_answer)
            wiring.connect(m, wiring.flipped(self.jump_request), jumps.read_request)
            wiring.connect(m, wiring.flipped(self.jump_packet), jumps.read_packet)
        return m


@dataclass
class Case:
    """A chain, and what must come of it."""

    ring: list[dict[str, int]] = field(default_factory=list)
    segments: list[tuple[int, int, int]] = field(default_factory=list)
    error: int = 0

    def golden(
        self, queue: int, pull: bool, size: int
    ) -> tuple[list[dict[str, int]], dict[str, int]]:
        """Segments and record, as the docstrings of the walker say."""
        out, error = [], self.error_from()
        readable = writable = 0
        for index, (address, length, write) in enumerate(self.segments):
            readable = min(readable + (0 if write else length), MAX32)
            writable = min(writable + (length if write else 0), MAX32)
            last = index == len(self.segments) - 1
            if pull and index >= SEGMENTS:
                error = min(error, SEGMENTS)
                if not last:
                    continue
            kept = 0 if index >= error else length
            out.append(
                {"function": 0, "queue": queue, "address": address, "length": kept,
                 "writable": write, "last": int(last)}
            )  # fmt: skip
        record = {
            "function": 0, "queue": queue, "id": self.ring[-1]["id"],
            "slots": min(len(self.ring), size),
            "readable": readable, "writable": writable, "error": int(error < len(self.segments)),
            "absent": 0,
        }  # fmt: skip
        return out, record

    def error_from(self) -> int:
        """Index of the first segment that breaks a rule, or the number of segments."""
        broken = self.bad_from if self.error else len(self.segments)
        writable = 0
        for index, (_, length, write) in enumerate(self.segments):
            if not write and writable and length:
                return min(broken, index)
            writable += length if write else 0
        return broken

    bad_from: int = 0


def absent(queue: int) -> tuple[list[dict[str, int]], dict[str, int]]:
    """What a request gets where there is no buffer: one segment of no length, and the record."""
    segment = {"address": 0, "length": 0, "writable": 0, "last": 1}
    record = {
        "id": 0, "slots": 0, "readable": 0, "writable": 0, "error": 0, "absent": 1,
    }  # fmt: skip
    owner = {"function": 0, "queue": queue}
    return [owner | segment], owner | record
