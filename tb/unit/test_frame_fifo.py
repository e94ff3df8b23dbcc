"""Store-and-forward FIFO of frames: whole and good ones come out, the rest leaves no trace."""

import random

import cocotb
import pytest
from cocotb.triggers import RisingEdge
from frame_fifo_rig import Bench, beats_of, random_frames

from lib.sim import simulate
from lib.streams import cycles
from virtio_rtl.lib.frame_fifo import FrameFIFO

# What comes out.


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def passes_good_frames_only(dut):
    """Errors and overlong frames vanish whole, everything else arrives, whoever stalls."""
    for stalls in ((0.0, 0.0, 0.0), (0.4, 0.0, 0.0), (0.0, 0.5, 0.1), (0.2, 0.2, 0.7)):
        bench = await Bench(dut, stalls).start()
        frames = random_frames(bench, 60)
        for frame, error in frames:
            bench.source.queue(beats_of(frame, bench.lanes, error))
        await bench.drained()
        out = bench.check()
        if not bench.drops_when_full:
            assert out == [f for f, error in frames if not error and len(f) <= bench.longest]
            assert bench.golden.drops == sum(len(f) > bench.longest for f, _ in frames)
        assert out
        bench.stop()


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def aborts_the_frame_being_written(dut):
    """Aborts at any time: only the frame in the middle vanishes."""
    for stalls in ((0.0, 0.0, 0.0), (0.3, 0.3, 0.3)):
        bench = await Bench(dut, stalls).start()
        bench.aborts = 0.08
        for frame, error in random_frames(bench, 120):
            bench.source.queue(beats_of(frame, bench.lanes, error))
        await bench.drained()
        assert 5 < len(bench.check()) < 118
        bench.stop()


@cocotb.test(timeout_time=200, timeout_unit="us")
async def abort_between_frames_does_nothing(dut):
    """An abort while no frame is being written; committed frames stay as well."""
    bench = Bench(dut)
    bench.sink.stall = 1.0
    await bench.start()
    frames = [random.randbytes(n) for n in (20, 1, bench.lanes)]
    for frame in frames:
        bench.source.queue(beats_of(frame, bench.lanes))
        await bench.source.idle()
        await cycles(dut, 3)
        dut.abort.value = 1
        await cycles(dut, 3)
        dut.abort.value = 0
    bench.sink.stall = 0.0
    await bench.drained()
    assert bench.check() == frames


@cocotb.test(timeout_time=200, timeout_unit="us")
async def abort_in_the_middle_ignores_the_rest(dut):
    """The rest of the frame is swallowed whenever it comes, the next frame is whole again."""
    bench = await Bench(dut).start()
    first, second = random.randbytes(bench.longest), random.randbytes(bench.lanes)
    items = beats_of(first, bench.lanes)
    bench.source.queue(items[:2])
    await bench.source.idle()
    dut.abort.value = 1
    await cycles(dut, 1)
    dut.abort.value = 0
    await cycles(dut, 20)
    bench.source.queue(items[2:] + beats_of(second, bench.lanes))
    await bench.drained()
    assert bench.check() == [second]
    assert not bench.golden.drops


@cocotb.test(timeout_time=200, timeout_unit="us")
async def abort_with_the_overlong_beat_is_no_drop(dut):
    """The beat that would make a frame too long comes in the cycle of the abort."""
    bench = await Bench(dut).start()
    good = random.randbytes(5)
    bench.source.queue(beats_of(random.randbytes(bench.longest + 3 * bench.lanes), bench.lanes))
    bench.source.queue(beats_of(good, bench.lanes))
    before = bench.longest // bench.lanes
    while before:
        await RisingEdge(dut.clk)
        before -= int(dut.input__valid.value) and int(dut.input__ready.value)
    dut.abort.value = 1
    await cycles(dut, 1)
    dut.abort.value = 0
    await bench.drained()
    assert bench.check() == [good]
    assert not bench.golden.drops


@cocotb.test(timeout_time=200, timeout_unit="us")
async def takes_the_longest_frame_and_no_longer(dut):
    """One byte decides; a frame larger than the FIFO does not block the input."""
    bench = await Bench(dut).start()
    lengths = [0, 1, 0, bench.lanes, 10 * bench.longest, 0]
    frames = [random.randbytes(bench.longest + more) for more in lengths]
    for frame in frames:
        bench.source.queue(beats_of(frame, bench.lanes))
        await bench.drained()
    assert bench.check() == [frame for frame in frames if len(frame) == bench.longest]
    assert bench.golden.drops == 3


@cocotb.test(timeout_time=200, timeout_unit="us")
async def dropped_frames_leave_their_room(dut):
    """After many bad frames the FIFO holds as much as before."""
    bench = Bench(dut)
    bench.sink.stall = 1.0
    await bench.start()
    for _ in range(20):
        bench.source.queue(beats_of(random.randbytes(bench.longest), bench.lanes, error=True))
    good = random.randbytes(bench.longest)
    bench.source.queue(beats_of(good, bench.lanes))
    await bench.source.idle()
    bench.sink.stall = 0.0
    await bench.drained()
    assert bench.check() == [good]


# Room.


@cocotb.test(timeout_time=200, timeout_unit="us")
async def holds_what_it_says(dut):
    """With nobody reading: as many beats as stated; then `input` stalls, or frames are dropped."""
    bench = Bench(dut, (0.0, 1.0, 0.0))
    await bench.start()
    size = min(2 * bench.lanes, bench.longest)  # two beats each, if they fit
    frames = [random.randbytes(size) for _ in range(bench.depth)]
    for frame in frames:
        bench.source.queue(beats_of(frame, bench.lanes))
    await cycles(dut, 4 * bench.depth)
    # The beat in the output register has left the memory.
    if bench.drops_when_full:
        assert len(bench.taken) == 2 * bench.depth
        assert len(bench.golden.frames) == bench.depth // 2
        assert bench.golden.drops == bench.depth // 2
    else:
        assert len(bench.taken) == bench.depth + 1
        assert len(bench.golden.frames) == bench.depth // 2
    bench.sink.stall = 0.0
    await bench.drained()
    out = bench.check()
    assert out == frames[: len(out)]
    assert bench.drops_when_full or out == frames


@cocotb.test(timeout_time=200, timeout_unit="us")
async def counts_frames_whose_length_was_not_taken(dut):
    """Lengths that nobody takes stop the input, or make it drop; no frame loses its length."""
    bench = Bench(dut, (0.0, 0.0, 1.0))
    await bench.start()
    total = bench.max_frames + 5
    frames = [random.randbytes(3) for _ in range(total)]
    for frame in frames:
        bench.source.queue(beats_of(frame, bench.lanes))
    await cycles(dut, 4 * total)
    assert len(bench.golden.frames) == bench.max_frames
    assert bench.golden.drops == (5 if bench.drops_when_full else 0)
    bench.lengths.stall = 0.0
    await bench.drained()
    out = bench.check()
    assert out == frames[: len(out)]
    assert bench.drops_when_full or out == frames


# Speed.


@cocotb.test(timeout_time=200, timeout_unit="us")
async def passes_a_beat_in_every_cycle(dut):
    """Frames of one beat, and longer ones, back to back: in and out without a gap."""
    for beats in (1, 2, 3):
        bench = await Bench(dut).start()
        frames = [random.randbytes(beats * bench.lanes - 1) for _ in range(50)]
        for frame in frames:
            bench.source.queue(beats_of(frame, bench.lanes))
        await bench.drained()
        assert bench.check() == frames
        assert bench.taken[-1] - bench.taken[0] == 50 * beats - 1
        assert bench.given[-1][0] - bench.given[0][0] == 50 * beats - 1
        assert bench.given[0][0] - bench.taken[beats - 1] == 2
        bench.stop()


@cocotb.test(timeout_time=500, timeout_unit="us")
async def output_is_not_interrupted_by_the_input(dut):
    """However slowly a frame comes in, its beats go out one per cycle, its length before them."""
    bench = await Bench(dut, (0.8, 0.0, 0.0)).start()
    # Behind a frame that fills the FIFO the next one may find no room.
    most = bench.longest // 2 if bench.drops_when_full else bench.longest
    frames = [random.randbytes(random.randint(1, most)) for _ in range(25)]
    for frame in frames:
        bench.source.queue(beats_of(frame, bench.lanes))
    await bench.drained()
    assert bench.check() == frames
    number, previous = 0, None  # of the frame; cycle of its beat before this one
    for cycle, beat in bench.given:
        if previous is None:
            assert bench.offers[number] <= cycle, "the length comes after the first beat"
        else:
            assert cycle == previous + 1, "a gap"
        previous = None if beat.last else cycle
        number += beat.last


# Python side.


@pytest.mark.parametrize(
    ("width", "drop_when_full", "dest_bits"),
    [
        (64, False, 2),
        (64, True, 0),
        (128, True, 2),
        (256, False, 7),
        (512, False, 0),
        (512, True, 0),
    ],
)
def test_frame_fifo(width: int, drop_when_full: bool, dest_bits: int) -> None:
    """All cocotb tests; the longest frame is bounded by bytes, or by the depth."""
    context = {
        "width": width,
        "depth_beats": 16 if width > 64 else 32,
        "max_frames": 8,
        "max_bytes": {64: 100, 128: 65535, 256: 500, 512: 65535}[width],
        "drop_when_full": drop_when_full,
        "dest_bits": dest_bits,
    }
    simulate(
        FrameFIFO(**context),
        module=__name__,
        name=f"frame_fifo_{width}_{drop_when_full}_{dest_bits}",
        params=context,
        waive=["input__ready"] if drop_when_full else [],
    )


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
@pytest.mark.parametrize(
    "wrong",
    [
        {"width": 12},
        {"depth_beats": 24},
        {"depth_beats": 1},
        {"max_frames": 0},
        {"max_bytes": 0},
        {"max_bytes": 65536},
    ],
)
def test_rejects_what_cannot_be_built(wrong: dict) -> None:
    """A wrong parameter raises ValueError, which names it."""
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} = "):
        FrameFIFO(**({"width": 64, "depth_beats": 16, "max_frames": 4} | wrong))
