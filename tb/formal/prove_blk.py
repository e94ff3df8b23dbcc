"""The block device: which runs of sectors touch each other."""

from __future__ import annotations

from amaranth.hdl import Array, Assert, Assume, Cat, Cover, Module, Signal

from formal.harness import free, implies, inside
from formal.proof import Mutant, proof
from virtio_rtl.device.blk_hazard import BlkHazard

_HAZARD = "device/blk_hazard.py"
_BITS = 3
_DEPTH = 4


@proof(
    "BlkHazard: tells of exactly those runs of sectors that are under way and share a sector",
    depth=2,
    cover=8,
    mutant_depth=10,
    sizes=f"{_DEPTH} runs, sectors of {_BITS} bits",
    mutants=[
        Mutant(_HAZARD, "(first[k] < self.end)", "(first[k] <= self.end)"),
        Mutant(_HAZARD, "(self.first < end[k])", "(self.first <= first[k])"),
        Mutant(_HAZARD, "valid[k] & (first[k]", "(first[k]"),
        Mutant(_HAZARD, "valid[newest].eq(1)", "valid[oldest].eq(1)"),
        Mutant(_HAZARD, "[valid[oldest].eq(0), oldest.eq(oldest + 1)]", "valid[oldest].eq(0)"),
    ],
)
def blk_hazard(m: Module) -> None:
    """Against a queue that shifts, its oldest run in front."""
    m.submodules.dut = dut = BlkHazard(_BITS, _DEPTH)
    rooms = inside(dut)
    for port in (dut.first, dut.end, dut.add, dut.done):
        free(m, port)
    count = Signal(range(_DEPTH + 1))
    first = Array(Signal(_BITS, name=f"run_first_{k}") for k in range(_DEPTH + 1))
    end = Array(Signal(_BITS, name=f"run_end_{k}") for k in range(_DEPTH + 1))
    m.d.comb += [
        Assume(dut.first < dut.end),
        Assume(implies(dut.add, count != _DEPTH)),
        Assume(implies(dut.done, count != 0)),
    ]
    m.d.sync += count.eq(count + dut.add - dut.done)
    with m.If(dut.done):
        for k in range(_DEPTH):
            m.d.sync += [first[k].eq(first[k + 1]), end[k].eq(end[k + 1])]
    with m.If(dut.add):
        m.d.sync += [
            first[(count - dut.done)[:3]].eq(dut.first),
            end[(count - dut.done)[:3]].eq(dut.end),
        ]

    # A sector of both, tried one by one.
    shared = Signal(_DEPTH)
    sectors = range(1 << _BITS)
    for k in range(_DEPTH):
        both = [
            (first[k] <= sector) & (sector < end[k]) & (dut.first <= sector) & (sector < dut.end)
            for sector in sectors
        ]
        m.d.comb += shared[k].eq((k < count) & Cat(both).any())
    m.d.comb += [
        Assert(dut.overlap == shared.any(), "overlooked, or nothing there"),
        Assert(dut.full == (count == _DEPTH)),
        Cover((count == _DEPTH) & (shared == 0b1000)),
    ]

    # Where they stand inside.
    oldest, newest = rooms["oldest"], rooms["newest"]
    m.d.comb += [Assert(count <= _DEPTH), Assert((oldest + count)[:2] == newest)]
    for k in range(_DEPTH):
        at = (oldest + k)[:2]
        m.d.comb += Assert(rooms["valid"][at] == (k < count))
        same = (rooms["first"][at] == first[k]) & (rooms["end"][at] == end[k])
        m.d.comb += Assert(implies(k < count, same & (first[k] < end[k])))
