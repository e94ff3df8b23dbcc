"""A buffer of a request device, split into what the device reads and what it writes: hop 6."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.stream import StreamFIFO
from ..types.virtqueue import MAX_REQUEST_BYTES, Buffer, Request, Segment

__all__ = ["MAX_SEGMENTS", "RequestSplit"]

MAX_SEGMENTS = 256
"""Most segments of a buffer; a walker lets one more pass of a chain that has too many."""


class _Checked(data.Struct):
    """A buffer whose lengths were compared with the limit. Those of a broken one mean nothing."""

    queue: 16
    id: 16
    slots: 16
    readable: 26
    writable: 26
    broken: 1


class _Waiting(data.Struct):
    """A buffer that waits for its reply."""

    queue: 16
    id: 16
    slots: 16
    writable: 26
    broken: 1


class _Piece(data.Struct):
    """A segment, without what its buffer's record says as well."""

    address: 64
    length: 26
    writable: 1
    last: 1


class RequestSplit(wiring.Component):
    """Splits each buffer into segments for ``Gather``, segments for ``Scatter`` and a request.

    A segment goes to the side that it belongs to; a buffer's last segment goes to both, for it ends
    the buffer there. Each side ignores a segment that is the other's. A buffer that breaks a rule,
    or has a part longer than ``MAX_REQUEST_BYTES``, makes no request: all its segments lose their
    lengths, and ``Scatter`` gives it back in error when its turn comes.

    Parameters
    ----------
    segments
        Segments that wait on each side, more than ``MAX_SEGMENTS``.
    in_flight
        Buffers that wait for their replies, at least 1.

    Ports
    -----
    segment : stream of ``Segment``; buffer : stream of ``Buffer``
        From a ``Walk`` of at most ``MAX_SEGMENTS`` segments a buffer (``bounded``): a record is
        there only when all segments of its buffer are.
    request : stream of ``Request``
        To the device; in the order of the buffers.
    readable_segment : stream of ``Segment``; readable_buffer : stream of ``Buffer``
        To ``Gather``. The record is offered with the buffer's last segment and is taken with it.
        It says nothing: on this side every buffer is one that may be executed.
    writable_segment : stream of ``Segment``; writable_buffer : stream of ``Buffer``
        To ``Scatter``. Of the lengths only ``writable`` is told.
    idle : 1
        No buffer is inside. Those in ``Walk``, ``Gather`` or ``Scatter`` do not count.

    One segment a cycle, without a gap between buffers. Latency from a record that comes alone to
    the request one cycle more than the buffer has segments, and two cycles to its first segment.
    All outgoing ``valid`` and all ``ready`` are registers, or two of them combined.

    The oldest buffer always gets through, whatever its size. A request is told together with its
    last segment. So whatever the device was told of lies wholly in the queues behind, and is
    finished without anything that waits here. When it is, these queues are empty, and each of them
    holds the largest buffer whole. How the device couples its two sides (it may write while it is
    still reading) makes no difference.
    """

    def __init__(self, segments: int = 512, in_flight: int = 64):
        if segments <= MAX_SEGMENTS:
            raise ValueError(f"segments = {segments!r}: more than {MAX_SEGMENTS}")
        self.segments = segments
        self.in_flight = in_flight
        super().__init__(
            {
                "segment": In(stream.Signature(Segment)),
                "buffer": In(stream.Signature(Buffer)),
                "request": Out(stream.Signature(Request)),
                "readable_segment": Out(stream.Signature(Segment)),
                "readable_buffer": Out(stream.Signature(Buffer)),
                "writable_segment": Out(stream.Signature(Segment)),
                "writable_buffer": Out(stream.Signature(Buffer)),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.checked = checked = StreamFIFO(_Checked, 2)
        m.submodules.readable = readable = StreamFIFO(_Piece, self.segments)
        m.submodules.writable = writable = StreamFIFO(_Piece, self.segments)
        m.submodules.waiting = waiting = StreamFIFO(_Waiting, self.in_flight)
        m.submodules.requests = requests = StreamFIFO(Request, self.in_flight)
        fifos = (readable, writable, waiting, requests)
        self._check(m, checked.input)
        wiring.connect(m, requests.output, wiring.flipped(self.request))

        segment = self.segment.payload
        record = checked.output.payload
        room = Signal()
        moves = Signal()
        ends = Signal()
        piece = Signal(_Piece)
        m.d.comb += [
            # A segment waits for room everywhere, also where it does not go: `ready` then depends
            # on nothing but registers.
            room.eq(checked.output.valid),
            self.segment.ready.eq(room),
            moves.eq(self.segment.valid & room),
            ends.eq(moves & segment.last),
            checked.output.ready.eq(ends),
            piece.address.eq(segment.address),
            piece.length.eq(Mux(record.broken, 0, segment.length[:26])),
            piece.writable.eq(segment.writable),
            piece.last.eq(segment.last),
            readable.input.payload.eq(piece),
            readable.input.valid.eq(moves & (~segment.writable | segment.last)),
            writable.input.payload.eq(piece),
            writable.input.valid.eq(moves & (segment.writable | segment.last)),
            *(
                waiting.input.payload[name].eq(record[name])
                for name in ("queue", "id", "slots", "writable", "broken")
            ),
            waiting.input.valid.eq(ends),
            *(
                requests.input.payload[name].eq(record[name])
                for name in ("queue", "readable", "writable")
            ),
            requests.input.valid.eq(ends & ~record.broken),
            self.idle.eq(
                ~(checked.output.valid | waiting.output.valid | requests.output.valid)
                & ~(readable.output.valid | self.readable_segment.valid)
                & ~(writable.output.valid | self.writable_segment.valid)
            ),
        ]
        for fifo in fifos:
            with m.If(~fifo.input.ready):
                m.d.comb += room.eq(0)
        # What is compared and subtracted behind comes from registers, not from block RAM.
        m.submodules.readable_front = readable_front = StreamFIFO(_Piece, 2)
        m.submodules.writable_front = writable_front = StreamFIFO(_Piece, 2)
        wiring.connect(m, readable.output, readable_front.input)
        wiring.connect(m, writable.output, writable_front.input)
        self._show(m, readable_front.output, self.readable_segment)
        self._show(m, writable_front.output, self.writable_segment)
        m.d.comb += [
            self.readable_buffer.valid.eq(
                readable_front.output.valid & readable_front.output.payload.last
            ),
            self.writable_buffer.valid.eq(waiting.output.valid),
            waiting.output.ready.eq(self.writable_buffer.ready),
            self.writable_buffer.payload.queue.eq(waiting.output.payload.queue),
            self.writable_buffer.payload.id.eq(waiting.output.payload.id),
            self.writable_buffer.payload.slots.eq(waiting.output.payload.slots),
            self.writable_buffer.payload.writable.eq(waiting.output.payload.writable),
            self.writable_buffer.payload.error.eq(waiting.output.payload.broken),
        ]
        return m

    def _check(self, m: Module, checked) -> None:
        """Compare the lengths; they are saturated, and no sum wraps."""
        buffer = self.buffer.payload
        too_long = (buffer.readable > MAX_REQUEST_BYTES) | (buffer.writable > MAX_REQUEST_BYTES)
        m.d.comb += [
            checked.payload.queue.eq(buffer.queue),
            checked.payload.id.eq(buffer.id),
            checked.payload.slots.eq(buffer.slots),
            checked.payload.readable.eq(buffer.readable),
            checked.payload.writable.eq(buffer.writable),
            checked.payload.broken.eq(buffer.error | too_long),
            checked.valid.eq(self.buffer.valid),
            self.buffer.ready.eq(checked.ready),
        ]

    def _show(self, m: Module, piece, port) -> None:
        """Offer a side's segments."""
        m.d.comb += [
            port.payload.address.eq(piece.payload.address),
            port.payload.length.eq(piece.payload.length),
            port.payload.writable.eq(piece.payload.writable),
            port.payload.last.eq(piece.payload.last),
            port.valid.eq(piece.valid),
            piece.ready.eq(port.ready),
        ]
