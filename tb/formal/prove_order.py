"""The transmit arbiter: nothing overtakes a posted TLP that was accepted before it."""

from __future__ import annotations

from typing import Any

from amaranth.asserts import AnySeq
from amaranth.hdl import Assert, Assume, Cover, Module, Signal
from amaranth.lib import data, stream

from formal.harness import before, implies, plain, sink, steady, taken
from formal.harness import inside as look_inside
from formal.proof import Mutant, proof
from virtio_rtl.pcie import tx_arbiter as arbiter_file
from virtio_rtl.pcie.tx_arbiter import TxArbiter

_FIRST, _SECOND = 1, 2
"""Marks: a posted TLP, and one that is accepted after all of it."""


_HEADER = data.StructLayout({"length_dw": 3, "tag": 2})
"""What the arbiter looks at of a header, and a mark."""


def _beat(width: int) -> data.StructLayout:
    del width
    return data.StructLayout({"header": _HEADER, "first": 1, "last": 1})


def _arbiter() -> Any:
    """Return the arbiter of TLPs with a short header and no data."""
    names = {
        "TLPHeader": _HEADER,
        "tlp_beat": _beat,
        "tlp_stream": lambda width: stream.Signature(_beat(width)),
    }
    kept = {name: getattr(arbiter_file, name) for name in names}
    try:
        for name, value in names.items():
            setattr(arbiter_file, name, value)
        dut: Any = TxArbiter(64, depth=4, read_depth=5)
        look_inside(dut)
    finally:
        for name, value in kept.items():
            setattr(arbiter_file, name, value)
    return dut


class _Marks:
    """Which TLPs are marked on their way in: one posted, and one behind it, of any kind."""

    def __init__(self, m: Module, dut: Any) -> None:
        """Offer TLPs of any length at all five inputs."""
        self.first_in = Signal()
        self.whole = Signal()  # the first has entered to its end
        self.second_in = Signal()
        firsts, seconds, ends = [], [], []
        posted = (dut.posted, dut.message)
        for each in (*posted, dut.nonposted, dut.completion_bar, dut.completion_config):
            beat, mark = each.payload, each.payload.header.tag
            inside, current = Signal(), Signal(2)
            waits = before(m, each.valid & ~each.ready)
            held = before(m, beat)
            m.d.comb += [
                each.valid.eq(AnySeq(1)),
                mark.eq(AnySeq(2)),
                beat.header.length_dw.eq(1),
                beat.first.eq(~inside),
                beat.last.eq(1 if each is dut.nonposted else AnySeq(1)),
                Assume(implies(waits, each.valid & (plain(beat) == held))),
                Assume(implies(inside, mark == current)),
                Assume(mark != 3),
            ]
            passes = taken(each)
            with m.If(passes):
                m.d.sync += [inside.eq(~beat.last), current.eq(mark)]
            begins = passes & ~inside
            if each in posted:
                firsts.append(begins & (mark == _FIRST))
                ends.append(passes & (mark == _FIRST) & beat.last)
            else:
                m.d.comb += Assume(mark != _FIRST)
            seconds.append(begins & (mark == _SECOND))
        m.d.sync += [
            self.first_in.eq(self.first_in | sum(firsts)),
            self.whole.eq(self.whole | sum(ends)),
            self.second_in.eq(self.second_in | sum(seconds)),
        ]
        m.d.comb += [
            Assume(sum(firsts) + self.first_in <= 1),
            Assume(sum(seconds) + self.second_in <= 1),
            Assume(implies(sum(seconds), self.whole)),
        ]


@proof(
    "TxArbiter: used behind payload, interrupt behind used, reads and completions behind posted",
    mode="bmc",
    depth=8,
    cover=10,
    mutant_depth=10,
    sizes="4 beats posted and completions, 5 reads; TLPs of any length, short headers",
    mutants=[
        Mutant(
            "pcie/tx_admission.py",
            "(tickets.output.valid & ~posted_since[-1]) | at_once",
            "tickets.output.valid | at_once",
        ),
        Mutant("pcie/tx_admission.py", " & (self.ticket == self.posted_left)", ""),
        Mutant("pcie/tx_arbiter.py", "        with m.If(leaving):", "        with m.If(entering):"),
        Mutant(
            "pcie/tx_arbiter.py",
            "posted_merge = StreamArbiter(beat, 2, packets=True)",
            "posted_merge = StreamArbiter(beat, 2)",
        ),
        Mutant(
            "pcie/tx_arbiter.py",
            "gated.valid.eq(source.output.valid & admission.admitted)",
            "gated.valid.eq(source.output.valid)",
        ),
    ],
)
def nothing_overtakes_posted(m: Module) -> None:
    """Whichever of the inputs, whatever the credits. [PCIe 3.0 §2.4.1]"""
    m.submodules.dut = dut = _arbiter()
    # Credits that come and go at will: none of either kind, but for cycles in which all is free.
    for kind in ("posted", "nonposted", "completion"):
        m.d.comb += getattr(dut.limits, f"{kind}_infinite").eq(AnySeq(1))
    marks = _Marks(m, dut)
    sink(m, dut.tlp)
    steady(m, dut.tlp)
    out, mark = dut.tlp.payload, dut.tlp.payload.header.tag
    left, gone, inside, current = Signal(), Signal(), Signal(), Signal(2)
    with m.If(taken(dut.tlp)):
        m.d.sync += [
            left.eq(left | ((mark == _FIRST) & out.last)),
            gone.eq(gone | ((mark == _SECOND) & out.last)),
            inside.eq(~out.last),
            current.eq(mark),
        ]
    with m.If(dut.tlp.valid):
        m.d.comb += [
            Assert(implies(mark == _SECOND, left), "overtaken"),
            Assert(implies(mark == _FIRST, marks.first_in & ~left), "twice, or from nowhere"),
            Assert(implies(mark == _SECOND, marks.second_in & ~gone), "twice, or from nowhere"),
            Assert(out.first == ~inside, "a TLP in two pieces"),
            Assert(implies(inside, mark == current), "TLPs mixed"),
        ]
    m.d.comb += [Cover(gone), Cover(left & marks.second_in & ~gone)]
