"""What drivers say of used buffer notifications, and the bench of the tests of EventCheck."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from virtqueue_helper import Strobes, queue_config, serve_lookups

from lib.dma_model import ReadClientModel
from lib.layout import pack
from lib.sim import params
from lib.streams import StreamSink, StreamSource, cycles, reset, start_clock
from virtio_rtl.types.virtqueue import InterruptRequest, RingFeatures, UsedProgress

__all__ = ["EventRig", "Structures"]


class Structures:
    """Driver areas; notes what was read and what it said."""

    def __init__(self, sizes: list[int], *, packed: bool, event_idx: bool):
        self.packed, self.event_idx = packed, event_idx
        self.configs = [queue_config(size, (queue + 1) << 24) for queue, size in enumerate(sizes)]
        self.flags = [0] * len(sizes)
        self.event = [random.getrandbits(16) for _ in sizes]
        self.read: list[tuple[int, int]] = []
        self.failing: set[int] = set()

    def device_read(self, address: int, length: int) -> bytes:
        """Answer the read of what the device has to look at, and of nothing else."""
        queue = (address >> 24) - 1
        area = self.configs[queue]["driver_area"]
        self.read.append((queue, self.flags[queue]))
        event = self.event[queue].to_bytes(2, "little")
        if self.packed:
            # [virtio 1.4 §2.8.14]
            assert (address, length) == (area, 4)
            reserved = random.getrandbits(14) << 2  # not ours to look at
            return event + (reserved | self.flags[queue]).to_bytes(2, "little")
        if self.event_idx:
            # [virtio 1.4 §2.7.10]: behind the available ring; its flags have no effect.
            assert (address, length) == (area + 4 + 2 * self.configs[queue]["size"], 2)
            return event
        # [virtio 1.4 §2.7.7]: and used_event has none.
        assert (address, length) == (area, 2)
        return (random.getrandbits(15) << 1 | self.flags[queue]).to_bytes(2, "little")


class EventRig:
    """EventCheck, the structures, where each virtqueue is, and what arrives."""

    def __init__(self, dut: Any, sizes: list[int] | None = None, *, stall: float, latency=(3, 60)):
        self.dut = dut
        start_clock(dut)
        self.packed = params().ring == "packed"
        self.event_idx = bool(params().event_idx)
        self.sizes = sizes or [16] * params().queues
        self.structures = Structures(self.sizes, packed=self.packed, event_idx=self.event_idx)
        self.position = [0] * len(self.sizes)  # positions ever used
        features = {"packed": self.packed, "event_idx": self.event_idx}
        if getattr(params(), "any_features", False):
            features = {name: random.getrandbits(1) for name in features}
        dut.features.value = pack(RingFeatures, {**features, "in_order": random.getrandbits(1)})
        self.written = StreamSource(dut, "written", UsedProgress, stall=stall)
        self.reads = ReadClientModel(
            dut, "request", "packet", self.structures, params().width, latency=latency, stall=stall
        )
        self.reads.fail = lambda address: (address >> 24) - 1 in self.structures.failing
        self.interrupts = StreamSink(dut, "interrupt", InterruptRequest, stall=stall)
        self.failed = Strobes(dut, "failed")
        serve_lookups(dut, ["lookup"], self.structures.configs)

    async def start(self) -> None:
        """Reset, and wait until memories are clear."""
        await reset(self.dut)
        await cycles(self.dut, len(self.sizes))

    def number(self, queue: int, position: int) -> int:
        """A position as the ring's format tells it."""
        if not self.packed:
            return position & 0xFFFF
        lap, slot = divmod(position, self.sizes[queue])
        return slot | (1 - lap % 2) << 15

    def move(self, queue: int, count: int = 1) -> dict[str, int]:
        """Use buffers; return the record that tells it."""
        self.position[queue] += count
        index = self.number(queue, self.position[queue])
        return {"queue": queue, "index": index, "count": count}

    def use(self, *queues: int) -> None:
        """Tell one used position of each."""
        self.written.queue([self.move(queue) for queue in queues])

    async def quiet(self) -> None:
        """Wait until the device says that all is done, and see that it is."""
        await self.written.idle()
        await cycles(self.dut, 2)
        for _ in range(20_000):
            if self.dut.idle.value:
                break
            await cycles(self.dut)
        assert self.dut.idle.value
        await cycles(self.dut, random.choice([1, 20]))
        assert self.dut.idle.value
        assert self.reads.requests == len(self.structures.read) + self.failed.count

    def told(self) -> Counter[int]:
        """Interrupts by virtqueue."""
        found: Counter[int] = Counter()
        while (interrupt := self.interrupts.now()) is not None:
            assert (interrupt.config, interrupt.function) == (0, 0)
            found[interrupt.queue] += 1
        return found
