"""The entropy device: its health tests fail when they should, and no reply lacks its bytes."""

from __future__ import annotations

from typing import Any

from amaranth.asserts import AnyConst
from amaranth.hdl import Assert, Assume, Cat, Const, Cover, Module, Mux, Signal, Value

from formal.harness import free, implies, inside, sink, source, taken
from formal.proof import Mutant, proof
from virtio_rtl.device import entropy_reply as reply_file
from virtio_rtl.device.entropy_health import HealthTests
from virtio_rtl.device.entropy_reply import TellReplies

_FILE = "device/entropy_health.py"
_WINDOW = 5


@proof(
    "HealthTests: failed if, and only if, a cut-off was reached; passed after a good window",
    depth=2,
    cover=14,
    mutant_depth=14,
    sizes=f"windows of {_WINDOW} samples; three pairs of cut-offs",
    variants=[
        {"repetition": 3, "proportion": 5},
        {"repetition": 6, "proportion": 3},
        {"repetition": 2, "proportion": 2},
    ],
    mutants=[
        Mutant(_FILE, "run == self.repetition_cutoff - 1", "run == self.repetition_cutoff"),
        Mutant(_FILE, "Mux(repeats, run + 1, 1)", "Mux(repeats, run + 1, 0)"),
        Mutant(_FILE, "previous.eq(self.sample)", "previous.eq(reference)"),
        Mutant(
            _FILE, "matches == self.proportion_cutoff - 1", "matches == self.proportion_cutoff", 1
        ),
        Mutant(_FILE, "match.eq(~first & (self.sample", "match.eq((self.sample", 1),
        Mutant(_FILE, "matches.eq(1)]", "matches.eq(0)]", 1),
        Mutant(_FILE, "m.If(index == self.window - 1)", "m.If(index == self.window - 2)", 1),
        Mutant(_FILE, "with m.If(~bad):", "with m.If(1):", 1),
        Mutant(_FILE, "self.strobe & ~self.failed", "self.strobe", 1),
    ],
)
def health_tests(m: Module, repetition: int, proportion: int) -> None:
    """Any samples, against the samples themselves. [SP 800-90B §4.4]"""
    m.submodules.dut = dut = HealthTests(repetition, proportion, _WINDOW)
    rooms = inside(dut)
    free(m, dut.sample)
    free(m, dut.strobe)

    # The latest samples, the last one in front, and how many of them count; likewise the window's.
    latest, seen = Signal(repetition), Signal(range(repetition + 1))
    window, index = Signal(_WINDOW), Signal(range(_WINDOW + 1))
    failed, passed = Signal(), Signal()
    now = Cat(dut.sample, latest)[:repetition]
    whole = Cat(dut.sample, window)[:_WINDOW]
    alike = _alike(whole, index)
    bad = ((seen >= repetition - 1) & (now.all() | ~now.any())) | (alike >= proportion)
    with m.If(dut.strobe & ~failed):
        m.d.sync += [
            latest.eq(now),
            window.eq(whole),
            seen.eq(seen + (seen != repetition)),
            index.eq(index + 1),
            failed.eq(bad),
        ]
        with m.If(index == _WINDOW - 1):
            m.d.sync += [index.eq(0), passed.eq(passed | ~bad)]

    m.d.comb += [
        Assert(dut.failed == failed, "failed without a reason, or not failed"),
        Assert(dut.passed == passed, "passed without a good window, or not passed"),
        Cover(failed & (passed | (repetition == 2))),
    ]

    # What the registers inside stand for.
    run = Signal(range(repetition + 1))
    for length in range(1, repetition + 1):
        same = Cat(latest[k] == latest[0] for k in range(length)).all()
        with m.If((seen >= length) & same):
            m.d.comb += run.eq(length)
    latest_one = (index - 1).as_unsigned()
    past = _alike(window, latest_one)
    kept = (rooms["run"] == run) & (rooms["previous"] == latest[0])
    begun = (rooms["matches"] == past) & (rooms["reference"] == window.bit_select(latest_one, 1))
    m.d.comb += [
        Assert(index < _WINDOW),
        Assert(seen <= repetition),
        Assert(rooms["index"] == index),
        Assert(failed | (run < repetition)),
        Assert(failed | (index == 0) | (past < proportion)),
        Assert(failed | (seen == 0) | kept),
        Assert((seen != 0) | ((rooms["run"] == 0) & (index == 0) & ~failed)),
        Assert(failed | (index == 0) | begun),
    ]


def _alike(samples: Any, index: Any) -> Value:
    """Return how many samples of a window are like its first, which is `index` back."""
    first = samples.bit_select(index, 1)
    within = [(k <= index) & (samples[k] == first) for k in range(_WINDOW)]
    return sum(within, Const(0))


_REPLY = "device/entropy_reply.py"
_LANES = 2
_LONGEST = 5
_HELD = 4
_PATIENCE = 2
_AHEAD = 2
"""Replies that may be told ahead; in use: 16."""
_SOON = 2
"""Cycles in which a request that may not wait is answered, once it is in front."""


@proof(
    "TellReplies: no reply lacks its bytes, or is shorter than it may be; none is held up at rest",
    mode="bmc",
    depth=8,
    cover=11,
    mutant_depth=9,
    sizes=f"beats of {_LANES} bytes, replies of up to {_LONGEST}; dry after {_PATIENCE} cycles",
    mutants=[
        Mutant(_REPLY, "usable & (free >= wanted.beats)", "usable & (free >= 1)"),
        Mutant(_REPLY, "free + self.beat - Mux(told, used, 0)", "free + self.beat"),
        Mutant(_REPLY, "usable.eq(free.any() & ~broken)", "usable.eq(free.any())"),
        Mutant(_REPLY, "self.suspending & (usable | broken)", "self.suspending"),
        Mutant(_REPLY, "self.suspending & (usable | broken)", "self.suspending & usable"),
        Mutant(_REPLY, "self.resetting | (self", "(self.resetting & usable) | (self"),
        Mutant(_REPLY, "with m.If(~stuck):", "with m.If(1):"),
        Mutant(_REPLY, "lengths.input.valid.eq(told & used.any())", "lengths.input.valid.eq(told)"),
    ],
)
def tell_replies(m: Module) -> None:
    """Any requests, beats and levels; one request is watched. [virtio 1.4 §5.4.6]"""
    ahead = reply_file._AHEAD
    reply_file._AHEAD = _AHEAD
    try:
        m.submodules.dut = dut = TellReplies(8 * _LANES, _LONGEST, _HELD, _PATIENCE)
        inside(dut)
    finally:
        reply_file._AHEAD = ahead
    source(m, dut.request)
    for output in (dut.reply, dut.length):
        sink(m, output)
    for port in (dut.beat, dut.resetting, dut.suspending, dut.failed):
        free(m, port)
    fails = Signal()  # it lasts
    m.d.sync += fails.eq(dut.failed)
    m.d.comb += Assume(dut.failed | ~fails)

    # Beats that have come, and those that replies took. The queue has no room for more.
    come, gone = Signal(5), Signal(5)
    needs = (dut.length.payload + (_LANES - 1)) // _LANES
    m.d.sync += [
        come.eq(come + dut.beat),
        gone.eq(gone + Mux(taken(dut.length), needs, 0)),
    ]
    m.d.comb += [
        Assume(implies(dut.beat, come - gone < _HELD)),
        Assert(implies(dut.length.valid, dut.length.payload.any()), "a packet without a byte"),
        Assert(implies(dut.length.valid, come - gone >= needs), "a byte that is not here"),
    ]

    # The watched request, and what could be done for it meanwhile.
    asked, told = Signal(4), Signal(4)
    m.d.sync += [asked.eq(asked + taken(dut.request)), told.eq(told + taken(dut.reply))]
    watched = AnyConst(2)
    room = Signal(range(_LONGEST + 1))
    writable = dut.request.payload.writable
    late = Signal()  # the source had failed before
    with m.If(taken(dut.request) & (asked == watched)):
        m.d.sync += [room.eq(Mux(writable > _LONGEST, _LONGEST, writable)), late.eq(dut.failed)]
    waits = Signal()  # it is in, in front, and there is room for its reply
    m.d.comb += [
        Assume(writable < 8),
        waits.eq((asked > watched) & (told == watched) & ~dut.reply.valid & ~dut.length.valid),
    ]
    answered = dut.reply.valid & (told == watched)
    length = dut.reply.payload.length
    inside_now = asked > watched
    reset, suspended, broken = Signal(), Signal(), Signal()
    with m.If(inside_now):
        m.d.sync += [
            reset.eq(reset | dut.resetting),
            suspended.eq(suspended | dut.suspending),
        ]
    m.d.sync += broken.eq(dut.failed | dut.dry)
    at_rest, dry_for = Signal(range(12)), Signal(range(12))
    m.d.sync += [
        at_rest.eq(Mux(waits & (dut.resetting | (dut.suspending & broken)), at_rest + 1, 0)),
        dry_for.eq(Mux(waits & dut.suspending, dry_for + 1, 0)),
    ]
    m.d.comb += [
        Assert(implies(answered, length <= room), "more than there is room for"),
        Assert(implies(answered & (length < room), reset | suspended), "cut short"),
        Assert(implies(answered & (length == 0) & room.any(), reset | broken), "no byte"),
        Assert(implies(answered & late, length == 0), "bytes of a source that has failed"),
        Assert(at_rest <= _SOON, "held up"),
        Assert(dry_for <= _PATIENCE + _SOON, "held up by a dry source"),
        Cover(answered & (length == 0) & room.any() & reset),
        Cover(answered & (length == 0) & room.any() & dut.dry & ~reset),
        Cover(answered & length.any() & (length < room) & suspended & ~reset),
        Cover(answered & (length == _LONGEST) & (watched == 1)),
    ]
