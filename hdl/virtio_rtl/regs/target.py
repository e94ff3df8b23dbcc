"""The target end of the register bus: strobes for the registers, a held answer for the bus."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from virtio_rtl.types.regbus import RegisterBus, RegisterRequest

__all__ = ["RegisterTarget"]


class RegisterTarget(wiring.Component):
    """Turns bus accesses into single-cycle strobes and holds the answer until it is taken.

    Ports
    -----
    bus: In(RegisterBus)
    request: Out(RegisterRequest)
        The access; meaningful with a strobe, and before it while ``waiting``.
    waiting: Out(1)
        An access is there, taken or not.
    read, write: Out(1)
        The access is taken in this cycle.
    read_data: In(32)
        Answer, sampled with ``read``.
    hold: In(1)
        Take nothing.

    A write may be taken every cycle, a read every second cycle (an initiator has one outstanding
    anyway); the answer follows one cycle after the strobe. ``request.ready`` does not depend on
    ``response.ready``.
    """

    bus: In(RegisterBus())
    request: Out(RegisterRequest)
    waiting: Out(1)
    read: Out(1)
    write: Out(1)
    read_data: In(32)
    hold: In(1)

    def elaborate(self, platform):
        m = Module()
        request, response = self.bus.request, self.bus.response
        m.d.comb += [
            self.request.eq(request.payload),
            self.waiting.eq(request.valid),
            # Apart from each other, so that a write does not wait in logic for the answers' path.
            self.read.eq(request.valid & ~request.payload.write & ~self.hold & ~response.valid),
            self.write.eq(request.valid & request.payload.write & ~self.hold),
            request.ready.eq(~self.hold & (request.payload.write | ~response.valid)),
        ]
        with m.If(response.ready):
            m.d.sync += response.valid.eq(0)
        with m.If(self.read):
            m.d.sync += [response.valid.eq(1), response.payload.eq(self.read_data)]
        return m
