"""Register bus decoder: one initiator in, one target per region out."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from virtio_rtl.regs.maps import BAR_BYTES, Region
from virtio_rtl.types.regbus import RegisterBus

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

    Combinational; one access per cycle. Accesses keep their order per region; a write may pass
    to one region while another still owes the answer of a read, a second read waits. Between the
    regions reads answer 0 and writes are dropped.
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
        request, response = self.bus.request, self.bus.response
        unmapped = len(self.regions)
        owner = Signal(range(unmapped + 1))
        reading = Signal()
        target = Signal.like(owner)
        hits = Signal(len(self.regions))
        address = request.payload.address
        m.d.comb += [
            hits.eq(Cat((address >= r.start) & (address < r.end) for r in self.regions)),
            target.eq(unmapped),
        ]
        go = ~(reading & ~request.payload.write)
        m.d.comb += request.ready.eq(go)
        for index, region in enumerate(self.regions):
            port = getattr(self, region.name)
            m.d.comb += [
                port.request.payload.eq(request.payload),
                port.request.valid.eq(request.valid & go & hits[index]),
            ]
            with m.If(hits[index]):
                m.d.comb += [target.eq(index), request.ready.eq(go & port.request.ready)]
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
        with m.If(request.valid & request.ready & ~request.payload.write):
            m.d.sync += [reading.eq(1), owner.eq(target)]
        return m
