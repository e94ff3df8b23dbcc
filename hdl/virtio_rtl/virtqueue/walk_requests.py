"""The request behind the one that a walker serves."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .service import BurstRequest

__all__ = ["WalkRequests"]


class WalkRequests(wiring.Component):
    """Keeps one request ready, or adds it to the burst that is served.

    Parameters
    ----------
    pull
        Requests for the virtqueue that is served join its burst.

    Ports
    -----
    request : stream of ``BurstRequest``
    queue : 16
        The virtqueue that is served.
    serving, full : 1
        A burst is served; it can take no more buffers. Requests join it only between.
    begin : 1
        Strobe: ``chosen``, if ``some``, is served from the next cycle on.
    chosen : ``BurstRequest``; some : 1
        The next request, combinational from ``request`` where none waits here.
    waits : 1
        The next request waits here; a register.
    joins : 1
        A request for one buffer more joins the burst in this cycle.

    One request a cycle; order is kept. ``request.ready`` depends on registers only.
    """

    def __init__(self, pull: bool):
        self.pull = pull
        super().__init__(
            {
                "request": In(stream.Signature(BurstRequest)),
                "queue": In(16),
                "serving": In(1),
                "full": In(1),
                "begin": In(1),
                "chosen": Out(BurstRequest),
                "some": Out(1),
                "waits": Out(1),
                "joins": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        pending = Signal(BurstRequest)
        same = Signal()
        incoming = self.request.payload
        m.d.comb += [
            self.request.ready.eq(~self.waits | self.joins),
            self.some.eq(self.waits | self.request.valid),
            Value.cast(self.chosen).eq(Mux(self.waits, Value.cast(pending), Value.cast(incoming))),
        ]
        if self.pull:
            m.d.comb += self.joins.eq(self.waits & same & ~self.full & self.serving)
        with m.If(self.joins | self.begin):
            m.d.sync += self.waits.eq(0)
        with m.If(self.request.valid & self.request.ready & ~(self.begin & ~self.waits)):
            m.d.sync += [
                pending.eq(incoming),
                self.waits.eq(1),
                same.eq(incoming.queue == self.queue),
            ]
        return m
