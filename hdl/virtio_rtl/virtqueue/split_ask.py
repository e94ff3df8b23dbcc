"""Sends what a look at a split virtqueue has decided to read."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..types.dma import ReadRequest
from .split_records import BLOCK, RingReadKind, ring_read

__all__ = ["SplitAsk"]


class SplitAsk(wiring.Component):
    """Reads of the available ring: first ``avail.idx``, then heads or the rest of a chain.

    Parameters
    ----------
    pointer_bits
        Width of a pointer into the read-ahead store.

    Ports
    -----
    index : 1
        Strobe: read ``avail.idx``.
    heads, chain : 1
        Strobe, one of them, after ``index`` or alone: read ``count`` entries from
        ``slot`` on, or go on with a chain.
    driver_area, slot, count, read_as
        Held from the strobes until ``done``; ``count`` from the cycle after its strobe.
    done : 1
        The last one is being taken, or nothing was asked for.
    request : stream of ``ReadRequest``
    read : stream of ``ring_read``
        ``read_as`` with its kind: for each request, and for each rest of a chain without one.

    From registers, one cycle after the strobe, one read a cycle.
    """

    def __init__(self, pointer_bits: int):
        self.pointer_bits = pointer_bits
        layout = ring_read(pointer_bits)
        super().__init__(
            {
                "index": In(1),
                "heads": In(1),
                "chain": In(1),
                "driver_area": In(64),
                "slot": In(15),
                "count": In(range(BLOCK + 1)),
                "read_as": In(layout),
                "done": Out(1),
                "request": Out(stream.Signature(ReadRequest)),
                "read": Out(stream.Signature(layout)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        index, heads, chain = Signal(), Signal(), Signal()
        request_sent = Signal()
        read_sent = Signal()
        sent = Signal()
        request = self.request.payload
        has_request = index | heads
        asks = has_request | chain
        m.d.comb += [
            request.last.eq(1),
            self.read.payload.eq(self.read_as),
            self.request.valid.eq(has_request & ~request_sent),
            self.read.valid.eq(asks & ~read_sent),
            sent.eq(
                asks
                & (request_sent | self.request.ready | ~has_request)
                & (read_sent | self.read.ready)
            ),
            self.done.eq(~asks | (sent & ~(index & (heads | chain)))),
        ]
        with m.If(index):
            m.d.comb += [
                self.read.payload.kind.eq(RingReadKind.INDEX),
                request.address.eq(self.driver_area + 2),
                request.length.eq(2),
            ]
        with m.Else():
            m.d.comb += [
                self.read.payload.kind.eq(Mux(chain, RingReadKind.CHAIN, RingReadKind.HEADS)),
                request.address.eq(self.driver_area + 4 + Cat(Const(0, 1), self.slot)),
                request.length.eq(self.count << 1),
            ]
        with m.If(sent):
            m.d.sync += [request_sent.eq(0), read_sent.eq(0), index.eq(0)]
            with m.If(~index):
                m.d.sync += [heads.eq(0), chain.eq(0)]
        with m.Else():
            m.d.sync += [
                request_sent.eq(request_sent | (self.request.valid & self.request.ready)),
                read_sent.eq(read_sent | (self.read.valid & self.read.ready)),
            ]
        with m.If(self.index):
            m.d.sync += index.eq(1)
        with m.If(self.heads):
            m.d.sync += heads.eq(1)
        with m.If(self.chain):
            m.d.sync += chain.eq(1)
        return m
