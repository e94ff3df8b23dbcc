"""Scatter where buffers are requests: each gets the device's reply, if it may have one."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import cocotb
import pytest
from virtqueue_helper import IdleWatch, Moves, PatternMemory, Strobes, nothing_more, spread

from lib.dma_model import WriteClientModel, packet_beats
from lib.sim import params, simulate
from lib.streams import StreamSink, StreamSource, cycles, reset, start_clock
from virtio_rtl.types.packet import packet_beat
from virtio_rtl.types.virtqueue import Buffer, Completion, Reply, Segment
from virtio_rtl.virtqueue.scatter import Scatter


@dataclass
class Case:
    """A buffer's segments (address, length, writable), and the reply; None: it is in error."""

    segments: list[tuple[int, int, int]]
    reply: bytes | None

    @property
    def room(self) -> int:
        """Writable bytes."""
        return sum(length for _, length, writable in self.segments if writable)

    @property
    def written(self) -> int:
        """Length that the driver is told."""
        return len(self.reply) if self.reply is not None and len(self.reply) <= self.room else 0

    def pieces(self) -> list[tuple[int, bytes]]:
        """Where the reply's bytes must go, in order."""
        rest, found = (self.reply or b"")[: self.written], []
        for address, length, writable in self.segments:
            if writable and length and rest:
                found.append((address, rest[:length]))
                rest = rest[length:]
        return found


class Rig:
    """Scatter, buffers that come by themselves, a device that replies, and memory."""

    def __init__(self, dut: Any, *, stall: float, latency: tuple[int, int] = (2, 30)):
        self.dut = dut
        self.width = params().width
        start_clock(dut)
        self.memory = PatternMemory()
        self.replies = StreamSource(dut, "reply", Reply, stall=stall)
        self.packets = StreamSource(dut, "packet", packet_beat(self.width), stall=stall)
        self.segments = StreamSource(dut, "segment", Segment, stall=stall)
        self.records = StreamSource(dut, "buffer", Buffer, stall=stall)
        self.writes = WriteClientModel(
            dut, "request", "write_packet", "done", self.memory, self.width,
            latency=latency, stall=stall,
        )  # fmt: skip
        self.completions = StreamSink(dut, "completion", Completion, stall=stall)
        self.failed = Strobes(dut, "failed")
        self.idle = IdleWatch(dut)

    def offer(self, cases: list[Case]) -> None:
        """The driver's buffers."""
        for number, case in enumerate(cases):
            broken = case.reply is None
            self.segments.queue(
                {"queue": number % 5, "address": a, "length": 0 if broken else n, "writable": w,
                 "last": k == len(case.segments) - 1}
                for k, (a, n, w) in enumerate(case.segments)
            )  # fmt: skip
            self.records.queue(
                [{"queue": number % 5, "id": number, "slots": 3, "writable": case.room,
                  "error": broken}]
            )  # fmt: skip

    def reply(self, cases: list[Case]) -> None:
        """The device's replies and their packets."""
        for case in cases:
            if case.reply is not None:
                self.replies.queue([{"length": len(case.reply)}])
                self.packets.queue(packet_beats(case.reply, self.width))

    async def check(self, cases: list[Case]) -> None:
        """Every buffer once, in order, and in memory what the replies say."""
        for number, case in enumerate(cases):
            assert await self.completions.receive() == {
                "function": 0, "queue": number % 5, "id": number, "slots": 3,
                "written": case.written, "error": case.reply is None,
            }  # fmt: skip
        await self.packets.idle()
        await nothing_more(self.dut, self.completions)
        groups = [case.pieces() for case in cases if case.written]
        assert [bytes_at(group) for group in self.writes.groups] == [
            bytes_at(group) for group in groups
        ]
        assert self.failed.count == sum(case.reply is None for case in cases)
        assert self.idle.now, "all buffers are back"


def bytes_at(group: list[tuple[int, bytes]]) -> list[tuple[int, int]]:
    """Each byte with its address, in the order of writing."""
    return [pair for address, piece in group for pair in enumerate(piece, address)]


def random_case() -> Case:
    kinds = random.choice([(0, 1), (1,), (1, 1, 7, 64), (64, 300), (0, 4096, 5000)])
    count = random.choice([1, 1, 2, 3, 16])
    readable = random.choice([0, 0, 1])
    segments = [
        (random.getrandbits(60), random.choice(kinds), int(k >= readable)) for k in range(count)
    ]
    case = Case(segments, None)
    if random.random() > 0.1:
        lengths = [0, 1, case.room, case.room, case.room // 2, case.room + 1, case.room + 300]
        case.reply = random.randbytes(random.choice(lengths))
    return case


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def lays_replies_over_random_buffers(dut: Any) -> None:
    """Full, partial and empty replies, too long ones, errors, byte by byte: all in order."""
    rig = Rig(dut, stall=random.choice([0.0, 0.2]))
    await reset(dut)
    cases = [random_case() for _ in range(200)]
    rig.offer(cases)
    rig.reply(cases)
    await rig.check(cases)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def an_error_waits_for_no_reply(dut: Any) -> None:
    """The device is never told of it; buffers behind wait for theirs."""
    rig = Rig(dut, stall=0.2)
    await reset(dut)
    cases = [Case([(0, 9, 0), (64, 9, 1)], None) for _ in range(3)]
    behind = Case([(128, 64, 1)], random.randbytes(64))
    rig.offer([*cases, behind])
    await cycles(dut, 200)
    assert rig.completions.count == 3
    rig.reply([behind])
    await rig.check([*cases, behind])


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_long_reply(dut: Any) -> None:
    """More bytes than 16 bits count, in segments of several lengths, and one that just fits."""
    rig = Rig(dut, stall=0.0, latency=(2, 2))
    await reset(dut)
    total = (1 << 17) + 4097 if params().width == 256 else 70_001
    cases = [
        Case([(8, 16, 0), (1 << 40, total, 1)], random.randbytes(total)),
        Case([(1 << 41, total - 1, 1), (9, 1, 1)], random.randbytes(total)),
        Case([(1 << 42, total - 1, 1)], random.randbytes(total)),
        Case([(1 << 43, 40, 1)], random.randbytes(40)),
    ]
    rig.offer(cases)
    rig.reply(cases)
    await rig.check(cases)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def keeps_pace_with_segments(dut: Any) -> None:
    """A buffer costs a cycle and one for each segment, if the data are as fast."""
    rig = Rig(dut, stall=0.0, latency=(0, 0))
    requests = Moves(dut, "request")
    await reset(dut)
    lanes = params().width // 8
    cases = [
        Case([(k << 16, lanes, 1), (k << 17, 1, 1)], random.randbytes(lanes + 1)) for k in range(40)
    ]
    rig.offer(cases)
    rig.reply(cases)
    await rig.check(cases)
    # Two beats a buffer, and three cycles.
    assert spread(requests.cycles) <= 3 * 40


@pytest.mark.parametrize("width", [64, 256])
def test_scatter_of_requests(width: int) -> None:
    simulate(
        Scatter(width, length_bits=26, requests=True), module=__name__,
        name=f"scatter_requests_{width}", params={"width": width},
    )  # fmt: skip
