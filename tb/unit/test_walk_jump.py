"""JumpReads: single descriptors for several walkers through one client of the read engine."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from virtqueue_helper import PatternMemory, nothing_more

from lib.dma_model import ReadClientModel
from lib.layout import unpack
from lib.sim import params, simulate
from lib.streams import StreamSink, StreamSource, reset, start_clock
from virtio_rtl.types.virtqueue import PackedDescriptor
from virtio_rtl.virtqueue.descriptor_stream import DescriptorBeat
from virtio_rtl.virtqueue.walk_jump import JumpReads

POISON = 1 << 60  # what lies here or above cannot be read


class Rig:
    """Walkers that ask for descriptors, and memory."""

    def __init__(self, dut: Any, *, stall: float):
        self.dut, self.paths = dut, params().paths
        start_clock(dut)
        self.memory = PatternMemory()
        self.reads = ReadClientModel(
            dut, "read_request", "read_packet", self.memory, params().width,
            latency=(3, 40), stall=stall,
        )  # fmt: skip
        self.reads.fail = lambda address: address >= POISON
        self.requests = [
            StreamSource(dut, f"request_{path}", stall=stall) for path in range(self.paths)
        ]
        self.answers = [
            StreamSink(dut, f"answer_{path}", DescriptorBeat, stall=stall)
            for path in range(self.paths)
        ]

    async def check(self, path: int, address: int) -> None:
        """The walker's next answer."""
        answer = await self.answers[path].receive()
        assert (answer.last, answer.error) == (1, int(address >= POISON))
        if not answer.error:
            content = int.from_bytes(self.memory.peek(address, 16), "little")
            assert answer.descriptor == unpack(PackedDescriptor, content)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def each_walker_gets_its_own(dut: Any) -> None:
    """All ask at once, everybody stalls, some reads fail: the right descriptor, in order."""
    rig = Rig(dut, stall=0.2)
    await reset(dut)
    asked = [[random.getrandbits(61) for _ in range(60)] for _ in range(rig.paths)]
    for source, addresses in zip(rig.requests, asked, strict=True):
        source.queue(addresses)

    async def one(path: int) -> None:
        for address in asked[path]:
            await rig.check(path, address)

    for task in [cocotb.start_soon(one(path)) for path in range(rig.paths)]:
        await task
    await nothing_more(dut, *rig.answers)
    assert rig.reads.requests == 60 * rig.paths


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def walkers_take_turns(dut: Any) -> None:
    """Whoever asks on and on does not keep the others waiting for more than one read each."""
    rig = Rig(dut, stall=0.0)
    await reset(dut)
    for path in range(rig.paths):
        rig.requests[path].queue([path << 20 | k << 4 for k in range(20)])
    for _ in range(20):
        for path in range(rig.paths):
            await rig.answers[path].receive()
            counts = [sink.count for sink in rig.answers]
            assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize(("width", "paths"), [(64, 2), (128, 1), (256, 3), (512, 2)])
def test_walk_jump(width: int, paths: int) -> None:
    """One to three walkers."""
    simulate(
        JumpReads(width, paths), module=__name__, name=f"walk_jump_{width}_{paths}",
        params={"width": width, "paths": paths},
    )  # fmt: skip
