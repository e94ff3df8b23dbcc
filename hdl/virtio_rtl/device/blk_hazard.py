"""Block device: which runs of sectors are being read or written."""

from amaranth.hdl import Array, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["BlkHazard"]


class BlkHazard(wiring.Component):
    """Runs of sectors that are under way, and whether another one touches any of them.

    Parameters
    ----------
    bits
        Bits of a sector number.
    depth
        Runs that may be under way, a power of two.

    Ports
    -----
    first, end : bits
        The run that is asked about; ``end`` is the sector behind it.
    overlap : 1
        It touches one that is under way; combinational.
    add : 1
        It gets under way; not while ``full``.
    done : 1
        The oldest one is done.
    full : 1
    """

    def __init__(self, bits: int, depth: int):
        self.bits = bits
        self.depth = depth
        super().__init__(
            {
                "first": In(bits),
                "end": In(bits),
                "overlap": Out(1),
                "add": In(1),
                "done": In(1),
                "full": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        valid = Array(Signal(name=f"valid_{k}") for k in range(self.depth))
        first = Array(Signal(self.bits, name=f"first_{k}") for k in range(self.depth))
        end = Array(Signal(self.bits, name=f"end_{k}") for k in range(self.depth))
        newest, oldest = Signal(range(self.depth)), Signal(range(self.depth))
        hits = Signal(self.depth)
        for k in range(self.depth):
            m.d.comb += hits[k].eq(valid[k] & (first[k] < self.end) & (self.first < end[k]))
        m.d.comb += [self.overlap.eq(hits.any()), self.full.eq(valid[newest])]
        with m.If(self.add):
            m.d.sync += [
                valid[newest].eq(1),
                first[newest].eq(self.first),
                end[newest].eq(self.end),
                newest.eq(newest + 1),
            ]
        with m.If(self.done):
            m.d.sync += [valid[oldest].eq(0), oldest.eq(oldest + 1)]
        return m
