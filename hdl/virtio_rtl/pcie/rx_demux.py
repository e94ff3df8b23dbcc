"""Receive side: who gets a TLP."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

from ..lib.stream import SkidBuffer, StreamFIFO
from ..types.tlp import TLPType, tlp_beat, tlp_stream

__all__ = ["RxDemux"]


class _Route(enum.Enum, shape=2):
    DROP = 0
    COMPLETIONS = 1
    REQUESTS = 2
    CONFIG = 3


class RxDemux(wiring.Component):
    """Sort received TLPs by who answers or consumes them. [PCIe 3.0 §2.2, §2.3]

    Parameters
    ----------
    width
        Data bits of the TLP streams: 64, 128, 256 or 512.
    request_depth
        Beats of the FIFO in front of ``requests``, at least 2: what a slow BAR target may leave
        standing before it holds up the completions behind it. One more fits in.

    Ports
    -----
    tlp : in, ``tlp_stream(width)``
        Everything that the link delivers, in its order.
    completions : out, ``tlp_stream(width)``
        ``COMPLETION``, ``COMPLETION_DATA``. Not registered.
    requests : out, ``tlp_stream(width)``
        Memory and I/O requests, and what must be answered although nobody here supports it:
        ``OTHER_NONPOSTED``, ``CONFIG_READ1``, ``CONFIG_WRITE1``.
    config : out, ``tlp_stream(width)``
        ``CONFIG_READ0``, ``CONFIG_WRITE0``.
    dropped : out, 1 bit
        High for one cycle per TLP that was consumed here: messages, ``OTHER`` and type codes
        without a meaning. An endpoint may ignore them; a counter should not.

    One beat per cycle in, no bubble between TLPs. No latency to ``completions``, whose payload is
    that of ``tlp``; one cycle to the others and ``dropped``. ``tlp.ready`` depends on registers
    and on ``completions.ready``, not on the type: there is room for a beat of any type.

    Order is kept within an output, not between outputs: a completion may reach the read engine
    before a memory write that came earlier has reached its register. Nothing in a virtio device
    relies on that order.

    A beat that continues a TLP follows the route of its first beat. Limitation: a full output
    holds up the TLPs behind, whatever their type.
    """

    def __init__(self, width: int, request_depth: int = 32):
        if request_depth < 2:
            raise ValueError(f"request_depth = {request_depth!r}: at least 2")
        self.width = width
        self.request_depth = request_depth
        super().__init__(
            {
                "tlp": In(tlp_stream(width)),
                "completions": Out(tlp_stream(width)),
                "requests": Out(tlp_stream(width)),
                "config": Out(tlp_stream(width)),
                "dropped": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        beat = tlp_beat(self.width)
        m.submodules.requests_fifo = requests = StreamFIFO(beat, self.request_depth + 1)
        m.submodules.config_skid = config = SkidBuffer(beat)
        wiring.connect(m, requests.output, wiring.flipped(self.requests))
        wiring.connect(m, config.output, wiring.flipped(self.config))

        tlp = self.tlp
        wanted = Signal(_Route)
        with m.Switch(tlp.payload.header.type):
            with m.Case(TLPType.COMPLETION, TLPType.COMPLETION_DATA):
                m.d.comb += wanted.eq(_Route.COMPLETIONS)
            with m.Case(
                TLPType.MEM_READ,
                TLPType.MEM_WRITE,
                TLPType.IO_READ,
                TLPType.IO_WRITE,
                TLPType.CONFIG_READ1,
                TLPType.CONFIG_WRITE1,
                TLPType.OTHER_NONPOSTED,
            ):
                m.d.comb += wanted.eq(_Route.REQUESTS)
            with m.Case(TLPType.CONFIG_READ0, TLPType.CONFIG_WRITE0):
                m.d.comb += wanted.eq(_Route.CONFIG)
            with m.Default():
                m.d.comb += wanted.eq(_Route.DROP)

        current = Signal(_Route)
        route = Signal(_Route)
        m.d.comb += route.eq(Mux(tlp.payload.first, wanted, current))
        with m.If(tlp.valid & tlp.ready):
            m.d.sync += current.eq(route)

        # `ready` does not look at the type, so that a full output holds up all types.
        room = Signal()
        m.d.comb += [
            room.eq(requests.input.ready & config.input.ready),
            tlp.ready.eq(room & self.completions.ready),
            self.completions.payload.eq(tlp.payload),
            self.completions.valid.eq(tlp.valid & room & (route == _Route.COMPLETIONS)),
        ]
        for code, target in ((_Route.REQUESTS, requests), (_Route.CONFIG, config)):
            m.d.comb += [
                target.input.payload.eq(tlp.payload),
                target.input.valid.eq(tlp.valid & tlp.ready & (route == code)),
            ]
        m.d.sync += self.dropped.eq(
            tlp.valid & tlp.ready & tlp.payload.last & (route == _Route.DROP)
        )
        return m
