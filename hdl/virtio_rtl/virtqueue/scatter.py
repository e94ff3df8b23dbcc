"""One packet of bytes is laid over writable segments: hop 6, from the device."""

from amaranth.hdl import Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.stream import StreamFIFO
from ..types.dma import WriteRequest
from ..types.packet import packet_stream
from ..types.virtqueue import Buffer, Completion, Segment, WritableRequest
from .service import BurstRequest

__all__ = ["Scatter"]

_CHUNK = 4096


class _Placed(data.Struct):
    """A buffer whose writes have been requested, or that stays empty."""

    completion: Completion
    wrote: 1


class Scatter(wiring.Component):
    """Writes each packet of the device into the next buffer of its virtqueue.

    A packet that does not fit the next buffer is dropped whole: a driver never sees half a
    packet. The buffer is kept for the next packet; where there are several virtqueues, whose
    packets wait behind, it is given back with length 0 instead. A buffer that no packet can ever
    fit would stop the virtqueue for good; it breaks a rule, and is given back in error. Where
    there is no buffer, the packet is dropped.

    Parameters
    ----------
    width
        Bits of a packet beat.
    in_flight
        Packets that wait for their buffer, and buffers whose writes are on their way.
    least_bytes
        The device's shortest packet, in bytes.
    queues
        Virtqueues that the packets go to.

    Ports
    -----
    wanted : stream of ``WritableRequest``
        One per packet, in the order of the packets, as early as the length is known.
    packet : packet_stream(width)
        The device's packets; ``error`` is ignored.
    take : stream of ``BurstRequest``, to ``Walk``; segment, buffer : from ``Walk``
    request, write_packet, done : client of the write engine
    completion : stream of ``Completion``
        Sent when all writes of the buffer were accepted by the posted path; in order.
    dropped : 1
        A packet was dropped: it did not fit the next buffer, that buffer broke a rule, or there
        was none.
    failed : 1
        A buffer broke a rule of the specification, or has room for less than ``least_bytes``.

    One cycle a packet and one a segment; packet data pass without delay once they may.
    """

    def __init__(self, width: int, in_flight: int = 64, *, least_bytes: int = 0, queues: int = 1):
        self.width = width
        self.keeps = queues == 1
        self.in_flight = in_flight
        self.least_bytes = least_bytes
        super().__init__(
            {
                "wanted": In(stream.Signature(WritableRequest)),
                "packet": In(packet_stream(width)),
                "take": Out(stream.Signature(BurstRequest)),
                "segment": In(stream.Signature(Segment)),
                "buffer": In(stream.Signature(Buffer)),
                "request": Out(stream.Signature(WriteRequest)),
                "write_packet": Out(packet_stream(width)),
                "done": In(stream.Signature(unsigned(1))),
                "completion": Out(stream.Signature(Completion)),
                "dropped": Out(1),
                "failed": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.lengths = lengths = StreamFIFO(unsigned(17), self.in_flight)
        m.submodules.verdicts = verdicts = StreamFIFO(unsigned(1), 16)
        m.submodules.placed = placed = StreamFIFO(_Placed, self.in_flight)
        # The write engine takes a request only beside its data, which are some cycles behind.
        m.submodules.requests = requests = StreamFIFO(WriteRequest, 8)
        wiring.connect(m, requests.output, wiring.flipped(self.request))

        # Buffers that were taken for packets that turned out too long.
        spare = Signal(range(self.in_flight + 1))
        spared = Signal()
        reuse = Signal()
        # Once asked for, a buffer must be taken, even if another has become spare meanwhile.
        asked = Signal()
        m.d.comb += [
            self.take.payload.queue.eq(self.wanted.payload.queue),
            self.take.payload.buffers.eq(1),
            lengths.input.payload.eq(self.wanted.payload.length),
            reuse.eq(self.wanted.valid & lengths.input.ready & (spare != 0) & ~asked),
            self.take.valid.eq(self.wanted.valid & lengths.input.ready & ((spare == 0) | asked)),
            self.wanted.ready.eq(reuse | (self.take.ready & lengths.input.ready)),
            lengths.input.valid.eq(reuse | (self.take.valid & self.take.ready)),
            spared.eq(self.dropped & ~self.failed & self.keeps),
        ]
        m.d.sync += [
            asked.eq(self.take.valid & ~self.take.ready),
            spare.eq(spare + spared - reuse),
        ]
        self._place(m, lengths.output, verdicts.input, placed.input, requests.input)

        # Packet data wait here until it is known that they fit.
        m.d.comb += self.write_packet.payload.eq(self.packet.payload)
        with m.If(verdicts.output.valid):
            m.d.comb += [
                self.write_packet.valid.eq(self.packet.valid & verdicts.output.payload),
                self.packet.ready.eq(self.write_packet.ready | ~verdicts.output.payload),
                verdicts.output.ready.eq(
                    self.packet.valid & self.packet.ready & self.packet.payload.last
                ),
            ]

        head = placed.output.payload
        finished = self.done.valid | ~head.wrote
        m.d.comb += [
            self.completion.payload.eq(head.completion),
            self.completion.valid.eq(placed.output.valid & finished),
            placed.output.ready.eq(self.completion.ready & finished),
            self.done.ready.eq(placed.output.valid & head.wrote & self.completion.ready),
        ]
        return m

    def _place(self, m: Module, length, verdict, placed, request) -> None:
        buffer = self.buffer.payload
        segment = self.segment.payload
        left = Signal(17)
        offset = Signal(32)
        broken = Signal()
        fits = ~broken & (buffer.writable >= length.payload) & ~buffer.absent
        usable = Mux(segment.writable, segment.length - offset, 0)
        chunk = Signal(13)
        biggest = Mux(left > _CHUNK, _CHUNK, left)
        m.d.comb += [
            broken.eq((buffer.error | (buffer.writable < self.least_bytes)) & ~buffer.absent),
            chunk.eq(Mux(usable < biggest, usable, biggest)),
            request.payload.address.eq(segment.address + offset),
            request.payload.length.eq(chunk),
            request.payload.last.eq(left == chunk),
            placed.payload.completion.queue.eq(buffer.queue),
            placed.payload.completion.id.eq(buffer.id),
            placed.payload.completion.slots.eq(buffer.slots),
            placed.payload.completion.written.eq(Mux(fits, length.payload, 0)),
            placed.payload.completion.error.eq(broken),
            placed.payload.wrote.eq(fits),
            verdict.payload.eq(fits),
        ]
        with m.FSM(name="scatter"):
            with m.State("DECIDE"):
                go = self.buffer.valid & length.valid & verdict.ready & placed.ready
                m.d.sync += [left.eq(Mux(fits, length.payload, 0)), offset.eq(0)]
                with m.If(go):
                    m.d.comb += [
                        length.ready.eq(1),
                        verdict.valid.eq(1),
                        self.failed.eq(broken),
                        self.dropped.eq(~fits),
                    ]
                    with m.If(fits | broken | buffer.absent | Const(not self.keeps)):
                        m.d.comb += [self.buffer.ready.eq(1), placed.valid.eq(~buffer.absent)]
                        m.next = "LAY"
            with m.State("LAY"):
                with m.If(self.segment.valid):
                    m.d.comb += request.valid.eq(chunk != 0)
                    with m.If((chunk == 0) | request.ready):
                        m.d.sync += left.eq(left - chunk)
                        with m.If((usable == chunk) | (left == chunk)):
                            m.d.comb += self.segment.ready.eq(1)
                            m.d.sync += offset.eq(0)
                            with m.If(segment.last):
                                m.next = "DECIDE"
                        with m.Else():
                            m.d.sync += offset.eq(offset + chunk)
