"""Who goes next."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["RoundRobin"]


class RoundRobin(wiring.Component):
    """Choose one of several requests, in turn; the choice may change until it is taken.

    Parameters
    ----------
    count
        Number of requests, at least 1.

    Ports
    -----
    request : In(count)
    grant : Out(count)
        One bit of those in ``request``, or none if there is none.
    taken : In(1)
        The request with this grant was served: it goes to the end of the line.

    Combinational, 3 levels of logic for up to 5 requests: the line is kept as the set of those
    that come before the last one served, so that nothing has to be decoded.
    """

    def __init__(self, count: int):
        if count < 1:
            raise ValueError(f"count = {count!r}: at least 1")
        self.count = count
        super().__init__({"request": In(count), "grant": Out(count), "taken": In(1)})

    def elaborate(self, platform):
        m = Module()
        waited = Signal(self.count)
        first = Signal(self.count)
        ahead = Signal(self.count)
        m.d.comb += first.eq(self.request & waited)
        for index in range(self.count):
            m.d.comb += [
                ahead[index].eq(first[index] & ~first[:index].any()),
                self.grant[index].eq(
                    ahead[index]
                    | (self.request[index] & ~self.request[:index].any() & ~first.any())
                ),
            ]
        with m.If(self.taken):
            m.d.sync += waited.eq(Cat(self.grant[:index].any() for index in range(self.count)))
        return m
