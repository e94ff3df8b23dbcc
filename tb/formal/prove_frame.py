"""FrameFIFO: whole frames, in order, and only good ones."""

from __future__ import annotations

from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Assert, Assume, Cover, Module, Signal

from formal.harness import implies, plain, sink, source, steady, taken
from formal.proof import Mutant, proof
from virtio_rtl.lib.frame_fifo import FrameFIFO

_FILE = "lib/frame_fifo.py"
_LANES = 2
_LONGEST = 5


@proof(
    "FrameFIFO: good frames come out whole and in order, with their lengths; others do not",
    mode="bmc",
    depth=8,
    cover=12,
    mutant_depth=10,
    sizes=f"4 beats of {_LANES} bytes, 2 frames of up to {_LONGEST} bytes; stalling and dropping",
    variants=[{"drop_when_full": False}, {"drop_when_full": True}],
    mutants=[
        Mutant(
            _FILE, "commits.eq(stores & beat.last & ~beat.error)", "commits.eq(stores & beat.last)"
        ),
        Mutant(_FILE, "m.d.sync += written.eq(committed)", "m.d.sync += written.eq(written)"),
        Mutant(_FILE, "in_final & (beat.count > rest)", "in_final & (beat.count < rest)"),
        Mutant(_FILE, "full | (beat.last & ~lengths.input.ready)", "full", variant=1),
        Mutant(
            _FILE, "full.eq((written ^ read_next) == self.depth_beats)", "full.eq(0)", variant=1
        ),
    ],
)
def frame_fifo(m: Module, drop_when_full: bool) -> None:
    """Frames, errors, aborts and stalls as they come, against a list of the good frames' beats."""
    m.submodules.dut = dut = FrameFIFO(16, 4, 2, _LONGEST, drop_when_full=drop_when_full)
    source(m, dut.input)
    m.d.comb += dut.abort.eq(AnySeq(1))
    beat = dut.input.payload
    # Data goes through as it is: one bit of each beat stands for all.
    m.d.comb += Assume(plain(beat.data)[1:] == 0)
    m.d.comb += Assume((beat.count == _LANES) | (beat.last & (beat.count == 1)))
    for output in (dut.output, dut.lengths):
        sink(m, output)
        steady(m, output)

    # One beat and one frame are watched; which ones is left open.
    watched, watched_frame = AnyConst(4), AnyConst(4)
    expected, length = Signal(19), Signal(16)
    written, whole, read = Signal(4), Signal(4), Signal(4)
    frames, told, begun = Signal(4), Signal(4), Signal(4)
    inside, ignoring, size = Signal(), Signal(), Signal(16)
    arrives = taken(dut.input)
    total = size + beat.count
    drops = (dut.abort & (inside | arrives)) | dut.dropped
    good = arrives & ~ignoring & ~drops
    kept = plain(beat.data) | (beat.count << 16) | (beat.last << 18)
    with m.If(arrives):
        m.d.sync += [inside.eq(~beat.last), size.eq(total)]
        with m.If(beat.last):
            m.d.sync += [ignoring.eq(0), size.eq(0)]
    with m.If(drops & ~(arrives & beat.last)):
        m.d.sync += ignoring.eq(1)
    with m.If(drops | (arrives & beat.last & beat.error)):
        m.d.sync += written.eq(whole)
    with m.Elif(good):
        m.d.sync += written.eq(written + 1)
        with m.If(written == watched):
            m.d.sync += expected.eq(kept)
        with m.If(beat.last):
            m.d.sync += [whole.eq(written + 1), frames.eq(frames + 1)]
            with m.If(frames == watched_frame):
                m.d.sync += length.eq(total)

    out = dut.output.payload
    first = Signal(init=1)
    with m.If(taken(dut.output)):
        m.d.sync += [read.eq(read + 1), first.eq(out.last)]
        with m.If(first):
            m.d.sync += begun.eq(begun + 1)
    with m.If(taken(dut.lengths)):
        m.d.sync += told.eq(told + 1)
    shown = dut.output.valid & (read == watched)
    measured = dut.lengths.valid & (told == watched_frame)
    m.d.comb += [
        Assert(implies(dut.output.valid, read < whole), "a beat of no good frame"),
        Assert(implies(shown, out.data == expected[:16]), "another beat"),
        Assert(implies(shown, out.count == expected[16:18])),
        Assert(implies(shown, out.last == expected[18]), "cut elsewhere"),
        Assert(~(dut.output.valid & out.error)),
        Assert(implies(dut.lengths.valid, told < frames)),
        Assert(implies(measured, dut.lengths.payload.bytes == length), "length"),
        Assert(implies(dut.output.valid & first, dut.lengths.valid | (told > begun)), "late"),
        Assert(implies(good & ~beat.error, total <= _LONGEST), "too long"),
        Cover(taken(dut.output) & out.last & (read == 3)),
        Cover(dut.dropped),
        Cover((told == 2) & (frames == 2) & (begun == 2)),
    ]
    if not drop_when_full:
        m.d.comb += Assert(implies(dut.dropped, total > _LONGEST), "dropped for no reason")
        m.d.comb += Assert(~(ignoring & ~dut.input.ready), "stalls what it ignores")
    else:
        m.d.comb += Assert(dut.input.ready)
