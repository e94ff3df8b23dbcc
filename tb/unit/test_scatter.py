"""Scatter: one packet laid over the writable segments of the next buffer."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from virtqueue_helper import (
    IdleWatch,
    Moves,
    PatternMemory,
    Strobes,
    nothing_more,
    spread,
    until,
)

from lib.dma_model import WriteClientModel, packet_beats
from lib.sim import params, simulate
from lib.streams import StreamSink, StreamSource, cycles, reset, start_clock
from virtio_rtl.types.packet import packet_beat
from virtio_rtl.types.virtqueue import Buffer, Completion, Segment, WritableRequest
from virtio_rtl.virtqueue.scatter import Scatter
from virtio_rtl.virtqueue.service import BurstRequest

Layout = tuple[list[tuple[int, int, int]], int]  # segments (address, length, writable); error
ABSENT: Layout = ([(0, 0, 0)], 0)  # no buffer: what Walk answers instead


class Rig:
    """Scatter, a driver's buffers handed out one per take, and memory.

    Each packet is for a random virtqueue, and meets the next buffer.
    """

    def __init__(self, dut: Any, buffers: list[Layout], *, stall: float, latency=(2, 30)):
        self.dut = dut
        self.width = params().width
        start_clock(dut)
        self.memory = PatternMemory()
        self.buffers = buffers
        self.owners: list[int] = []  # of the packets
        self.taken = 0
        self.wanted = StreamSource(dut, "wanted", WritableRequest, stall=stall)
        self.packets = StreamSource(dut, "packet", packet_beat(self.width), stall=stall)
        self.take = StreamSink(dut, "take", BurstRequest, stall=stall)
        self.segments = StreamSource(dut, "segment", Segment, stall=stall)
        self.records = StreamSource(dut, "buffer", Buffer, stall=stall)
        self.writes = WriteClientModel(
            dut, "request", "write_packet", "done", self.memory, self.width,
            latency=latency, stall=stall,
        )  # fmt: skip
        self.completions = StreamSink(dut, "completion", Completion, stall=stall)
        self.dropped, self.failed = Strobes(dut, "dropped"), Strobes(dut, "failed")
        self.idle = IdleWatch(dut)
        cocotb.start_soon(self._walk())

    async def _walk(self) -> None:
        while True:
            take = await self.take.receive()
            assert self.taken < len(self.buffers), "more buffers asked for than packets"
            queue = self.owners[self.taken]
            assert take == {"queue": queue, "buffers": 1}
            segments, error = buffer = self.buffers[self.taken]
            self.segments.queue(
                {"queue": queue, "address": a, "length": n, "writable": w,
                 "last": k == len(segments) - 1}
                for k, (a, n, w) in enumerate(segments)
            )  # fmt: skip
            record = {"queue": queue, "absent": 1}
            if buffer is not ABSENT:
                room = room_of(segments)
                record = {
                    "queue": queue, "id": self.taken, "slots": 3, "writable": room,
                    # A lack of room is for the device to find.
                    "error": error and room >= params().least_bytes,
                }  # fmt: skip
            self.records.queue([record])
            self.taken += 1

    def put(self, packets: list[bytes]) -> None:
        for packet in packets:
            self.owners.append(random.choice([0, 2, 4]))
            self.wanted.queue([{"queue": self.owners[-1], "length": len(packet)}])
            self.packets.queue(packet_beats(packet, self.width))

    async def check(self, packets: list[bytes]) -> None:
        """Compare with a golden placing: a buffer a packet, given back whether it fits or not."""
        lost = broken = 0
        groups = []
        done = []
        for number, (packet, buffer) in enumerate(zip(packets, self.buffers, strict=False)):
            segments, error = buffer
            fits = not error and len(packet) <= room_of(segments)
            if buffer is not ABSENT:
                done.append((number, len(packet) if fits else 0, error))
            if not fits:
                lost += 1
                broken += error
                continue
            layout, rest = [], packet
            for address, length, writable in segments:
                if writable and length and rest:
                    layout.append((address, rest[:length]))
                    rest = rest[length:]
            groups.append(layout)
        for number, written, error in done:
            assert await self.completions.receive() == {
                "function": 0, "queue": self.owners[number], "id": number, "slots": 3,
                "written": written, "error": error,
            }  # fmt: skip
        await self.packets.idle()
        await nothing_more(self.dut, self.completions)
        assert [joined(group) for group in self.writes.groups] == groups
        assert (self.dropped.count, self.failed.count) == (lost, broken)
        assert self.taken == len(packets)
        assert self.idle.now, "all buffers are back"


def room_of(segments: list[tuple[int, int, int]]) -> int:
    """Writable bytes of a buffer."""
    return sum(length for _, length, writable in segments if writable)


def joined(group: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Put the chunks of one segment together again; each but a segment's last has 4096 bytes."""
    whole: list[tuple[int, bytes]] = []
    for address, piece in group:
        assert 1 <= len(piece) <= 4096
        if whole and whole[-1][0] + len(whole[-1][1]) == address and len(whole[-1][1]) % 4096 == 0:
            whole[-1] = (whole[-1][0], whole[-1][1] + piece)
        else:
            whole.append((address, piece))
    return whole


def random_layout() -> Layout:
    kinds = random.choice([(0, 1), (1,), (0, 1, 7, 64), (64, 300), (0, 4096, 4097, 9000)])
    count = random.choice([1, 1, 1, 2, 4, 16])
    segments = [
        (random.getrandbits(63), random.choice(kinds), int(random.random() < 0.85))
        for _ in range(count)
    ]
    return segments, int(random.random() < 0.07)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def lays_packets_over_random_buffers(dut: Any) -> None:
    """What fits exactly, zero-length, 1-byte and readable segments, errors, no buffer.

    A misfit's buffer comes back empty, none does not come back; neither stops those behind.
    """
    least = params().least_bytes
    buffers: list[Layout] = []
    packets = []
    for _ in range(200):
        segments, error = random_layout()
        room = room_of(segments)
        if random.random() < 0.15:
            buffers.append(ABSENT)
        else:
            buffers.append((segments, int(error or room < least)))
        choices = [room + 1, room, room, random.randint(1, max(room, 1)), room + 300]
        packets.append(random.randbytes(max(random.choice(choices), least, 1)))
    rig = Rig(dut, buffers, stall=0.2)
    await reset(dut)
    rig.put(packets)
    await rig.check(packets)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_misfit_leaves_nothing_inside(dut: Any) -> None:
    """However many too long packets come: each gives its buffer back, empty and without error."""
    buffers: list[Layout] = [([(i << 16, 100, 1)], 0) for i in range(80)]
    rig = Rig(dut, buffers, stall=0.0)
    await reset(dut)
    packets = [random.randbytes(101) for _ in range(75)] + [random.randbytes(100)]
    rig.put(packets)
    await rig.check(packets)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_useless_buffer_is_an_error(dut: Any) -> None:
    """Room for less than the shortest packet is an error; room for just that packet is not."""
    least = params().least_bytes
    rooms = [0, 1, least - 1, least, 0, least, least + 5, least + 5]
    buffers: list[Layout] = [
        ([(7, 60, 0), (i << 16, room, 1), (9, 60, 0)], int(room < least))
        for i, room in enumerate(rooms)
    ]
    rig = Rig(dut, buffers, stall=0.2)
    await reset(dut)
    packets = [random.randbytes(least + more) for more in (0, 5, 0, 1, 0, 0, 6, 5)]
    rig.put(packets)
    await rig.check(packets)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def idle_while_packets_wait_for_buffers(dut: Any) -> None:
    """Packets without a buffer are no reason to be busy; a buffer is, until it is given back."""
    buffers: list[Layout] = [([(0, 64, 1)], 0)]
    rig = Rig(dut, buffers, stall=0.0, latency=(60, 60))
    rig.take.stall = 1.0
    await reset(dut)
    packet = random.randbytes(64)
    rig.put([packet])
    await cycles(dut, 50)
    assert rig.idle.now
    rig.take.stall = 0.0
    await until(dut, lambda: not rig.idle.now, 50)
    await rig.check([packet])


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def data_wait_for_their_verdict(dut: Any) -> None:
    """No byte leaves before a buffer is known to hold the whole packet."""
    buffers: list[Layout] = [([(0, 64, 1)], 0)]
    rig = Rig(dut, buffers, stall=0.0)
    rig.take.stall = 1.0
    await reset(dut)
    packet = random.randbytes(64)
    rig.put([packet])
    await cycles(dut, 50)
    assert not int(dut.write_packet__valid.value)
    assert not int(dut.request__valid.value)
    rig.take.stall = 0.0
    await rig.check([packet])


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def completes_after_done_only(dut: Any) -> None:
    """A completion waits for the write's done, and those of later buffers wait for it."""
    buffers: list[Layout] = [([(0, 64, 1)], 0), ([(0, 64, 1)], 1), ([(9, 64, 1)], 0)]
    rig = Rig(dut, buffers, stall=0.0, latency=(300, 300))
    await reset(dut)
    packets = [random.randbytes(64) for _ in range(3)]
    rig.put(packets)
    await cycles(dut, 250)
    assert len(rig.completions) == 0
    await rig.check(packets)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def keeps_pace(dut: Any) -> None:
    """Two cycles a packet of one segment; data without a gap where a packet has two beats."""
    lanes = params().width // 8
    buffers: list[Layout] = [([(i << 16, 2 * lanes, 1)], 0) for i in range(50)]
    rig = Rig(dut, buffers, stall=0.0, latency=(0, 0))
    requests, beats = Moves(dut, "request"), Moves(dut, "write_packet")
    await reset(dut)
    packets = [random.randbytes(2 * lanes) for _ in range(50)]
    # Buffers ahead: the walker's answers are there when the packets come.
    rig.owners = [4] * len(packets)
    rig.wanted.queue([{"queue": 4, "length": 2 * lanes} for _ in packets])
    await until(dut, lambda: rig.taken == 50)
    rig.packets.queue(beat for packet in packets for beat in packet_beats(packet, rig.width))
    await rig.check(packets)
    # 16 verdicts were there already; with them, packets need never wait.
    assert spread(beats.cycles) == 100
    assert len(requests.cycles) == 50
    assert spread(requests.cycles[:16]) == 31


GENERAL_TESTS = [
    "lays_packets_over_random_buffers", "a_misfit_leaves_nothing_inside",
    "idle_while_packets_wait_for_buffers", "data_wait_for_their_verdict",
    "completes_after_done_only", "keeps_pace",
]  # fmt: skip


@pytest.mark.parametrize("width", [64, 128, 256, 512])
def test_scatter(width: int) -> None:
    simulate(
        Scatter(width), module=__name__, name=f"scatter_{width}", testcase=GENERAL_TESTS,
        params={"width": width, "least_bytes": 0},
    )  # fmt: skip


def test_scatter_with_least_bytes() -> None:
    """A shortest packet of 13 bytes."""
    simulate(
        Scatter(128, least_bytes=13), module=__name__, name="scatter_least_bytes",
        testcase=["a_useless_buffer_is_an_error", "lays_packets_over_random_buffers"],
        params={"width": 128, "least_bytes": 13},
    )  # fmt: skip
