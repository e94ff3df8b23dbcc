"""Register bus arbiter: several initiators, one bus."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from virtio_rtl.types.regbus import RegisterBus

__all__ = ["BusArbiter"]


class BusArbiter(wiring.Component):
    """Gives the bus to one initiator at a time, round robin, and answers the one that asked.

    Parameters
    ----------
    count
        Number of initiators, at least 1.

    Ports
    -----
    initiator_0 ... initiator_{count-1}: In(RegisterBus)
    bus: Out(RegisterBus)

    The bus is parked at initiator 0, whose accesses pass combinationally; another one gets it in
    the cycle after it has asked, when no access is offered or an access ends. While nobody else
    asks, one write per cycle. Who owns the bus is registered: no ``ready`` depends on a ``valid``.

    After a read nothing passes until its answer was taken, so an initiator's accesses keep their
    order and nobody can get another one's answer.
    """

    def __init__(self, count: int):
        self.count = count
        super().__init__(
            {f"initiator_{i}": In(RegisterBus()) for i in range(count)}
            | {"bus": Out(RegisterBus())}
        )

    def elaborate(self, platform):
        m = Module()
        initiators = [getattr(self, f"initiator_{index}") for index in range(self.count)]
        request, response = self.bus.request, self.bus.response
        owner = Signal(range(max(self.count, 2)))
        following = Signal.like(owner)
        reading = Signal()
        with m.Switch(owner):
            for index, initiator in enumerate(initiators):
                with m.Case(index):
                    m.d.comb += [
                        request.payload.eq(initiator.request.payload),
                        request.valid.eq(initiator.request.valid & ~reading),
                        initiator.request.ready.eq(request.ready & ~reading),
                        initiator.response.valid.eq(response.valid & reading),
                        response.ready.eq(initiator.response.ready & reading),
                    ]
                    with m.If(initiator.request.valid):
                        m.d.comb += following.eq(index)
                    # From the lowest to the highest priority: the last match wins.
                    for step in reversed(range(1, self.count)):
                        candidate = (index + step) % self.count
                        with m.If(initiators[candidate].request.valid):
                            m.d.comb += following.eq(candidate)
        for initiator in initiators:
            m.d.comb += initiator.response.payload.eq(response.payload)

        # What was offered stays offered until it is taken.
        with m.If(reading):
            with m.If(response.valid & response.ready):
                m.d.sync += [reading.eq(0), owner.eq(following)]
        with m.Elif(~request.valid | request.ready):
            with m.If(request.valid & ~request.payload.write):
                m.d.sync += reading.eq(1)
            with m.Else():
                m.d.sync += owner.eq(following)
        return m
