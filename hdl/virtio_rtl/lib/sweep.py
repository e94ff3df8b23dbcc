"""Clearing a memory after reset."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

__all__ = ["ResetSweep"]


class ResetSweep(wiring.Component):
    """Counts once through ``depth`` addresses after every reset.

    Memories keep their content through a reset; whoever keeps state in one writes its reset
    value to ``address`` while ``busy``.
    """

    def __init__(self, depth: int):
        self.depth = depth
        super().__init__({"address": Out(range(max(depth, 2))), "busy": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        with m.If(self.busy):
            m.d.sync += self.address.eq(self.address + 1)
            with m.If(self.address == self.depth - 1):
                m.d.sync += self.busy.eq(0)
        return m
