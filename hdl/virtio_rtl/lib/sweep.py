"""Clearing a memory after reset."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["ResetSweep"]


class ResetSweep(wiring.Component):
    """Counts once through ``depth`` addresses after every reset.

    Memories keep their content through a reset; whoever keeps state in one writes its reset
    value to ``address`` while ``busy``. A single row is cleared on demand, for the reset of one
    virtqueue.

    Parameters
    ----------
    depth
        Rows of the memory.

    Ports
    -----
    clear : 1, row
        Strobe: in the next cycle ``address`` is ``row``, and ``busy`` for that cycle. Not to come
        while ``busy``. Left alone, it costs nothing.
    address, busy
    """

    def __init__(self, depth: int):
        self.depth = depth
        index = range(max(depth, 2))
        super().__init__(
            {"clear": In(1), "row": In(index), "address": Out(index), "busy": Out(1, init=1)}
        )

    def elaborate(self, platform):
        m = Module()
        whole = Signal(init=1)
        with m.If(self.busy):
            m.d.sync += self.address.eq(self.address + 1)
            with m.If(~whole | (self.address == self.depth - 1)):
                m.d.sync += [self.busy.eq(0), whole.eq(0)]
        with m.If(self.clear):
            m.d.sync += [self.address.eq(self.row), self.busy.eq(1)]
        return m
