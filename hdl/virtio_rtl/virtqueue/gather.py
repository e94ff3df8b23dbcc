"""Readable segments become one packet of bytes: hop 6, towards the device."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.stream import StreamFIFO
from ..types.dma import ReadRequest
from ..types.packet import packet_stream
from ..types.virtqueue import Buffer, Completion, Segment
from .request_chunks import RequestChunks

__all__ = ["Gather"]


class _Record(data.Struct):
    """A buffer whose payload reads have been requested."""

    queue: 16
    id: 16
    slots: 16
    empty: 1
    drop: 1
    bad: 1


class Gather(wiring.Component):
    """Reads the readable segments of each buffer and hands the device one packet per buffer.

    Parameters
    ----------
    width
        Bits of a packet beat.
    max_bytes
        Longest packet; a longer buffer is cut there and marked with ``error``, so that no length
        that a driver writes can make the device read without end.
    in_flight
        Buffers whose payload is on its way.
    dest_bits
        Bits of a queue pair's number, or 0.

    Ports
    -----
    segment, buffer : from ``Walk``
    request, packet : client of the read engine
    readable : packet_stream(width, dest_bits)
        To the device; ``dest`` is the virtqueue's pair. ``error`` on the last beat: drop it
        (read failed, or too long).
    completion : stream of ``Completion``
        Sent with the packet's last beat; in the order of the buffers.
    failed : 1
        A buffer broke a rule of the specification, or a read failed on the bus.
    dropped : 1
        A packet was cut because it is longer than ``max_bytes``; its reads may be still to come.
    idle : 1
        No buffer is inside: all of which a segment was taken are completed.

    A buffer without readable bytes makes no packet and is completed at once. Writable segments
    are ignored here. One segment a cycle, and one cycle more for a buffer of several; one cycle
    from a segment to its request. The payload passes without delay, to a device whose ``ready``
    is shallow; one cycle from its last beat to the completion. All beats but the last pass before
    the buffer's last segment is here: a buffer may have more segments than reads wait for each
    other.
    """

    def __init__(self, width: int, max_bytes: int, in_flight: int = 256, *, dest_bits: int = 0):
        self.width = width
        self.dest_bits = dest_bits
        self.max_bytes = max_bytes
        self.length_bits = max_bytes.bit_length()
        self.in_flight = in_flight
        super().__init__(
            {
                "segment": In(stream.Signature(Segment)),
                "buffer": In(stream.Signature(Buffer)),
                "request": Out(stream.Signature(ReadRequest)),
                "packet": In(packet_stream(width)),
                "readable": Out(packet_stream(width, dest_bits)),
                "completion": Out(stream.Signature(Completion)),
                "failed": Out(1),
                "dropped": Out(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.records = records = StreamFIFO(_Record, self.in_flight)
        m.submodules.completions = completions = StreamFIFO(Completion, 4)
        wiring.connect(m, completions.output, wiring.flipped(self.completion))
        m.submodules.chunks = chunks = RequestChunks(ReadRequest, self.length_bits, waiting=4)
        wiring.connect(m, chunks.request, wiring.flipped(self.request))
        open_, queue = self._request(m, records.input, chunks.piece)
        # A packet that comes while there is no record belongs to the buffer that is open.
        self._deliver(m, records.output, completions.input, records.level == 0, queue)
        m.d.comb += self.idle.eq(~records.output.valid & ~completions.output.valid & ~open_)
        return m

    def _request(self, m: Module, record, piece) -> tuple[Signal, Signal]:
        """Segments to pieces, one behind within a buffer, since the last one must be marked.

        Returns whether a buffer's first segments were taken and its last was not, and then its
        virtqueue.
        """
        segment = self.segment.payload
        buffer = self.buffer.payload

        pending = Signal()
        pending_address = Signal(64)
        pending_length = Signal(self.length_bits)
        left = Signal(self.length_bits, init=self.max_bytes)
        begun = Signal()  # the buffer has readable bytes
        cut = Signal()
        open_ = Signal()
        queue = Signal(16)

        exceeds = Signal()
        take = Signal(self.length_bits)
        some = Signal()
        m.d.comb += [
            exceeds.eq(segment.length > left),
            take.eq(Mux(exceeds, left, segment.length[: self.length_bits])),
            some.eq(~segment.writable & segment.length.any() & left.any()),
        ]
        too_long = cut | (exceeds & ~segment.writable)
        # The record goes with the last segment.
        may_close = self.buffer.valid & record.ready
        may_end = ~segment.last | may_close
        emits = Signal()
        consume = Signal()
        m.d.comb += [
            emits.eq(
                Mux(pending, some | (segment.last & may_close), some & segment.last & may_close)
            ),
            piece.valid.eq(self.segment.valid & emits),
            piece.payload.address.eq(Mux(pending, pending_address, segment.address)),
            piece.payload.length.eq(Mux(pending, pending_length, take)),
            piece.payload.last.eq(segment.last & ~(pending & some)),
            self.segment.ready.eq(
                may_end & (piece.ready | ~(some | pending)) & ~(pending & some & segment.last)
            ),
            consume.eq(self.segment.valid & self.segment.ready),
            self.buffer.ready.eq(consume & segment.last),
            record.valid.eq(consume & segment.last),
            record.payload.queue.eq(buffer.queue),
            record.payload.id.eq(buffer.id),
            record.payload.slots.eq(buffer.slots),
            record.payload.empty.eq(~begun & ~some),
            record.payload.drop.eq(too_long | buffer.error),
            record.payload.bad.eq(buffer.error),
        ]

        with m.If(piece.valid & piece.ready):
            m.d.sync += pending.eq(0)
        m.d.sync += self.dropped.eq(consume & segment.last & too_long & ~buffer.error)
        with m.If(consume):
            m.d.sync += [open_.eq(~segment.last), queue.eq(segment.queue)]
            with m.If(some & ~segment.last):
                m.d.sync += [
                    pending.eq(1),
                    pending_address.eq(segment.address),
                    pending_length.eq(take),
                ]
            with m.If(segment.last):
                m.d.sync += [left.eq(self.max_bytes), begun.eq(0), cut.eq(0)]
            with m.Else():
                m.d.sync += [begun.eq(begun | some), cut.eq(too_long)]
                with m.If(~segment.writable):
                    m.d.sync += left.eq(left - take)
        return open_, queue

    def _deliver(self, m: Module, record, completion, open_, open_queue) -> None:
        """Packets to the device; the last beat completes the buffer."""
        packet = self.packet.payload
        finish = Signal()
        m.d.comb += [
            self.readable.payload.data.eq(packet.data),
            self.readable.payload.count.eq(packet.count),
            self.readable.payload.last.eq(packet.last),
            self.readable.payload.error.eq(packet.last & (packet.error | record.payload.drop)),
            completion.payload.queue.eq(record.payload.queue),
            completion.payload.id.eq(record.payload.id),
            completion.payload.slots.eq(record.payload.slots),
            completion.payload.error.eq(record.payload.bad),
        ]
        if self.dest_bits:
            queue = Mux(record.valid, record.payload.queue, open_queue)
            m.d.comb += self.readable.payload.dest.eq(queue >> 1)
        with m.If(record.valid & record.payload.empty):
            m.d.comb += finish.eq(completion.ready)
        with m.Elif(record.valid):
            # The device must be done with a beat before its buffer can be completed.
            go = ~packet.last | completion.ready
            m.d.comb += [
                self.readable.valid.eq(self.packet.valid & go),
                self.packet.ready.eq(self.readable.ready & go),
                finish.eq(self.packet.valid & self.packet.ready & packet.last),
            ]
        with m.Elif(open_ & ~packet.last):
            m.d.comb += [
                self.readable.valid.eq(self.packet.valid),
                self.packet.ready.eq(self.readable.ready),
            ]
        m.d.comb += [record.ready.eq(finish), completion.valid.eq(finish)]
        m.d.sync += self.failed.eq(
            finish & (record.payload.bad | (~record.payload.empty & packet.error))
        )
