"""RequestSplit: what a request device reads, what it writes, and what it is told."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge
from virtqueue_helper import Moves, nothing_more, spread, until

from lib.port import reader
from lib.sim import params, simulate
from lib.streams import StreamSink, StreamSource, cycles, reset, start_clock
from virtio_rtl.types.virtqueue import MAX_REQUEST_BYTES, Buffer, Request, Segment
from virtio_rtl.virtqueue.request_split import MAX_SEGMENTS, RequestSplit

Piece = tuple[int, int, int]  # address, length, writable


@dataclass
class Case:
    """A buffer as the walker tells it."""

    pieces: list[Piece]
    error: int = 0

    def total(self, writable: int) -> int:
        """Bytes of one part, saturated as the walker does."""
        return min(sum(n for _, n, w in self.pieces if w == writable), 0xFFFF_FFFF)

    @property
    def broken(self) -> bool:
        """Whether the device must never see it."""
        return bool(self.error) or max(self.total(0), self.total(1)) > MAX_REQUEST_BYTES

    def side(self, writable: int) -> list[Piece]:
        """What of it one side is given; what ends it is given to both."""
        return [
            (a, 0 if self.broken else n, w)
            for k, (a, n, w) in enumerate(self.pieces)
            if w == writable or k == len(self.pieces) - 1
        ]


class Rig:
    """RequestSplit between a walker and the two sides."""

    def __init__(self, dut: Any, *, stall: float = 0.0):
        self.dut = dut
        start_clock(dut)
        self.segments = StreamSource(dut, "segment", Segment, stall=stall)
        self.buffers = StreamSource(dut, "buffer", Buffer, stall=stall)
        self.requests = StreamSink(dut, "request", Request, stall=stall)
        self.readable = StreamSink(dut, "readable_segment", Segment, stall=stall)
        self.writable = StreamSink(dut, "writable_segment", Segment, stall=stall)
        self.waiting = StreamSink(dut, "writable_buffer", Buffer, stall=stall)
        self.sinks = (self.requests, self.readable, self.writable, self.waiting)
        dut.readable_buffer__ready.value = 0
        self.idle = reader(dut.idle)
        self._record = reader(dut.readable_buffer__valid)
        self._offered = reader(dut.readable_segment__valid)
        self._segment = reader(dut.readable_segment__payload)
        cocotb.start_soon(self._watch())

    async def _watch(self) -> None:
        """Gather's record stands beside the last segment of each buffer, and only there."""
        last = Segment.as_shape()["last"].offset
        while True:
            await RisingEdge(self.dut.clk)
            beside = bool(self._offered() and self._segment() >> last & 1)
            assert bool(self._record()) == beside

    def put(self, cases: list[Case]) -> None:
        """The walker's streams."""
        for number, case in enumerate(cases):
            for k, (address, length, writable) in enumerate(case.pieces):
                self.segments.queue(
                    [{"queue": number % 5, "address": address, "length": length,
                      "writable": writable, "last": k == len(case.pieces) - 1}]
                )  # fmt: skip
            self.buffers.queue(
                [{"queue": number % 5, "id": number * 3 % 65536, "slots": number % 7,
                  "readable": case.total(0), "writable": case.total(1), "error": case.error}]
            )  # fmt: skip

    async def check(self, cases: list[Case]) -> None:
        """Compare all that comes out."""
        for number, case in enumerate(cases):
            for writable, sink in ((0, self.readable), (1, self.writable)):
                side = case.side(writable)
                for k, piece in enumerate(side):
                    got = await sink.receive()
                    assert (got.address, got.length, got.writable) == piece, f"buffer {number}"
                    assert got.last == (k == len(side) - 1)
            record = await self.waiting.receive()
            assert (record.queue, record.id) == (number % 5, number * 3 % 65536)
            assert (record.slots, record.error) == (number % 7, case.broken)
            if not case.broken:
                assert record.writable == case.total(1)
                assert await self.requests.receive() == {
                    "queue": number % 5, "readable": case.total(0), "writable": case.total(1)
                }  # fmt: skip
        await nothing_more(self.dut, *self.sinks)
        assert self.idle()


def random_case() -> Case:
    """Any mixture; most are as a driver should make them."""
    count = random.choice([1, 1, 2, 3, 3, 8, 20])
    lengths = random.choice([(0, 1), (1, 16, 512), (4096,), (512, 1 << 16)])
    border = random.randint(0, count)
    pieces = [
        (random.getrandbits(63), random.choice(lengths), int(k >= border)) for k in range(count)
    ]
    if random.random() < 0.1:
        pieces.append((random.getrandbits(63), 0, 0))
    return Case(pieces, int(random.random() < 0.1))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def splits_random_buffers(dut: Any) -> None:
    """Every segment on its side, every buffer once, whatever stalls."""
    rig = Rig(dut, stall=random.choice([0.0, 0.2, 0.5]))
    await reset(dut)
    cases = [random_case() for _ in range(250)]
    rig.put(cases)
    await rig.check(cases)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def parts_at_the_limit(dut: Any) -> None:
    """A part of just the longest length is a request; a byte more is an error, at any total."""
    rig = Rig(dut, stall=0.2)
    await reset(dut)
    longest = MAX_REQUEST_BYTES
    cases = []
    for length in (longest - 1, longest, longest + 1, 2 * longest, (1 << 32) - 1):
        cases += [
            Case([(5, length, 0), (9, 1, 1)]),
            Case([(5, 16, 0), (9, length, 1)]),
            Case([(5, 16, 0), (6, length, 1), (7, 0, 1), (9, 0, 0)]),
            Case([(5, length - 9, 0), (6, 9, 0), (7, length - 1, 1), (8, 1, 1)]),
        ]
    rig.put(cases)
    await rig.check(cases)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def the_longest_buffer_waits_for_nobody(dut: Any) -> None:
    """It gets through though neither side takes anything: a device may couple both sides."""
    most = MAX_SEGMENTS + 1  # a walker's chain of too many has one more
    for readable in (0, most // 2, most):
        rig = Rig(dut)
        rig.readable.stall = rig.writable.stall = rig.waiting.stall = 1.0
        await reset(dut)
        cases = [Case([(k, 9, int(k >= readable)) for k in range(most)])]
        rig.put(cases)
        await until(dut, lambda one=rig: len(one.requests) == 1, 2 * most)
        assert not rig.idle()
        rig.readable.stall = rig.writable.stall = rig.waiting.stall = 0.0
        await rig.check(cases)
        for model in (*rig.sinks, rig.segments, rig.buffers):
            model.stop()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def many_requests_ahead(dut: Any) -> None:
    """The device is told of all that may be in flight before it has replied to any."""
    rig = Rig(dut)
    rig.waiting.stall = 1.0
    await reset(dut)
    cases = [Case([(k, 16, 0), (k, 512, 1), (k, 1, 1)]) for k in range(80)]
    rig.put(cases)
    await cycles(dut, 400)
    assert params().in_flight <= len(rig.requests) < 80
    assert not rig.idle()
    rig.waiting.stall = 0.0
    await rig.check(cases)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def busy_until_all_is_taken(dut: Any) -> None:
    """Not idle as long as anyone has still something to take, whoever it is."""
    for blocked in range(4):
        rig = Rig(dut)
        rig.sinks[blocked].stall = 1.0
        await reset(dut)
        assert rig.idle()
        cases = [Case([(k, 16, 0), (k, 512, 1)]) for k in range(3)]
        rig.put(cases)
        await cycles(dut, 60)
        assert not rig.idle()
        rig.sinks[blocked].stall = 0.0
        await rig.check(cases)
        for model in (*rig.sinks, rig.segments, rig.buffers):
            model.stop()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def one_segment_a_cycle(dut: Any) -> None:
    """No gap, inside of a buffer and between buffers."""
    rig = Rig(dut)
    moves = Moves(dut, "segment")
    await reset(dut)
    cases = [
        Case([(k, 16, 0)] + [(k, 512, 1)] * more) for k, more in enumerate([0, 1, 2, 5, 0, 0] * 15)
    ]
    rig.put(cases)
    await rig.check(cases)
    total = sum(len(case.pieces) for case in cases)
    assert spread(moves.cycles) == total


@pytest.mark.parametrize("in_flight", [64])
def test_request_split(in_flight: int) -> None:
    simulate(
        RequestSplit(in_flight=in_flight), module=__name__, name="request_split",
        params={"in_flight": in_flight},
        # What of the records means nothing on a side.
        waive=["readable_buffer__payload"],
    )  # fmt: skip
