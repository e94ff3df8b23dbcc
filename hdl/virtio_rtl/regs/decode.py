"""Register bus decoder: one initiator in, one target per region out."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from virtio_rtl.lib.stream import SkidBuffer
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

    One access per cycle, one cycle later at its region; answers pass combinationally. All
    accesses leave in order; a write may go to one region while another still owes the answer of
    a read, a second read waits. Between the regions reads answer 0 and writes are dropped.
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
        # Decoded before the register, so that a region's logic has the cycle for itself.
        m.submodules.buffer = buffer = SkidBuffer(decoded)
        m.d.comb += [
            buffer.input.payload.request.eq(self.bus.request.payload),
            buffer.input.payload.hits.eq(
                Cat(_inside(self.bus.request.payload.address, region) for region in self.regions)
            ),
            buffer.input.valid.eq(self.bus.request.valid),
            self.bus.request.ready.eq(buffer.input.ready),
        ]
        access = buffer.output
        request, hits = access.payload.request, access.payload.hits
        response = self.bus.response
        owner = Signal(range(unmapped + 1))
        reading = Signal()
        target = Signal.like(owner)
        go = ~(reading & ~request.write)
        m.d.comb += [target.eq(unmapped), access.ready.eq(go)]
        for index, region in enumerate(self.regions):
            port = getattr(self, region.name)
            m.d.comb += [
                port.request.payload.eq(request),
                port.request.valid.eq(access.valid & go & hits[index]),
            ]
            with m.If(hits[index]):
                m.d.comb += [target.eq(index), access.ready.eq(go & port.request.ready)]
            with m.If(reading & (owner == index)):
                m.d.comb += [
                    response.payload.eq(port.response.payload),
                    response.valid.eq(port.response.valid),
                    port.response.ready.eq(response.ready),
                ]
        with m.If(reading & (owner == unmapped)):
            m.d.comb += [response.payload.eq(0), response.valid.eq(1)]
        with m.If(response.valid & response.ready):
            m.d.sync += reading.eq(0)
        with m.If(access.valid & access.ready & ~request.write):
            m.d.sync += [reading.eq(1), owner.eq(target)]
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
