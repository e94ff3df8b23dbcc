"""The two paths from committed descriptors to payload requests, wired as the engine does."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Member
from walk_bench import between

from virtio_rtl.virtqueue.gather import Gather
from virtio_rtl.virtqueue.read_ahead import ReadAhead
from virtio_rtl.virtqueue.scatter import Scatter
from virtio_rtl.virtqueue.service import Service
from virtio_rtl.virtqueue.walk import Walk

__all__ = ["WalkPath"]

_STORE = (
    "write_en", "write_queue", "write_pointer", "write_descriptor", "commit_en", "commit_queue",
    "commit_pointer", "issue_queue", "issue_taken", "busy",
)  # fmt: skip
_WALK = ("lookup", "rearm", "table_request", "table_packet")
_BETWEEN = ("segment", "buffer", "take")


class WalkPath(wiring.Component):
    """Read-ahead store, walker, and what is behind it; all virtqueues are of this path."""

    def __init__(self, width: int, queues: int, batch: int, depth: int, *, receive: bool):
        self.store = ReadAhead(queues, depth)
        self.walk = Walk(width, queues, 1, 0, batch, depth, receive, bounded=receive)
        self.service = None if receive else Service(queues)
        self.body: Any = Scatter(width) if receive else Gather(width, 9030)
        parts: list[tuple[Any, list[str]]] = [
            (self.store, list(_STORE)),
            (self.walk, list(_WALK)),
            (self.body, [name for name in self.body.signature.members if name not in _BETWEEN]),
        ]
        if self.service is not None:
            parts.append((self.service, ["committed"]))
        self.parts = parts
        members: dict[str, Member] = {}
        for part, names in parts:
            members |= {name: part.signature.members[name] for name in names}
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        """Wire the parts to each other, and what is left to the ports."""
        m = Module()
        m.submodules.store, m.submodules.walk, m.submodules.body = self.store, self.walk, self.body
        store, walk = self.store, self.walk
        for part, names in self.parts:
            for name in names:
                ours, theirs = getattr(self, name), getattr(part, name)
                if part.signature.members[name].is_signature:
                    wiring.connect(m, wiring.flipped(ours), theirs)
                elif part.signature.members[name].flow == wiring.In:
                    m.d.comb += theirs.eq(ours)
                else:
                    m.d.comb += ours.eq(theirs)
        wiring.connect(m, walk.segment, self.body.segment)
        wiring.connect(m, walk.buffer, self.body.buffer)
        if self.service is None:
            wiring.connect(m, self.body.take, walk.request)
            m.d.comb += walk.result.ready.eq(1)
        else:
            m.submodules.service = self.service
            wiring.connect(m, self.service.request, walk.request)
            wiring.connect(m, walk.result, self.service.result)
        m.d.comb += between(walk, store)
        return m
