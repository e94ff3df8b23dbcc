"""Register bus arbiter: several initiators, one bus."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from virtio_rtl.lib.stream import StreamArbiter
from virtio_rtl.types.regbus import RegisterBus, RegisterRequest

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

    Combinational; one write per cycle. After a read nothing passes until its answer was taken,
    so an initiator's accesses keep their order and nobody can get another one's answer.
    """

    def __init__(self, count: int):
        self.count = count
        super().__init__(
            {f"initiator_{i}": In(RegisterBus()) for i in range(count)}
            | {"bus": Out(RegisterBus())}
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.arbiter = arbiter = StreamArbiter(RegisterRequest, self.count)
        request, response = self.bus.request, self.bus.response
        reading = Signal()
        owner = Signal.like(arbiter.grant)
        m.d.comb += [
            request.payload.eq(arbiter.output.payload),
            request.valid.eq(arbiter.output.valid & ~reading),
            arbiter.output.ready.eq(request.ready & ~reading),
        ]
        for index in range(self.count):
            initiator = getattr(self, f"initiator_{index}")
            wiring.connect(m, wiring.flipped(initiator.request), getattr(arbiter, f"input_{index}"))
            m.d.comb += initiator.response.payload.eq(response.payload)
            with m.If(reading & (owner == index)):
                m.d.comb += [
                    initiator.response.valid.eq(response.valid),
                    response.ready.eq(initiator.response.ready),
                ]
        with m.If(response.valid & response.ready):
            m.d.sync += reading.eq(0)
        with m.If(request.valid & request.ready & ~request.payload.write):
            m.d.sync += [reading.eq(1), owner.eq(arbiter.grant)]
        return m
