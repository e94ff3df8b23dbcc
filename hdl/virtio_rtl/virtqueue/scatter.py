"""One packet of bytes is laid over writable segments: hop 6, from the device."""

from amaranth.hdl import Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.stream import SkidBuffer, StreamFIFO
from ..types.dma import WriteRequest
from ..types.packet import packet_beat, packet_stream
from ..types.virtqueue import Buffer, Completion, Reply, Segment, WritableRequest
from .request_chunks import RequestChunks
from .service import BurstRequest

__all__ = ["Scatter"]


class _Placed(data.Struct):
    """A buffer whose writes have been requested, or that stays empty."""

    completion: Completion
    wrote: 1


class Scatter(wiring.Component):
    """Writes each packet of the device into the next buffer of its virtqueue.

    A packet that does not fit the next buffer is dropped whole: a driver never sees half a
    packet. The buffer is given back with length 0: a buffer that was taken never stays inside,
    nor does the packet behind wait for one that fits. A buffer that no packet can ever fit breaks
    a rule, and is given back in error. Where there is no buffer, the packet is dropped.

    Where buffers are requests (``requests``), these come without being asked for, and each gets a
    reply, in order; one without bytes has no packet. A buffer that breaks a rule has no reply.

    Parameters
    ----------
    width
        Bits of a packet beat.
    in_flight
        Packets that wait for their buffer, and buffers whose writes are on their way.
    least_bytes
        The device's shortest packet, in bytes.
    length_bits
        Bits of a packet's length.
    requests
        Buffers are requests: ``reply`` instead of ``wanted`` and ``take``, no buffer is absent.

    Ports
    -----
    wanted : stream of ``WritableRequest``
        One per packet, in the order of the packets, as early as the length is known.
    reply : stream of ``Reply``
        One per buffer that breaks no rule, in order. It must not wait for its packet to be taken.
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
    idle : 1
        No buffer is inside: all whose records were taken are completed. Packets may wait for
        theirs.

    One cycle a packet and one a segment. Latency: ``wanted`` to ``take`` none; buffer and segment
    to ``request`` two cycles; packet data one, or none once they may pass after having waited;
    ``done`` to ``completion`` none. ``ready`` of ``packet``, ``reply`` and ``done`` are registers.
    """

    def __init__(
        self,
        width: int,
        in_flight: int = 64,
        *,
        least_bytes: int = 0,
        length_bits: int = 17,
        requests: bool = False,
    ):
        self.width = width
        self.in_flight = in_flight
        self.least_bytes = least_bytes
        self.length_bits = length_bits
        self.requests = requests
        if requests:
            asks = {"reply": In(stream.Signature(Reply))}
        else:
            asks = {
                "wanted": In(stream.Signature(WritableRequest)),
                "take": Out(stream.Signature(BurstRequest)),
            }
        super().__init__(
            asks
            | {
                "packet": In(packet_stream(width)),
                "segment": In(stream.Signature(Segment)),
                "buffer": In(stream.Signature(Buffer)),
                "request": Out(stream.Signature(WriteRequest)),
                "write_packet": Out(packet_stream(width)),
                "done": In(stream.Signature(unsigned(1))),
                "completion": Out(stream.Signature(Completion)),
                "dropped": Out(1),
                "failed": Out(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.lengths = lengths = StreamFIFO(unsigned(self.length_bits), self.in_flight)
        m.submodules.verdicts = verdicts = StreamFIFO(unsigned(1), 16)
        m.submodules.placed = placed = StreamFIFO(_Placed, self.in_flight)
        # The write engine takes a request only beside its data, which are some cycles behind.
        m.submodules.chunks = chunks = RequestChunks(WriteRequest, self.length_bits, waiting=8)
        wiring.connect(m, chunks.request, wiring.flipped(self.request))

        if self.requests:
            m.d.comb += [
                lengths.input.payload.eq(self.reply.payload.length),
                lengths.input.valid.eq(self.reply.valid),
                self.reply.ready.eq(lengths.input.ready),
            ]
        else:
            m.d.comb += [
                self.take.payload.queue.eq(self.wanted.payload.queue),
                self.take.payload.buffers.eq(1),
                self.take.valid.eq(self.wanted.valid & lengths.input.ready),
                lengths.input.payload.eq(self.wanted.payload.length),
                lengths.input.valid.eq(self.wanted.valid & self.take.ready),
                self.wanted.ready.eq(lengths.input.ready & self.take.ready),
            ]
        self._place(m, lengths.output, verdicts.input, placed.input, chunks.piece)
        self._pass(m, verdicts.output)
        self._complete(m, placed.output)
        m.d.comb += self.idle.eq(~placed.output.valid)
        return m

    def _place(self, m: Module, length, verdict, placed, piece) -> None:
        """Decide about the next packet and buffer; then lay the packet over the segments."""
        buffer = self.buffer.payload
        segment = self.segment.payload
        left = Signal(self.length_bits)
        more = Signal()  # left is not 0
        broken = Signal()
        fits = Signal()
        covers = Signal()
        some = Signal()
        if self.requests:
            # A broken buffer has no reply, and a reply without bytes has no packet.
            has_length = ~buffer.error
            has_packet = ~buffer.error & length.payload.any()
            may_decide = length.valid | buffer.error
        else:
            has_length = has_packet = Const(1)
            may_decide = length.valid
        m.d.comb += [
            broken.eq((buffer.error | (buffer.writable < self.least_bytes)) & ~buffer.absent),
            fits.eq(~broken & (buffer.writable >= length.payload) & ~buffer.absent),
            verdict.payload.eq(fits),
            placed.payload.completion.queue.eq(buffer.queue),
            placed.payload.completion.id.eq(buffer.id),
            placed.payload.completion.slots.eq(buffer.slots),
            placed.payload.completion.written.eq(Mux(fits, length.payload, 0)),
            placed.payload.completion.error.eq(broken),
            placed.payload.wrote.eq(fits & has_packet if self.requests else fits),
            # The segment takes all that is left of the packet.
            covers.eq(segment.length >= left),
            some.eq(segment.writable & segment.length.any() & more),
            piece.payload.address.eq(segment.address),
            piece.payload.length.eq(Mux(covers, left, segment.length[: self.length_bits])),
            piece.payload.last.eq(covers),
        ]
        m.d.sync += [self.dropped.eq(0), self.failed.eq(0)]
        with m.FSM(name="scatter"):
            with m.State("DECIDE"):
                go = self.buffer.valid & may_decide & verdict.ready & placed.ready
                m.d.sync += [left.eq(length.payload), more.eq(placed.payload.wrote)]
                with m.If(go):
                    m.d.comb += [
                        length.ready.eq(has_length),
                        verdict.valid.eq(has_packet),
                        self.buffer.ready.eq(1),
                        placed.valid.eq(~buffer.absent),
                    ]
                    m.d.sync += [self.dropped.eq(~fits), self.failed.eq(broken)]
                    m.next = "LAY"
            with m.State("LAY"):
                m.d.comb += [
                    piece.valid.eq(self.segment.valid & some),
                    self.segment.ready.eq(piece.ready | ~some),
                ]
                with m.If(self.segment.valid & self.segment.ready):
                    with m.If(some):
                        m.d.sync += [
                            left.eq(left - segment.length[: self.length_bits]),
                            more.eq(~covers),
                        ]
                    with m.If(segment.last):
                        m.next = "DECIDE"

    def _pass(self, m: Module, verdict) -> None:
        """Packet data wait here until it is known that they fit."""
        m.submodules.data = held = SkidBuffer(packet_beat(self.width))
        wiring.connect(m, wiring.flipped(self.packet), held.input)
        beat = held.output
        m.d.comb += [
            self.write_packet.payload.eq(beat.payload),
            self.write_packet.valid.eq(beat.valid & verdict.valid & verdict.payload),
            beat.ready.eq(verdict.valid & (self.write_packet.ready | ~verdict.payload)),
            verdict.ready.eq(beat.valid & beat.ready & beat.payload.last),
        ]

    def _complete(self, m: Module, placed) -> None:
        """Buffers leave in order, those with data when these were accepted."""
        accepted = Signal(range(self.in_flight + 1))  # writes that were, and not yet told
        some = Signal()  # accepted is not 0
        room = Signal(init=1)
        finished = Signal()
        arrives = Signal()
        told = Signal()
        m.d.comb += [
            finished.eq(~placed.payload.wrote | some | self.done.valid),
            self.completion.payload.eq(placed.payload.completion),
            self.completion.valid.eq(placed.valid & finished),
            placed.ready.eq(self.completion.ready & finished),
            # There are never more than buffers.
            self.done.ready.eq(room),
            arrives.eq(self.done.valid & room),
            told.eq(self.completion.valid & self.completion.ready & placed.payload.wrote),
        ]
        with m.If(arrives & ~told):
            m.d.sync += [
                accepted.eq(accepted + 1),
                some.eq(1),
                room.eq(accepted != self.in_flight - 1),
            ]
        with m.Elif(told & ~arrives):
            m.d.sync += [accepted.eq(accepted - 1), some.eq(accepted != 1), room.eq(1)]
