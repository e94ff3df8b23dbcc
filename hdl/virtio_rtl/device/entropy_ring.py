"""Ring oscillators, what stands in for them in a simulator, and how they are sampled."""

from amaranth.hdl import Cat, Const, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["LutRings", "RingSampler", "StandInRings"]


class LutRings(wiring.Component):
    """Rings of inverters that oscillate freely, out of LUTs of AMD devices.

    Rings of four lengths take turns, since equal neighbours tend to lock to each other. Each
    inverter is a LUT that tools must keep; the loops are allowed by an attribute of their nets.
    Placement is up to the board's constraints.

    Parameters
    ----------
    rings
        How many.
    stages
        Inverters of the shortest ring, an odd number.

    Ports
    -----
    enable : 1
        While it is low, all rings stand still.
    taps : rings
        One net of each ring; asynchronous to every clock.

    Not for simulators: LUT1 and LUT2 have no delay there. Not assessed on a board yet.
    """

    def __init__(self, rings: int, stages: int):
        if rings < 1:
            raise ValueError(f"rings = {rings!r}: at least 1")
        if stages < 3 or stages % 2 == 0:
            raise ValueError(f"stages = {stages!r}: an odd number, at least 3")
        self.rings = rings
        self.stages = stages
        super().__init__({"enable": In(1), "taps": Out(rings)})

    def elaborate(self, platform):
        m = Module()
        for ring in range(self.rings):
            length = self.stages + 2 * (ring % 4)
            nets = [
                Signal(
                    name=f"ring_{ring}_{stage}",
                    attrs={"keep": "true", "ALLOW_COMBINATORIAL_LOOPS": "TRUE"},
                )
                for stage in range(length)
            ]
            # The first is a NAND, so that the ring can be stopped.
            m.submodules[f"ring_{ring}_0"] = Instance(
                "LUT2",
                p_INIT=Const(0b0111, 4),
                a_DONT_TOUCH="true",
                a_keep="true",
                i_I0=nets[-1],
                i_I1=self.enable,
                o_O=nets[0],
            )
            for stage in range(1, length):
                m.submodules[f"ring_{ring}_{stage}"] = Instance(
                    "LUT1",
                    p_INIT=Const(0b01, 2),
                    a_DONT_TOUCH="true",
                    a_keep="true",
                    i_I0=nets[stage - 1],
                    o_O=nets[stage],
                )
            m.d.comb += self.taps[ring].eq(nets[-1])
        return m


class StandInRings(wiring.Component):
    """A generator in the place of rings, for simulation: **not random**.

    Parameters
    ----------
    rings
        Bits, 1 to 64: the low ones of an xorshift64 generator that steps every cycle.
    cycles
        Cycles after which it sticks, for tests of failures; 0: never.

    Ports
    -----
    enable, taps
        As those of ``LutRings``, but in step with the clock.
    """

    def __init__(self, rings: int, cycles: int = 0):
        if not 1 <= rings <= 64:
            raise ValueError(f"rings = {rings!r}: 1 to 64")
        self.rings = rings
        self.cycles = cycles
        super().__init__({"enable": In(1), "taps": Out(rings)})

    def elaborate(self, platform):
        m = Module()
        state = Signal(64, init=88172645463325252)
        first, second = Signal(64), Signal(64)
        runs = Signal(init=1)
        m.d.comb += [
            first.eq(state ^ (state << 13)),
            second.eq(first ^ (first >> 7)),
            self.taps.eq(state),
        ]
        with m.If(self.enable & runs):
            m.d.sync += state.eq(second ^ (second << 17))
        if self.cycles:
            left = Signal(range(self.cycles + 1), init=self.cycles)
            with m.If(self.enable & runs):
                m.d.sync += [left.eq(left - 1), runs.eq(left != 1)]
        return m


class RingSampler(wiring.Component):
    """Samples rings: each tap through two flip-flops, then the parity of all.

    Parameters
    ----------
    rings
        Number of taps.
    period
        Cycles from sample to sample, at least 4.

    Ports
    -----
    taps : rings
        Asynchronous.
    sample : 1, strobe : 1
        A raw sample, in the cycle of the strobe; the first one after ``period`` cycles.
    """

    def __init__(self, rings: int, period: int):
        if period < 4:
            raise ValueError(f"period = {period!r}: at least 4")
        self.rings = rings
        self.period = period
        super().__init__({"taps": In(rings), "sample": Out(1), "strobe": Out(1)})

    def elaborate(self, platform):
        m = Module()
        # The first flip-flop may become metastable; it has a cycle to settle.
        meta = Signal(self.rings, attrs={"ASYNC_REG": "TRUE", "keep": "true"})
        settled = Signal(self.rings, attrs={"ASYNC_REG": "TRUE", "keep": "true"})
        count = Signal(range(self.period))
        m.d.sync += [
            Cat(meta, settled).eq(Cat(self.taps, meta)),
            self.sample.eq(settled.xor()),
            count.eq(count + 1),
            self.strobe.eq(0),
        ]
        with m.If(count == self.period - 1):
            m.d.sync += [count.eq(0), self.strobe.eq(1)]
        return m
