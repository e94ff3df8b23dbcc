"""Quiesce: nothing is forgotten but at rest, and the pause ends."""

from __future__ import annotations

from amaranth.asserts import AnySeq
from amaranth.hdl import Assert, Assume, Cover, Module, Signal

from formal.harness import before, implies, inside
from formal.proof import Mutant, proof
from virtio_rtl.transport import quiesce as quiesce_file
from virtio_rtl.transport.quiesce import Quiesce

_FILE = "transport/quiesce.py"
_QUEUES = 2
_LASTING = 2
_PATIENCE = 20
"""Cycles at rest, without a new request, in which all that was asked for is done."""


@proof(
    "Quiesce: forgets what was asked for, held and at rest only; the pause ends",
    mode="bmc",
    depth=24,
    cover=24,
    mutant_depth=24,
    sizes=f"{_QUEUES} virtqueues; rest for {_LASTING} cycles (in use: 16)",
    mutants=[
        Mutant(_FILE, "self.rested & self.fetch_idle & self.told", "self.rested & self.told"),
        Mutant(_FILE, "self.rested & self.fetch_idle & self.told", "self.rested & self.fetch_idle"),
        Mutant(_FILE, "self.suspend_done.eq(~asked.valid)", "self.suspend_done.eq(1)"),
        Mutant(_FILE, "[self.pause.eq(0), self.hold.eq(0)]", "self.hold.eq(0)"),
        Mutant(_FILE, "self.forget.eq(1), asked.ready.eq(1)", "self.forget.eq(1)"),
        Mutant(
            _FILE, "self.resetting.eq(asked.valid)", "self.resetting.eq(asked.valid & ~self.hold)"
        ),
    ],
)
def quiesce_rests(m: Module) -> None:
    """Requests come whenever they may; rest comes whenever it likes. [virtio 1.4 §2.6.1, §3.4]"""
    lasting = quiesce_file._LASTING
    quiesce_file._LASTING = _LASTING
    try:
        m.submodules.dut = dut = Quiesce(_QUEUES, ring_reset=True, suspend=True)
        inside(dut)
    finally:
        quiesce_file._LASTING = lasting

    owed = Signal(_QUEUES)
    queue, forgotten = AnySeq(1), dut.forget_queue[0]
    for port in ("reset_request", "suspend_request", "rested", "fetch_idle", "told", "suspended"):
        m.d.comb += getattr(dut, port).eq(AnySeq(1))
    ends = before(m, dut.suspend_request & dut.suspend_done)
    m.d.comb += [
        dut.reset_queue.eq(queue),
        Assume(implies(dut.reset_request, ~owed.bit_select(queue, 1))),
        # The driver resets no virtqueue of a device that is suspended.
        Assume(implies(dut.suspended, ~dut.reset_request)),
        Assume(implies(before(m, dut.suspend_request & ~dut.suspend_done), dut.suspend_request)),
        Assume(implies(ends | dut.suspended, ~dut.suspend_request)),
        Assume(implies(dut.suspended, ends | before(m, dut.suspended))),
        Assume(implies(ends, dut.suspended)),
        Assume(implies(before(m, dut.rested & dut.pause) & dut.pause, dut.rested)),
        Assume(implies(before(m, dut.fetch_idle & dut.hold) & dut.hold, dut.fetch_idle)),
    ]
    for index in range(_QUEUES):
        with m.If(dut.reset_request & (queue == index)):
            m.d.sync += owed[index].eq(1)
        with m.Elif(dut.forget & (forgotten == index)):
            m.d.sync += owed[index].eq(0)

    at_rest = dut.rested & dut.fetch_idle & dut.told
    calm, lasted = Signal(range(_LASTING + 1)), Signal()
    with m.If(~(at_rest & dut.hold)):
        m.d.sync += calm.eq(0)
    with m.Elif(calm != _LASTING):
        m.d.sync += calm.eq(calm + 1)
    m.d.sync += lasted.eq(dut.hold & (lasted | (calm == _LASTING - 1)))

    asks = dut.reset_request | (dut.suspend_request & ~before(m, dut.suspend_request))
    patience = Signal(range(_PATIENCE + 1))
    wanted = dut.pause | dut.suspend_request | owed.any()
    with m.If(wanted & at_rest & ~dut.suspended & ~asks):
        m.d.sync += patience.eq(patience + 1)
    with m.Else():
        m.d.sync += patience.eq(0)

    done = dut.forget | dut.suspend_done
    twice = Signal()
    m.d.sync += twice.eq(dut.pause & (twice | dut.forget))
    m.d.comb += [
        Assert(implies(done, dut.pause & dut.hold & dut.rested & dut.fetch_idle), "not at rest"),
        Assert(implies(dut.forget, lasted), "not for long enough"),
        Assert(implies(dut.hold, dut.pause)),
        Assert(dut.resetting == owed.any(), "a reset is under way that nobody is told of"),
        Assert(implies(dut.forget, owed.bit_select(forgotten, 1)), "nobody asked for it"),
        Assert(implies(dut.suspend_done, dut.suspend_request & (owed == 0)), "a reset is left"),
        Assert(implies(dut.suspended, dut.pause & dut.hold)),
        Assert(patience != _PATIENCE, "what was asked for is not done, or the pause does not end"),
        Cover(dut.forget & twice),
        Cover(dut.suspend_done & twice),
        Cover(before(m, twice) & ~dut.pause),
    ]
