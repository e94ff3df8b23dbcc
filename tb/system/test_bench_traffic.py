"""The benchmark's traffic hardware: frames that are made, and frames that are checked."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from cocotb.triggers import RisingEdge

from bench.pattern import LENGTHS, LengthWrite, expected_frames
from bench.wrapper import FrameChecker, FrameGenerator
from lib.layout import pack
from lib.sim import params, simulate
from lib.streams import reset, start_clock
from virtio_rtl.types.axis import AXIStream

FRAMES = 12
STEP = 0x9E3779B1


class Tap(wiring.Component):
    """A generator whose stream stands outside, and a checker that is fed from outside."""

    def __init__(self, width: int, pairs: int):
        self.width = width
        self.pairs = pairs
        bits = (pairs - 1).bit_length()
        super().__init__(
            {
                "enable": In(1),
                "lengths": In(LengthWrite),
                "made": Out(AXIStream(width, bits)),
                "sent": Out(32),
                "taken": Out(32),
                "errors": Out(32),
                "check_valid": In(1),
                "check_data": In(width),
                "check_keep": In(width // 8),
                "check_last": In(1),
                "check_user": In(1),
                "check_dest": In(max(bits, 1)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Wire both."""
        m = Module()
        m.submodules.generator = generator = FrameGenerator(self.width, self.pairs)
        m.submodules.checker = checker = FrameChecker(self.width, self.pairs)
        wiring.connect(m, generator.port, wiring.flipped(self.made))
        m.d.comb += [
            generator.enable.eq(self.enable),
            generator.lengths.eq(self.lengths),
            checker.lengths.eq(self.lengths),
            self.sent.eq(generator.sent),
            self.taken.eq(checker.taken),
            self.errors.eq(checker.errors),
            checker.port.tvalid.eq(self.check_valid),
            checker.port.tdata.eq(self.check_data),
            checker.port.tkeep.eq(self.check_keep),
            checker.port.tlast.eq(self.check_last),
            checker.port.tuser.eq(self.check_user),
        ]
        if self.pairs > 1:
            m.d.comb += checker.port.tdest.eq(self.check_dest)
        return m


async def prepare(dut: Any, lengths: list[int]) -> Any:
    """Reset, with everything quiet; load the lengths; give the edge to wait for."""
    start_clock(dut)
    for name in ("enable", "made__tready", "check_valid", "check_user", "check_dest", "lengths"):
        getattr(dut, name).value = 0
    await reset(dut)
    edge = RisingEdge(dut.clk)
    # The whole table, for that is what makes all pairs begin anew.
    for index, length in enumerate(lengths + [1] * (LENGTHS - len(lengths))):
        write = {"enable": 1, "index": index, "bytes": length}
        dut.lengths.value = pack(LengthWrite, write)
        await edge
    dut.lengths.value = 0
    return edge


def golden_beats(number: int, length: int, lanes: int, pair: int = 0) -> list[tuple[bytes, int]]:
    """Return a frame as (bytes, last) beats; written without the hardware's arithmetic."""
    words = -(-length // 4)
    whole = b"".join(
        (number ^ word * STEP % (1 << 32) ^ pair << 24).to_bytes(4, "little")
        for word in range(words)
    )[:length]
    pieces = [whole[at : at + lanes] for at in range(0, length, lanes)]
    return [(piece, int(index == len(pieces) - 1)) for index, piece in enumerate(pieces)]


def draw_lengths(length: int) -> list[int]:
    """Return equal lengths, or for 0 random ones."""
    return [length or random.randint(1, 300) for _ in range(FRAMES)]


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(("length", [0, 1, 14, 60, 64, 65, 129]), ("stall", [0.0, 0.4]))
async def generates_numbered_frames(dut, length, stall):
    """Every byte is right, the pairs take turns; without stalls a beat leaves in every cycle."""
    lanes, pairs = params().width // 8, params().pairs
    lengths = draw_lengths(length)
    edge = await prepare(dut, lengths)
    expected = [
        (beat, frame % pairs)
        for frame in range(FRAMES)
        for beat in golden_beats(frame // pairs, lengths[frame // pairs], lanes, frame % pairs)
    ]
    dut.enable.value = 1
    dut.made__tready.value = 1
    got, waited = 0, 0
    while got < len(expected):
        await edge
        if int(dut.made__tvalid.value) and int(dut.made__tready.value):
            (data, last), pair = expected[got]
            value = int(dut.made__tdata.value) & (1 << 8 * len(data)) - 1
            assert value == int.from_bytes(data, "little")
            assert int(dut.made__tkeep.value) == (1 << len(data)) - 1
            assert int(dut.made__tlast.value) == last
            if pairs > 1:
                assert int(dut.made__tdest.value) == pair
            got += 1
        else:
            waited += 1
        dut.made__tready.value = int(random.random() >= stall)
    assert stall or waited <= 1  # the enable takes a cycle to arrive
    dut.made__tready.value = 0
    await edge
    await edge
    if stall == 0.0:
        assert int(dut.sent.value) in (FRAMES, FRAMES + 1)


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(("mistake", ["none", "data", "keep", "last", "user", "lost", "pair"]))
async def finds_mistakes(dut, mistake):
    """A good stream passes with gaps, the pairs in any order; one wrong bit anywhere is counted."""
    width, pairs = params().width, params().pairs
    lanes = width // 8
    lengths = [2 * lanes + random.randrange(1, lanes) for _ in range(FRAMES)]
    edge = await prepare(dut, lengths)
    counts = [0] * pairs
    frames = []
    some = [random.randrange(pairs) for _ in range(3)]
    # The first pair comes again, so that the loss of its first frame shows.
    for pair in [some[0], *random.choices(some, k=6), some[0]]:
        number = counts[pair]
        counts[pair] += 1
        frames.append((pair, golden_beats(number, lengths[number], lanes, pair)))
    if mistake == "lost":
        del frames[0]
    if mistake == "pair":
        if pairs == 1:
            return
        frames[3] = ((frames[3][0] + 1) % pairs, frames[3][1])
    for index, (pair, frame) in enumerate(frames):
        for place, (data, last) in enumerate(frame):
            wrong = index == 3 and place == len(frame) - 1
            keep = (1 << len(data)) - 1
            bits = int.from_bytes(data, "little")
            if len(data) < lanes:  # lanes that are not kept may hold anything
                bits |= random.getrandbits(8 * (lanes - len(data))) << 8 * len(data)
            if wrong and mistake == "data":
                bits ^= 1 << random.randrange(8 * len(data))
            dut.check_data.value = bits
            dut.check_keep.value = keep >> 1 if wrong and mistake == "keep" else keep
            dut.check_last.value = last ^ int(wrong and mistake == "last")
            dut.check_user.value = int(wrong and mistake == "user")
            dut.check_dest.value = pair
            dut.check_valid.value = 1
            await edge
            dut.check_valid.value = 0
            for _ in range(random.choice([0, 0, 1, 3])):
                await edge
    await edge
    await edge
    errors = int(dut.errors.value)
    if mistake != "last":
        assert int(dut.taken.value) == len(frames)
    assert (errors == 0) == (mistake == "none")
    if mistake in ("data", "keep", "user"):
        assert errors == 1


@pytest.mark.parametrize(("width", "pairs"), [(64, 1), (128, 3), (256, 1), (256, 128), (512, 1)])
def test_traffic_hardware(width, pairs):
    """Generator and checker against frames written down independently."""
    simulate(
        Tap(width, pairs),
        module=__name__,
        name=f"bench_traffic_{width}_{pairs}",
        params={"width": width, "pairs": pairs},
        waive=["made__tuser"],
    )


def test_expected_frames():
    """The numpy version says the same."""
    for pair in (0, 3, 255):
        rows = expected_frames(5, 3, 61, pair)
        for number, row in enumerate(rows, 5):
            beats = golden_beats(number, 61, 8, pair)
            assert row.tobytes() == b"".join(data for data, _ in beats)
