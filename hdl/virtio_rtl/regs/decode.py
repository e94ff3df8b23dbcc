"""Register bus decoder: one initiator in, one target per region out."""

from collections.abc import Sequence
from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from virtio_rtl.regs.maps import BAR_BYTES, Region
from virtio_rtl.types.regbus import RegisterBus, RegisterRequest

__all__ = ["BusDecoder"]


class BusDecoder(wiring.Component):
    """Routes each access to the region that holds its address.

    Parameters
    ----------
    regions
        Disjoint regions inside the BAR, bounds in bytes and multiples of 4.

    Ports
    -----
    bus: In(RegisterBus)
    <region name>: Out(RegisterBus)
        Addresses are passed on unchanged, relative to the BAR.

    One access per cycle; accesses and answers pass combinationally. An access that its region
    does not take at once waits here: ``bus.request.ready`` is registered. All accesses leave in
    order; a write may go to one region while another still owes the answer of a read, a second
    read waits. Between the regions reads answer 0 and writes are dropped.
    """

    def __init__(self, regions: Sequence[Region]):
        self.regions = tuple(sorted(regions, key=lambda region: region.start))
        edge = 0
        for region in self.regions:
            if region.start < edge or region.end <= region.start or region.end > BAR_BYTES:
                raise ValueError(f"region {region!r}: overlaps, is empty or leaves the BAR")
            if region.start % 4 or region.end % 4:
                raise ValueError(f"region {region!r}: bounds are multiples of 4")
            edge = region.end
        super().__init__(
            {"bus": In(RegisterBus())}
            | {region.name: Out(RegisterBus()) for region in self.regions}
        )

    def elaborate(self, platform):
        m = Module()
        unmapped = len(self.regions)
        decoded = data.StructLayout({"request": RegisterRequest, "hits": unmapped})
        response = self.bus.response
        # An access goes to its region at once; if it is not taken there, it waits here, so that
        # the bus does not wait for what the regions think of it.
        waiting = Signal(decoded)
        waits = Signal()
        access = Signal(decoded)
        access_valid = Signal()
        access_ready = Signal()
        address = self.bus.request.payload.address
        m.d.comb += [
            self.bus.request.ready.eq(~waits),
            access_valid.eq(waits | self.bus.request.valid),
            access.eq(waiting),
        ]
        with m.If(~waits):
            m.d.comb += [
                access.request.eq(self.bus.request.payload),
                access.hits.eq(Cat(_inside(address, region) for region in self.regions)),
            ]
        m.d.sync += [waits.eq(access_valid & ~access_ready), waiting.eq(access)]

        request, hits = access.request, access.hits
        owing = Signal(unmapped + 1)  # whose answer counts while reading: a region, or nobody
        reading = Signal()
        go = ~(reading & ~request.write)
        takes = []
        answered = [reading & owing[unmapped]]
        answers = []
        for index, region in enumerate(self.regions):
            port = getattr(self, region.name)
            m.d.comb += [
                port.request.payload.eq(request),
                port.request.valid.eq(access_valid & go & hits[index]),
                # Nobody answers who was not asked.
                port.response.ready.eq(response.ready),
            ]
            takes.append(hits[index] & port.request.ready)
            answered.append(port.response.valid)
            answers.append(Mux(owing[index], port.response.payload, 0))
        m.d.comb += [
            access_ready.eq(go & (Cat(takes).any() | ~hits.any())),
            response.payload.eq(reduce(or_, answers)),
            response.valid.eq(Cat(answered).any()),
        ]
        with m.If(response.valid & response.ready):
            m.d.sync += reading.eq(0)
        with m.If(access_valid & access_ready & ~request.write):
            m.d.sync += reading.eq(1)
        with m.If(~reading):
            m.d.sync += owing.eq(Cat(hits, ~hits.any()))
        return m


def _inside(address, region):
    """Whether an address is in a region: compares the upper bits of naturally aligned blocks."""
    blocks = []
    start = region.start
    while start < region.end:
        size = start & -start or BAR_BYTES
        while start + size > region.end:
            size //= 2
        bits = size.bit_length() - 1
        blocks.append(address[bits:] == start >> bits)
        start += size
    return Cat(*blocks).any()
