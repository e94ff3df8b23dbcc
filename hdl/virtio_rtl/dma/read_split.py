"""Cut read requests into memory reads."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from virtio_rtl.dma.read_records import chunk_layout
from virtio_rtl.types.dma import ReadRequest

__all__ = ["ReadSplit"]

_PAGE = 4096


class ReadSplit(wiring.Component):
    """Cut one client's read requests at MRRS and at 4 KiB.

    Parameters
    ----------
    width
        Data bits of the datapath: 64, 128, 256 or 512.
    slot_bytes
        Largest single read in bytes, a power of two from 128 to 4096.

    Ports
    -----
    max_read_request : In(3)
        PCIe code of MRRS, 128 << code bytes; may change at any time.
    stop : In(1)
        Take no new request.
    request : In(stream ReadRequest)
    chunk : Out(stream chunk_layout(width))

    One chunk per cycle, no bubble between requests, latency one cycle. Order is kept. A chunk spans
    at most MRRS counted in whole dwords, so that the first one of an unaligned request is up to 3
    bytes shorter; a request is cut by length, not at multiples of MRRS, which costs the fewest
    TLPs. [PCIe 3.0 §2.2.7]

    ``request.ready`` depends on a register and on ``stop`` only: a second request can be taken
    while the first one is being cut. ``chunk`` is combinational from the request that is held, and
    changes if MRRS does: a `ChunkBuffer` has to follow, which takes it at once or is full. A
    request of length 0 is not allowed; lengths over 4096 work.
    """

    def __init__(self, width: int, slot_bytes: int):
        self.slot_bytes = slot_bytes
        self.lane_bits = exact_log2(width // 8)
        super().__init__(
            {
                "max_read_request": In(3),
                "stop": In(1),
                "request": In(stream.Signature(ReadRequest)),
                "chunk": Out(stream.Signature(chunk_layout(width))),
            }
        )

    def elaborate(self, platform):
        m = Module()

        read_size = Signal(13, init=128)
        with m.Switch(self.max_read_request):
            for code in range(8):
                with m.Case(code):
                    m.d.sync += read_size.eq(min(128 << code, self.slot_bytes))

        active = Signal()
        address = Signal(64)
        remaining = Signal(13)
        to_page_end = Signal(13)
        ends_group = Signal()
        first_lane = Signal(self.lane_bits)

        # A read that starts inside a dword spends its first bytes on it: they count for MRRS.
        by_size = Signal(13)
        page_limits = Signal()
        final = Signal()
        limit = Signal(13)
        length = Signal(13)
        chunk = self.chunk.payload
        m.d.comb += [
            by_size.eq(read_size - address[:2]),
            page_limits.eq(to_page_end <= by_size),
            final.eq((remaining <= to_page_end) & (remaining <= by_size)),
            limit.eq(Mux(page_limits, to_page_end, by_size)),
            length.eq(Mux(final, remaining, limit)),
            self.chunk.valid.eq(active),
            chunk.address.eq(address),
            chunk.length.eq(length),
            Cat(chunk.last_byte, chunk.dwords).eq(address[:2] + length + 3),
            chunk.single.eq((address[:2] + remaining <= 4) | (to_page_end <= 4)),
            chunk.first_lane.eq(first_lane),
            chunk.end.eq(first_lane + length),
            chunk.last.eq(ends_group & final),
        ]

        with m.If(self.chunk.ready):
            m.d.sync += [
                address.eq(address + limit),
                remaining.eq(remaining - limit),
                to_page_end.eq(Mux(page_limits, _PAGE, to_page_end - by_size)),
            ]
            with m.If(active):
                m.d.sync += first_lane.eq(Mux(ends_group & final, 0, first_lane + length))

        spare = Signal(ReadRequest)
        spare_valid = Signal()
        arrives = Signal()
        incoming = Signal(ReadRequest)
        m.d.comb += [
            self.request.ready.eq(~self.stop & ~spare_valid),
            arrives.eq(self.request.valid & self.request.ready),
            incoming.eq(Mux(spare_valid, spare, self.request.payload)),
        ]
        with m.If(~active | (self.chunk.ready & final)):
            m.d.sync += [
                active.eq(spare_valid | arrives),
                spare_valid.eq(0),
                address.eq(incoming.address),
                remaining.eq(incoming.length),
                to_page_end.eq(_PAGE - incoming.address[:12]),
                ends_group.eq(incoming.last),
            ]
        with m.Elif(arrives):
            m.d.sync += [spare_valid.eq(1), spare.eq(self.request.payload)]
        return m
