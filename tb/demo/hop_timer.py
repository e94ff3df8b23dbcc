"""Time stamps for strobes, in hardware: no Python per cycle."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["TIME_BITS", "HopTimer"]

TIME_BITS = 32


class HopTimer(wiring.Component):
    """Notes the cycle in which each of `count` strobes was first high since `arm`.

    Parameters
    ----------
    count
        Number of strobes.

    Ports
    -----
    strobes : count
    arm : 1
        While high, forgets what was seen.
    now : 32
        Cycles since reset, wrapping.
    seen : count
        Which strobes have been high.
    times : count x 32
        `now` of the cycle in which each was; meaningful where `seen` is set.

    All outputs are registers.
    """

    def __init__(self, count: int):
        self.count = count
        super().__init__(
            {
                "strobes": In(count),
                "arm": In(1),
                "now": Out(TIME_BITS),
                "seen": Out(count),
                "times": Out(data.ArrayLayout(TIME_BITS, count)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.now.eq(self.now + 1)
        for index in range(self.count):
            time = Signal(TIME_BITS, name=f"time_{index}")
            m.d.comb += self.times[index].eq(time)
            with m.If(self.arm):
                m.d.sync += self.seen[index].eq(0)
            with m.Elif(self.strobes[index] & ~self.seen[index]):
                m.d.sync += [self.seen[index].eq(1), time.eq(self.now)]
        return m
