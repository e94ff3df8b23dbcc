"""How long used buffers wait for neighbours."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["AGE_BITS", "UsedPatience", "is_young"]

AGE_BITS = 14
_UP, _DOWN_EVERY = 4, 4


def is_young(since, young_from):
    """What began at ``since`` may wait on; half of the clock's circle lies on either side."""
    return ~(since - young_from)[AGE_BITS - 1]


class UsedPatience(wiring.Component):
    """Lengthens the wait while the posted path is the bottleneck, shortens it while it is not.

    Batching saves bytes, and so makes the path less crowded: a wait that jumped between two values
    would make batches that are as often too short as long enough. This one settles where the path
    is just full. It grows by 4 cycles a cycle, from the least to the most in a few microseconds,
    and shrinks by 1 every fourth.

    Parameters
    ----------
    least, most
        Cycles, up to 8000.

    Ports
    -----
    crowded : 1
        The posted path has more to send than it can.
    now : 14
        A free-running clock.
    young_from : 14
        What began then or later may wait on: see ``is_young``.
    """

    def __init__(self, least: int, most: int):
        self.least = least
        self.most = most
        super().__init__({"crowded": In(1), "now": Out(AGE_BITS), "young_from": Out(AGE_BITS)})

    def elaborate(self, platform):
        m = Module()
        tick = Signal(range(_DOWN_EVERY))
        wait = Signal(range(self.most + _UP + 1), init=self.least)
        m.d.sync += [
            tick.eq(tick + 1),
            self.now.eq(self.now + 1),
            self.young_from.eq(self.now + 2 - wait),
        ]
        with m.If(self.crowded):
            with m.If(wait < self.most):
                m.d.sync += wait.eq(wait + _UP)
        with m.Elif((tick == 0) & (wait > self.least)):
            m.d.sync += wait.eq(wait - 1)
        return m
