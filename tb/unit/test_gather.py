"""Gather: the readable segments of each buffer, as one packet."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from dest_helper import steered_packet
from virtqueue_helper import IdleWatch, Moves, PatternMemory, Strobes, nothing_more, spread

from lib.dma_model import ReadClientModel
from lib.sim import params, simulate
from lib.streams import StreamSink, StreamSource, reset, start_clock
from virtio_rtl.types.packet import packet_beat
from virtio_rtl.types.virtqueue import Buffer, Completion, Segment
from virtio_rtl.virtqueue.gather import Gather

POISON = 0xBAD << 40  # reads from here on fail


class Rig:
    """Gather between a walker that never runs dry and memory."""

    def __init__(
        self,
        dut: Any,
        *,
        stall: float,
        latency: tuple[int, int] = (1, 30),
        depth: int | None = None,
    ):
        width = params().width
        start_clock(dut)
        self.dut = dut
        self.memory = PatternMemory()
        self.segments = StreamSource(dut, "segment", Segment, stall=stall)
        self.buffers = StreamSource(dut, "buffer", Buffer, stall=stall)
        self.reads = ReadClientModel(
            dut, "request", "packet", self.memory, width, latency=latency, stall=stall, depth=depth
        )
        self.reads.fail = lambda address: address >= POISON
        self.readable = StreamSink(
            dut, "readable", packet_beat(width, params().dest_bits), stall=stall
        )
        self.completions = StreamSink(dut, "completion", Completion, stall=stall)
        self.failed = Strobes(dut, "failed")
        self.dropped = Strobes(dut, "dropped")
        self.idle = IdleWatch(dut, segments=True)

    def put(self, buffers: list[tuple[list[tuple[int, int, int]], int]]) -> None:
        """Queue buffers: segments (address, length, writable), and the error mark."""
        for number, (segments, error) in enumerate(buffers):
            for index, (address, length, writable) in enumerate(segments):
                self.segments.queue(
                    [
                        {
                            "queue": number % 7,
                            "address": address,
                            "length": length,
                            "writable": writable,
                            "last": index == len(segments) - 1,
                        }
                    ]
                )
            self.buffers.queue(
                [{"queue": number % 7, "id": number * 3, "slots": number % 5, "error": error}]
            )

    async def check(self, buffers: list[tuple[list[tuple[int, int, int]], int]]) -> None:
        """Compare packets, completions and failures with what the buffers say."""
        longest = params().max_bytes
        failures = cut = 0
        for number, (segments, error) in enumerate(buffers):
            want, poisoned = b"", False
            total = sum(length for _, length, writable in segments if not writable)
            for address, length, writable in segments:
                take = 0 if writable else min(length, longest - len(want))
                # Every chunk of 4096 bytes is a request of its own; any of them can fail.
                poisoned |= take > 0 and address >= POISON
                want += self.memory.peek(address, take)
            failures += poisoned or bool(error)
            cut += total > longest and not error
            if not want:
                continue
            got, bad, dest = await steered_packet(self.readable)
            assert bad == (poisoned or bool(error) or total > longest)
            assert dest == (number % 7 // 2 if params().dest_bits else 0), (
                "not its virtqueue's pair"
            )
            assert len(got) == len(want)
            assert poisoned or got == want
        for number, (_, error) in enumerate(buffers):
            done = await self.completions.receive()
            assert done == {
                "function": 0, "queue": number % 7, "id": number * 3, "slots": number % 5,
                "written": 0, "error": error,
            }  # fmt: skip
        await nothing_more(self.dut, self.readable, self.completions)
        assert (self.failed.count, self.dropped.count) == (failures, cut)
        assert self.idle.now, "all buffers are back"


def random_segments(longest: int) -> list[tuple[int, int, int]]:
    kinds = random.choice([(0,), (0, 1), (1, 2, 3, 60), (1, 60, 300), (4096, 4097, 5000)])
    count = random.choice([1, 1, 1, 2, 3, 8])
    segments = []
    for _ in range(count):
        length = random.choice(kinds)
        if length > 1 and random.random() < 0.7:
            length = random.randint(1, length)
        poison = POISON if random.random() < 0.03 else 0
        segments.append((poison + random.getrandbits(39), length, int(random.random() < 0.15)))
    if random.random() < 0.1:
        segments.append((5, random.choice([longest, longest + 1, 0xFFFF_FFFF]), 0))
    return segments


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def gathers_random_buffers(dut: Any) -> None:
    """Zero-length, writable and long segments anywhere, errors, stalls: the golden packets."""
    rig = Rig(dut, stall=0.2)
    rig.completions.stall = 0.95  # completions wait, and packets for them
    await reset(dut)
    buffers = [
        (random_segments(params().max_bytes), int(random.random() < 0.1)) for _ in range(150)
    ]
    rig.put(buffers)
    await rig.check(buffers)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def more_segments_than_reads_wait(dut: Any) -> None:
    """The packet of a buffer moves on while segments of it are still to come."""
    rig = Rig(dut, stall=0.1, depth=random.choice([1, 4, 16]))
    await reset(dut)
    count = min(params().max_bytes // 16, 80)
    buffers = [
        ([(64 * place, random.randint(1, 16), 0) for place in range(count)] + [(0, 1, 1)], 0),
        ([(5, 9, 0)], 0),
        ([(0, 4, 1)], 0),
        ([(64 * place, 16, 0) for place in range(count)], 0),
    ] * 2
    rig.put(buffers)
    await rig.check(buffers)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def cuts_at_every_edge(dut: Any) -> None:
    """Around multiples of 4096 and around max_bytes, in one segment and in two."""
    rig = Rig(dut, stall=0.0, latency=(1, 5))
    await reset(dut)
    longest = params().max_bytes
    edges = [4095, 4096, 4097, 8191, 8192, 8193, longest - 1, longest, longest + 1, 1 << 31]
    buffers: list[Any] = [([(random.getrandbits(60) % POISON, edge, 0)], 0) for edge in edges]
    buffers += [([(77, 1, 0), (1000, edge, 0)], 0) for edge in edges]
    buffers += [([(3000, edge, 0), (9, 1, 0), (9, 0, 0)], 0) for edge in edges]
    buffers += [([(1, longest, 0), (2, 0, 0)], 0), ([(1, 9, 1), (2, 0, 0)], 0)]
    buffers += [([(1, longest + 1, 0), (2, 0, 0), (3, 0, 0), (4, 5, 1)], 0)]
    rig.put(buffers)
    await rig.check(buffers)
    assert all(1 <= length <= 4096 for _, length in rig.memory.reads)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def one_request_a_cycle(dut: Any) -> None:
    """Buffers of one segment cost one cycle each, and packets pass without a gap."""
    rig = Rig(dut, stall=0.0, latency=(200, 200))
    requests, beats = Moves(dut, "request"), Moves(dut, "readable")
    await reset(dut)
    lanes = params().width // 8
    buffers: list[Any] = [([(100 * i, 2 * lanes, 0)], 0) for i in range(120)]
    rig.put(buffers)
    await rig.check(buffers)
    assert spread(requests.cycles) == 120
    assert spread(beats.cycles) == 240


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def two_cycles_a_segment_at_most(dut: Any) -> None:
    """In a buffer of many segments a request goes out in every second cycle at least."""
    rig = Rig(dut, stall=0.0, latency=(50, 50))
    requests = Moves(dut, "request")
    await reset(dut)
    buffers: list[Any] = [([(100 * i + k, 10, 0) for k in range(8)], 0) for i in range(20)]
    rig.put(buffers)
    await rig.check(buffers)
    assert len(requests.cycles) == 160
    assert spread(requests.cycles) <= 2 * 160


@pytest.mark.parametrize(("width", "dest_bits"), [(64, 2), (128, 0), (256, 7), (512, 0)])
def test_gather(width: int, dest_bits: int) -> None:
    max_bytes = {64: 9030, 128: 9030, 256: 16000, 512: 65547}[width]
    simulate(
        Gather(width, max_bytes, dest_bits=dest_bits),
        module=__name__,
        name=f"gather_{width}_{dest_bits}",
        params={"width": width, "max_bytes": max_bytes, "dest_bits": dest_bits},
    )


def test_gather_of_short_packets() -> None:
    """A longest packet below one chunk."""
    simulate(
        Gather(128, 100),
        module=__name__,
        name="gather_short",
        testcase="gathers_random_buffers",
        params={"width": 128, "max_bytes": 100, "dest_bits": 0},
    )
