"""Golden used rings of both formats, as a driver reads them, and the bench of the tests of Used."""

from __future__ import annotations

import random
from collections import deque
from typing import Any, NamedTuple

from virtqueue_helper import (
    PatternMemory,
    descriptor_bytes,
    nothing_more,
    queue_config,
    serve_lookups,
    until,
)

from lib.dma_model import WriteClientModel
from lib.layout import pack
from lib.sim import params
from lib.streams import StreamSink, StreamSource, cycles, start_clock
from virtio_rtl.types.virtqueue import Completion, RingFeatures, UsedProgress

__all__ = ["INPUTS", "LINGER", "LINGER_CROWDED", "QUEUES", "READ_ONLY", "Rig", "Write"]

QUEUES, INPUTS, LINGER, LINGER_CROWDED = 6, 2, 200, 3000
READ_ONLY = (1,)
"""Inputs of virtqueues whose buffers are only read; virtqueue mod INPUTS is the input."""

_WRITE, _AVAIL, _USED = 2, 1 << 7, 1 << 15

Group = list[tuple[int, bytes]]


class Write(NamedTuple):
    """What one write has told the driver."""

    entries: int
    buffers: int


class _Golden:
    """One used ring: what was completed and not yet told."""

    def __init__(self, queue: int, size: int, *, in_order: bool):
        self.queue, self.size, self.in_order = queue, size, in_order
        self.config = queue_config(size, (queue + 1) << 24)
        self.outstanding: deque[dict[str, int]] = deque()
        self.writes: list[Write] = []

    def complete(self, done: dict[str, int]) -> None:
        """A buffer is done."""
        self.outstanding.append(done)

    def take(self, buffer_id: int) -> list[dict[str, int]]:
        """The buffers that an entry stands for: with IN_ORDER all up to the one that it names.

        A driver believes that a buffer which was skipped was used completely. [virtio 1.4 §2.7.9]
        """
        taken = [self.outstanding.popleft()]
        while self.in_order and taken[-1]["id"] != buffer_id:
            assert self.queue % INPUTS in READ_ONLY, "has room for data: not to be skipped"
            assert taken[-1]["written"] == 0, "not to be skipped"
            taken.append(self.outstanding.popleft())
        assert taken[-1]["id"] == buffer_id
        return taken

    def told(self, groups: list[list[dict[str, int]]], batch: int) -> int:
        """Note one write; each entry's buffers. Return the number of buffers."""
        buffers = sum(len(group) for group in groups)
        assert 1 <= buffers <= batch
        assert buffers == len(groups) or len(groups) == 1, "an entry for several, and others"
        self.writes.append(Write(len(groups), buffers))
        return buffers


class _Packed(_Golden):
    """[virtio 1.4 §2.8.7, §2.8.11]"""

    slot, wrap = 0, 1

    def begin(self) -> None:
        """As after a reset."""
        self.slot, self.wrap = 0, 1

    def consume(self, group: Group, batch: int) -> dict[str, int]:
        """Read what a group of write requests has put into the ring."""
        ((address, content),) = group
        first = self.slot
        assert address == self.config["descriptor_area"] + 16 * first
        taken, moved = [], 0
        for offset in range(0, len(content), 16):
            descriptor = content[offset : offset + 16]
            assert self.slot == first + offset // 16, "not neighbours"
            buffers = self.take(int.from_bytes(descriptor[12:14], "little"))
            written = buffers[-1]["written"]
            flags = (_WRITE if written else 0) | ((_AVAIL | _USED) if self.wrap else 0)
            assert descriptor == descriptor_bytes(0, written, buffers[-1]["id"], flags=flags)
            taken.append(buffers)
            for buffer in buffers:
                moved += buffer["slots"]
                self.slot += buffer["slots"]
                if self.slot >= self.size:
                    self.slot, self.wrap = self.slot - self.size, 1 - self.wrap
        self.told(taken, batch)
        if len(taken) > 1:
            assert first // batch == (first + len(taken) - 1) // batch, "crosses a multiple"
        return {"queue": self.queue, "index": self.slot | self.wrap << 15, "count": moved}


class _Split(_Golden):
    """[virtio 1.4 §2.7.8, §2.7.9, §2.7.14]"""

    index = 0

    def begin(self) -> None:
        """As after a reset."""
        self.index = 0

    def consume(self, group: Group, batch: int) -> dict[str, int]:
        """Read what a group of write requests has put into the ring."""
        (address, content), (index_address, index) = group
        first = self.index % self.size
        assert address == self.config["device_area"] + 4 + 8 * first
        count = len(content) // 8
        assert first + count <= self.size, "past the end of the ring"
        taken = []
        for offset in range(0, len(content), 8):
            element = content[offset : offset + 8]
            taken.append(self.take(int.from_bytes(element[:4], "little")))
            assert int.from_bytes(element[4:], "little") == taken[-1][-1]["written"]
        if len(taken) > 1:
            assert first // batch == (first + count - 1) // batch, "crosses a multiple"
        buffers = self.told(taken, batch)
        self.index = (self.index + buffers) & 0xFFFF
        assert index_address == self.config["device_area"] + 2
        assert index == self.index.to_bytes(2, "little")
        return {"queue": self.queue, "index": self.index, "count": buffers}


class Rig:
    """Used with completions from two paths: virtqueue mod 2."""

    def __init__(self, dut: Any, sizes: list[int], *, stall: float, latency=(2, 40)):
        self.dut = dut
        start_clock(dut)
        self.packed = params().ring == "packed"
        self.in_order = getattr(params(), "in_order", False)
        kind = _Packed if self.packed else _Split
        self.rings = [kind(queue, size, in_order=self.in_order) for queue, size in enumerate(sizes)]
        self.memory = PatternMemory()
        self.ids = [random.getrandbits(16) for _ in sizes]
        features = {"packed": self.packed, "in_order": self.in_order}
        if getattr(params(), "any_features", False):
            features = {name: random.getrandbits(1) for name in features}
        dut.features.value = pack(RingFeatures, {**features, "event_idx": random.getrandbits(1)})
        self.sources = [
            StreamSource(dut, f"completion_{i}", Completion, stall=stall) for i in range(INPUTS)
        ]
        self.writes = WriteClientModel(
            dut, "request", "packet", "done", self.memory, params().width,
            latency=latency, stall=stall,
        )  # fmt: skip
        self.written = StreamSink(dut, "written", UsedProgress, stall=stall)
        serve_lookups(dut, ("lookup", "lookup_write"), [ring.config for ring in self.rings])
        dut.busy.value, dut.crowded.value, dut.forget.value = 1, 0, 0
        self._seen = 0
        self._progress: list[dict[str, int]] = []

    def put(self, queue: int, slots: int = 1, written: int | None = None) -> None:
        """Complete a buffer. Ids of a virtqueue differ among the next 65536."""
        if written is None:
            written = random.choice([0, 1, random.getrandbits(32)])
        self.ids[queue] = (self.ids[queue] + 0x9E37) & 0xFFFF
        done = {"queue": queue, "id": self.ids[queue], "slots": slots, "written": written}
        self.rings[queue].complete(done)
        # A split ring does not care how many descriptors a chain has.
        told = done if self.packed else {**done, "slots": random.randint(1, 64)}
        self.sources[queue % INPUTS].queue([told])

    def look(self) -> bool:
        """Read what was written since; true if nothing is outstanding."""
        for group in self.writes.groups[self._seen :]:
            ring = self.rings[(group[0][0] >> 24) - 1]
            self._progress.append(ring.consume(group, params().batch))
        self._seen = len(self.writes.groups)
        return not any(ring.outstanding for ring in self.rings)

    async def check(self, limit: int = 3 * LINGER_CROWDED) -> list[list[Write]]:
        """Wait for the end, compare; return all writes by virtqueue."""
        for source in self.sources:
            await source.idle()
        await until(self.dut, self.look, limit)
        told = await self.written.take(len(self._progress))
        assert [dict(item) for item in told] == self._progress
        self._progress = []
        await nothing_more(self.dut, self.written)
        return [ring.writes for ring in self.rings]

    async def rest(self, limit: int = 3 * LINGER_CROWDED) -> None:
        """Wait until the device says that it has nothing to do."""
        await cycles(self.dut, 2)
        await until(self.dut, lambda: bool(self.dut.idle.value), limit)
