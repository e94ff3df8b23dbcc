"""How long used descriptors wait for neighbours."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["UsedPatience"]

_UP, _DOWN_EVERY = 4, 4


class UsedPatience(wiring.Component):
    """Lengthens the wait while the posted path is the bottleneck, shortens it while it is not.

    Batching saves bytes, and so makes the path less crowded: a wait that jumped between two values
    would make batches that are as often too short as long enough. This one settles where the path
    is just full. It grows by 4 cycles a cycle, from the least to the most in a few microseconds,
    and shrinks by 1 every fourth.

    Parameters
    ----------
    least, most
        Cycles.

    Ports
    -----
    crowded : 1
        The posted path has more to send than it can.
    cycles
        The wait.
    """

    def __init__(self, least: int, most: int):
        self.least = least
        self.most = most
        super().__init__({"crowded": In(1), "cycles": Out(range(most + _UP + 1), init=least)})

    def elaborate(self, platform):
        m = Module()
        tick = Signal(range(_DOWN_EVERY))
        m.d.sync += tick.eq(tick + 1)
        with m.If(self.crowded):
            with m.If(self.cycles < self.most):
                m.d.sync += self.cycles.eq(self.cycles + _UP)
        with m.Elif((tick == 0) & (self.cycles > self.least)):
            m.d.sync += self.cycles.eq(self.cycles - 1)
        return m
