"""Arbiters: one at a time, packets in one piece, and nobody waits for more than one turn each."""

from __future__ import annotations

from typing import Any

from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Assert, Assume, Cat, Const, Cover, Module, Mux, Signal
from amaranth.lib import data

from formal.harness import before, implies, inside, plain, sink, source, steady, taken
from formal.proof import Mutant, proof
from virtio_rtl.dma.round_robin import RoundRobin
from virtio_rtl.lib.stream import StreamArbiter

_COUNT = 3
_STREAM = "lib/stream.py"
_BEAT = data.StructLayout({"last": 1, "data": 2})


def _turns(m: Module, waits: Any, served: list[Any], watched: Any, last: Any, now: Any = 0) -> None:
    """Assert that while `watched` waits, nobody else is served twice.

    `served[i]` is a strobe. `last` is who was served last, or with `now` is being served: in the
    order that begins behind it, whoever has had a turn comes after the watched one.
    """
    had_turn = Signal(_COUNT)

    def turn(place: Any) -> Any:
        return Mux(place > last, place - last, place + _COUNT - last)

    for index, strobe in enumerate(served):
        other = watched != index
        m.d.sync += had_turn[index].eq(waits & other & (had_turn[index] | strobe))
        m.d.comb += [
            Assert(~(waits & other & strobe & had_turn[index]), "served twice while one waits"),
            Assert(~(waits & other & had_turn[index] & now & (last == index))),
            Cover(waits & other & had_turn[index]),
            Assert(
                implies(
                    had_turn[index] & waits & other,
                    turn(Const(index, 2)) > turn(watched),
                )
            ),
        ]


@proof(
    "StreamArbiter: packets in one piece, stable offers, fairness",
    depth=3,
    cover=10,
    mutant_depth=10,
    sizes=f"{_COUNT} inputs, with packets and without",
    variants=[{"packets": True}, {"packets": False}],
    mutants=[
        Mutant(_STREAM, "held.eq(~release)", "held.eq(0)"),
        Mutant(_STREAM, "held.eq(~release)", "held.eq(0)", variant=1),
        Mutant(
            _STREAM, "candidate = (current + step) % self.count", "candidate = step % self.count"
        ),
        Mutant(_STREAM, "source.ready.eq(self.output.ready)", "source.ready.eq(1)"),
    ],
)
def stream_arbiter(m: Module, packets: bool) -> None:
    """What is taken at one input, and only that, is given at the output."""
    m.submodules.dut = dut = StreamArbiter(_BEAT, _COUNT, packets=packets)
    rooms = inside(dut)
    held, last = rooms["held"], rooms["last_granted"]
    inputs = [getattr(dut, f"input_{i}") for i in range(_COUNT)]
    for each in inputs:
        source(m, each)
    sink(m, dut.output)
    steady(m, dut.output)
    passed = Cat(taken(each) for each in inputs)
    valids = Cat(each.valid for each in inputs)
    m.d.comb += [
        Assert(passed == (taken(dut.output) << dut.grant), "taken but not given, or given twice"),
        Assert(last < _COUNT),
    ]
    for index, each in enumerate(inputs):
        with m.If(taken(each)):
            m.d.comb += Assert(plain(dut.output.payload) == plain(each.payload))
            m.d.comb += Assert(dut.grant == index)

    ends = taken(dut.output) & (dut.output.payload.last if packets else 1)
    within, owner = Signal(), Signal(range(_COUNT))
    with m.If(taken(dut.output)):
        m.d.sync += [within.eq(~ends), owner.eq(dut.grant)]
    waiting = before(m, dut.output.valid & ~dut.output.ready)
    offered = before(m, dut.grant)
    m.d.comb += [
        Assert(implies(within, dut.grant == owner), "a packet in two pieces"),
        Assert(implies(within | waiting, held)),
        Assert(implies(held, within | waiting)),
        Assert(implies(within, last == owner)),
        Assert(implies(waiting, last == offered)),
        Assert(implies(~within, dut.output.valid == valids.any()), "an offer not passed on"),
    ]

    watched = AnyConst(2)
    m.d.comb += Assume(watched < _COUNT)
    # Between the packets of others: in the middle of its own it does not wait for a turn.
    waits = (
        valids.bit_select(watched, 1)
        & ~(passed.bit_select(watched, 1))
        & ~(held & (last == watched))
    )
    served = [ends & (dut.grant == i) for i in range(_COUNT)]
    _turns(m, waits, served, watched, last, held)


@proof(
    "RoundRobin: one of those who ask, and fairness",
    depth=3,
    cover=8,
    mutant_depth=8,
    sizes=f"{_COUNT} requests",
    mutants=[
        Mutant("dma/round_robin.py", "with m.If(self.taken):", "with m.If(0):"),
        Mutant("dma/round_robin.py", "first.eq(self.request & waited)", "first.eq(waited)"),
    ],
)
def round_robin(m: Module) -> None:
    """Whoever keeps asking is served before anybody else has had two turns."""
    m.submodules.dut = dut = RoundRobin(_COUNT)
    waited = inside(dut)["waited"]
    m.d.comb += [dut.request.eq(AnySeq(_COUNT)), dut.taken.eq(AnySeq(1))]
    m.d.comb += Assume(implies(dut.taken, dut.request))
    grant = dut.grant
    m.d.comb += [
        Assert((grant & ~dut.request) == 0, "nobody asked"),
        Assert((grant & (grant - 1)) == 0, "two at a time"),
        Assert(implies(dut.request, grant)),
    ]
    watched = AnyConst(2)
    m.d.comb += Assume(watched < _COUNT)
    waits = dut.request.bit_select(watched, 1) & ~(dut.taken & grant.bit_select(watched, 1))
    last = Signal(range(_COUNT), init=_COUNT - 1)
    number = Mux(grant[2], 2, Mux(grant[1], 1, 0))
    with m.If(dut.taken):
        m.d.sync += last.eq(number)
    m.d.comb += [
        Assert(last < _COUNT),
        Assert(waited == Mux(last == 0, 0b110, Mux(last == 1, 0b100, 0b000))),
    ]
    _turns(m, waits, [dut.taken & grant[i] for i in range(_COUNT)], watched, last)
