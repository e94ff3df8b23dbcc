"""DMA requests of at most 4096 bytes from pieces of memory of any length."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.bypass import BypassFIFO

__all__ = ["RequestChunks", "piece"]

_CHUNK = 4096


def piece(length_bits: int) -> data.StructLayout:
    """``length`` bytes of memory, at least 1; ``last`` ends a group of requests."""
    return data.StructLayout({"address": 64, "length": length_bits, "last": 1})


class RequestChunks(wiring.Component):
    """Cuts each piece into requests of 4096 bytes and a rest.

    Parameters
    ----------
    request
        ``ReadRequest`` or ``WriteRequest``.
    length_bits
        Bits of a piece's length.
    waiting
        Pieces that can wait while ``request`` stalls, at least 2.

    Ports
    -----
    piece : stream of ``piece(length_bits)``; ``ready`` is a register
    request : stream of ``request``

    One request a cycle; latency one cycle.
    """

    def __init__(self, request: type[data.Struct], length_bits: int, waiting: int):
        self.length_bits = length_bits
        self.waiting = waiting
        super().__init__(
            {
                "piece": In(stream.Signature(piece(length_bits))),
                "request": Out(stream.Signature(request)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.pieces = pieces = BypassFIFO(piece(self.length_bits), self.waiting)
        wiring.connect(m, wiring.flipped(self.piece), pieces.input)

        request = self.request
        address = Signal(64)
        left = Signal(max(self.length_bits, 13))
        last = Signal()
        long = Signal()  # left is more than one request
        free = Signal()
        loaded = pieces.output.payload
        m.d.comb += [
            free.eq(~request.valid | (request.ready & ~long)),
            pieces.output.ready.eq(free),
            request.payload.address.eq(address),
            request.payload.length.eq(Mux(long, _CHUNK, left[:13])),
            request.payload.last.eq(last & ~long),
        ]
        with m.If(free):
            m.d.sync += [
                request.valid.eq(pieces.output.valid),
                address.eq(loaded.address),
                left.eq(loaded.length),
                last.eq(loaded.last),
                long.eq(loaded.length > _CHUNK),
            ]
        with m.Elif(request.ready):
            m.d.sync += [
                address[12:].eq(address[12:] + 1),
                left[12:].eq(left[12:] - 1),
                long.eq(left > 2 * _CHUNK),
            ]
        return m
