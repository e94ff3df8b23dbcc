"""Readable segments become one packet of bytes: hop 6, towards the device."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.stream import StreamFIFO
from ..types.dma import ReadRequest
from ..types.packet import packet_stream
from ..types.virtqueue import Buffer, Completion, Segment

__all__ = ["Gather"]

_CHUNK = 4096


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

    A buffer without readable bytes makes no packet and is completed at once. Writable segments
    are ignored here. One segment a cycle where a buffer has one, else one every two cycles; adds
    one cycle to the payload.
    """

    def __init__(self, width: int, max_bytes: int, in_flight: int = 256, *, dest_bits: int = 0):
        self.width = width
        self.dest_bits = dest_bits
        self.max_bytes = max_bytes
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
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.records = records = StreamFIFO(_Record, self.in_flight)
        m.submodules.completions = completions = StreamFIFO(Completion, 4)
        wiring.connect(m, completions.output, wiring.flipped(self.completion))
        self._request(m, records.input)
        self._deliver(m, records.output, completions.input)
        return m

    def _request(self, m: Module, record) -> None:
        """Segments to read requests, always one behind, since the last one must be marked."""
        length_bits = (self.max_bytes + 1).bit_length()
        segment = self.segment.payload
        buffer = self.buffer.payload
        request = self.request.payload

        pending = Signal()
        pending_address = Signal(64)
        pending_length = Signal(13)
        left = Signal(length_bits, init=self.max_bytes)
        offset = Signal(length_bits)
        requested = Signal()
        cut = Signal()

        wanted = Mux(segment.writable, 0, segment.length)
        too_long = Signal()
        take = Signal(length_bits)
        rest = Signal(length_bits)
        emit = Signal()
        close = Signal()
        m.d.comb += [
            too_long.eq(wanted > left),
            take.eq(Mux(too_long, left, wanted)),
            rest.eq(take - offset),
            record.payload.queue.eq(buffer.queue),
            record.payload.id.eq(buffer.id),
            record.payload.slots.eq(buffer.slots),
            record.payload.empty.eq(~requested & ~pending & (rest == 0)),
            record.payload.drop.eq(cut | too_long | buffer.error),
            record.payload.bad.eq(buffer.error),
        ]
        may_close = self.buffer.valid & record.ready
        consume = Signal()
        m.d.comb += self.request.valid.eq(emit & (~close | may_close))
        sent = self.request.valid & self.request.ready

        with m.If(self.segment.valid):
            with m.If(pending & (rest != 0)):
                m.d.comb += [
                    emit.eq(1),
                    request.address.eq(pending_address),
                    request.length.eq(pending_length),
                ]
                with m.If(sent):
                    m.d.sync += pending.eq(0)
            with m.Elif(pending):
                m.d.comb += [
                    emit.eq(segment.last),
                    close.eq(1),
                    request.address.eq(pending_address),
                    request.length.eq(pending_length),
                    request.last.eq(1),
                    consume.eq(sent | ~segment.last),
                ]
            with m.Elif(rest > _CHUNK):
                m.d.comb += [
                    emit.eq(1),
                    request.address.eq(segment.address + offset),
                    request.length.eq(_CHUNK),
                ]
                with m.If(sent):
                    m.d.sync += [offset.eq(offset + _CHUNK), requested.eq(1)]
            with m.Elif((rest != 0) & segment.last):
                m.d.comb += [
                    emit.eq(1),
                    close.eq(1),
                    request.address.eq(segment.address + offset),
                    request.length.eq(rest),
                    request.last.eq(1),
                    consume.eq(sent),
                ]
            with m.Elif(rest != 0):
                m.d.comb += consume.eq(1)
                m.d.sync += [
                    pending.eq(1),
                    pending_address.eq(segment.address + offset),
                    pending_length.eq(rest),
                ]
            with m.Else():
                m.d.comb += consume.eq(~segment.last | may_close)

        m.d.sync += self.dropped.eq(0)
        with m.If(consume):
            m.d.comb += self.segment.ready.eq(1)
            m.d.sync += [
                offset.eq(0),
                left.eq(left - take),
                requested.eq(requested | (take != 0)),
                cut.eq(cut | too_long),
            ]
            with m.If(segment.last):
                m.d.comb += [self.buffer.ready.eq(1), record.valid.eq(1)]
                m.d.sync += [
                    self.dropped.eq((cut | too_long) & ~buffer.error),
                    left.eq(self.max_bytes),
                    requested.eq(0),
                    cut.eq(0),
                    pending.eq(0),
                ]

    def _deliver(self, m: Module, record, completion) -> None:
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
            m.d.comb += self.readable.payload.dest.eq(record.payload.queue >> 1)
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
        with m.If(finish):
            m.d.comb += [record.ready.eq(1), completion.valid.eq(1)]
            m.d.comb += self.failed.eq(record.payload.bad | (~record.payload.empty & packet.error))
