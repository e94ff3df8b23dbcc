"""Packets of packed descriptors, cut into descriptors."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from virtqueue_helper import Moves, descriptor_bytes, nothing_more, spread

from lib.dma_model import packet_beats
from lib.sim import params, simulate
from lib.streams import StreamSink, StreamSource, reset, start_clock
from virtio_rtl.types.packet import packet_beat
from virtio_rtl.virtqueue.descriptor_stream import DescriptorBeat, DescriptorStream


async def run(dut: Any, packets: list[int], stall: float) -> None:
    """Pass packets of so many descriptors; each comes out as it is, the last one marked."""
    source = StreamSource(dut, "packet", packet_beat(params().width), stall=stall)
    sink = StreamSink(dut, "output", DescriptorBeat, stall=stall)
    await reset(dut)
    for count in packets:
        fields = [
            (random.getrandbits(64), random.getrandbits(32), random.getrandbits(16),
             random.getrandbits(16))
            for _ in range(count)
        ]  # fmt: skip
        error = random.random() < 0.2
        content = b"".join(descriptor_bytes(a, n, i, flags=f) for a, n, i, f in fields)
        source.queue(packet_beats(content, params().width, error=error))
        for index, (address, length, buffer_id, flags) in enumerate(fields):
            beat = await sink.receive()
            got = beat.descriptor
            assert (got.address, got.length, got.id) == (address, length, buffer_id)
            bits = (
                got.next | got.write << 1 | got.indirect << 2 | got.reserved_low << 3
                | got.avail << 7 | got.reserved_high << 8 | got.used << 15
            )  # fmt: skip
            assert bits == flags
            assert beat.last == (index == count - 1)
            if beat.last:
                assert beat.error == error
    await nothing_more(dut, sink, wait=10)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def cuts_every_length(dut: Any) -> None:
    """Packets of 1 to 16 descriptors, errors, stalls."""
    start_clock(dut)
    await run(dut, random.choices(range(1, 17), k=60), stall=0.3)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def one_descriptor_a_cycle(dut: Any) -> None:
    """One every second cycle at 64 bits; no bubble between packets."""
    width = params().width
    start_clock(dut)
    source = StreamSource(dut, "packet", packet_beat(width))
    sink = StreamSink(dut, "output", DescriptorBeat)
    moves = Moves(dut, "output")
    await reset(dut)
    counts = [16, 1, 3, 1, 2, 16, 5, 4, 4, 1, 1]
    for count in counts:
        source.queue(packet_beats(bytes(16 * count), width))
    await sink.take(sum(counts))
    await nothing_more(dut, sink, wait=5)
    each = max(128 // width, 1)
    assert spread(moves.cycles) == each * (sum(counts) - 1) + 1


@pytest.mark.parametrize("width", [64, 128, 256, 512])
def test_descriptor_stream(width: int) -> None:
    simulate(
        DescriptorStream(width), module=__name__, name=f"descriptor_stream_{width}",
        params={"width": width},
    )  # fmt: skip
