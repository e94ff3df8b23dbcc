"""MTU limit: frames above the MTU are marked and counted, all others pass untouched."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from virtqueue_helper import Moves, Strobes, nothing_more, spread

from lib.dma_model import packet_beats, packet_bytes
from lib.sim import params, simulate
from lib.streams import StreamSink, StreamSource, reset, start_clock
from virtio_rtl.device.mtu_limit import MTULimit
from virtio_rtl.types.packet import packet_beat

TAGS = (b"\x81\x00", b"\x88\xa8")
NO_TAGS = (b"\x08\x00", b"\x00\x81", b"\xa8\x88", b"\x81\xa8", b"\x88\x00", b"\x81\x01")


def make_frame(length: int, ether_type: bytes) -> bytes:
    return (random.randbytes(12) + ether_type + random.randbytes(length))[:length]


def above_limit(frame: bytes, mtu: int) -> bool:
    """What a reader of the Ethernet standard says."""
    header = 18 if frame[12:14] in TAGS else 14
    return len(frame) - header > mtu


class Rig:
    """The limit between a port and a FIFO."""

    def __init__(self, dut: Any, *, stall: float):
        self.dut, self.width, self.mtu = dut, params().width, params().mtu
        start_clock(dut)
        self.source = StreamSource(dut, "input", packet_beat(self.width), stall=stall)
        self.sink = StreamSink(dut, "output", packet_beat(self.width), stall=stall)
        self.dropped = Strobes(dut, "dropped")
        self.taken = Moves(dut, "input")

    async def check(self, frames: list[tuple[bytes, bool]]) -> None:
        """Send frames, some in error already; compare contents, marks and the count."""
        for frame, bad in frames:
            beats = packet_beats(frame, self.width, error=bad)
            for beat in beats[:-1]:
                beat["error"] = random.getrandbits(1)  # counts on the last beat only
            self.source.queue(beats)
        for frame, bad in frames:
            got, error = await packet_bytes(self.sink)
            assert got == frame
            assert error == (bad or above_limit(frame, self.mtu)), (len(frame), frame[12:14])
        await nothing_more(self.dut, self.sink, wait=5)
        assert self.dropped.count == sum(above_limit(frame, self.mtu) for frame, _ in frames)


@cocotb.test(timeout_time=4, timeout_unit="ms")
async def every_length_around_the_limit(dut: Any) -> None:
    """A beat below to a beat above, with a tag, without, and with what only looks like one."""
    rig = Rig(dut, stall=0.0)
    await reset(dut)
    lanes = rig.width // 8
    lengths = range(rig.mtu + 14 - lanes, rig.mtu + 18 + lanes + 2)
    frames = [
        (make_frame(length, kind), False) for length in lengths for kind in (*TAGS, NO_TAGS[0])
    ]
    frames += [
        (make_frame(rig.mtu + more, kind), False) for more in (14, 15, 18, 19) for kind in NO_TAGS
    ]
    random.shuffle(frames)
    await rig.check(frames)


@cocotb.test(timeout_time=4, timeout_unit="ms")
async def random_frames_under_stalls(dut: Any) -> None:
    """From one byte to far above the limit, some in error; no frame leaves a trace in the next."""
    rig = Rig(dut, stall=0.2)
    await reset(dut)
    frames = []
    for _ in range(150):
        edge = rig.mtu + random.choice([14, 15, 18, 19])
        length = random.choice([edge, edge, random.randint(1, 80), random.randint(1, 3 * rig.mtu)])
        frame = make_frame(length, random.choice(TAGS + NO_TAGS))
        frames.append((frame, random.random() < 0.15))
    await rig.check(frames)


@cocotb.test(timeout_time=4, timeout_unit="ms")
async def one_beat_a_cycle(dut: Any) -> None:
    """Frames of all kinds pass back to back."""
    rig = Rig(dut, stall=0.0)
    await reset(dut)
    lengths = (1, 60, rig.mtu + 14, rig.mtu + 15, rig.mtu + 18, 2 * rig.mtu + 99)
    frames = [(make_frame(length, random.choice(TAGS)), False) for length in lengths * 2]
    await rig.check(frames)
    lanes = rig.width // 8
    assert spread(rig.taken.cycles) == sum(-(-len(frame) // lanes) for frame, _ in frames)


@pytest.mark.parametrize(("width", "mtu"), [(64, 1500), (128, 68), (256, 1500), (512, 68)])
def test_mtu_limit(width: int, mtu: int) -> None:
    simulate(
        MTULimit(width, mtu),
        module=__name__,
        name=f"mtu_limit_{width}_{mtu}",
        params={"width": width, "mtu": mtu},
    )


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="width"):
        MTULimit(32, 1500)
    with pytest.raises(ValueError, match="mtu"):
        MTULimit(64, 67)
