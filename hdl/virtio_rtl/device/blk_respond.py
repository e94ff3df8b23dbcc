"""Block device: the writable bytes of each request, the status behind them."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..types.packet import packet_stream
from .blk_types import Status, Written, read_beat, response

__all__ = ["BlkRespond"]

_IDENTITY_BYTES = 20


class BlkRespond(wiring.Component):
    """Fill the writable part of every request: data or zeros, and the status as the last byte.

    A read that fails on the way has its data before that, zeros for the beats that failed, and
    IOERR. A response to a write leaves when all of the write is done, its first beat like its
    last: from then on the engine can write nothing else. [virtio 1.4 §5.2.6]

    Parameters
    ----------
    width
        Bits of a beat.
    identity
        Answer to GET_ID, up to 20 bytes.

    Ports
    -----
    response : stream of ``response(width)``
    read_data : stream of ``read_beat(width)``
        As many beats as the responses with ``read`` have before their last one.
    written : stream of ``Written``
        One or more per response with ``wait``, the last one ``final``.
    writable : packet_stream(width)
        The door to the virtqueue engine.
    failed, unsupported : 1
        Strobes: a request was answered IOERR, UNSUPP.

    One beat a cycle, no pause between responses; latency two cycles.
    """

    def __init__(self, width: int, identity: bytes):
        self.width = width
        self.identity = identity
        super().__init__(
            {
                "response": In(stream.Signature(response(width))),
                "read_data": In(stream.Signature(read_beat(width))),
                "written": In(stream.Signature(Written)),
                "writable": Out(packet_stream(width)),
                "failed": Out(1),
                "unsupported": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        lanes = self.width // 8
        identity = self.identity.ljust(_IDENTITY_BYTES, b"\0")
        chunks = [
            int.from_bytes(identity[at : at + lanes], "little")
            for at in range(0, _IDENTITY_BYTES, lanes)
        ]
        busy = Signal()
        now = Signal(response(self.width))
        left = Signal.like(now.beats)
        opening = Signal()  # the next beat is the first
        closing = Signal()  # the next beat is the last
        chunk = Signal(range(len(chunks) + 1))
        failed = Signal()
        told = self.written.payload
        out = self.writable.payload

        free = ~self.writable.valid | self.writable.ready
        asks_data = now.read & ~closing
        asks_token = now.wait & opening
        moves, ends = Signal(), Signal()
        m.d.comb += [
            moves.eq(
                busy
                & free
                & (~asks_data | self.read_data.valid)
                & (~asks_token | (self.written.valid & told.final))
            ),
            ends.eq(moves & closing),
            self.read_data.ready.eq(busy & free & asks_data),
            self.written.ready.eq(busy & asks_token & (free | ~told.final)),
            self.response.ready.eq(~busy | ends),
        ]
        bad = failed | (asks_token & told.error)
        status = Signal(Status)
        m.d.comb += status.eq(Mux(bad, Status.IOERR, now.status))
        with m.If(free):
            m.d.sync += self.writable.valid.eq(moves)
        with m.If(moves):
            m.d.sync += [
                out.count.eq(Mux(closing, now.lane + 1, lanes)),
                out.last.eq(closing),
                left.eq(left - 1),
                opening.eq(0),
                closing.eq(left == 1),
            ]
            base = Signal(self.width)
            with m.If(asks_data):
                m.d.comb += base.eq(self.read_data.payload.data)
            with m.Elif(now.identity):
                with m.Switch(chunk):
                    for index, value in enumerate(chunks):
                        with m.Case(index):
                            m.d.comb += base.eq(value)
            for lane in range(lanes):
                here = closing & (now.lane == lane)
                m.d.sync += out.data.word_select(lane, 8).eq(
                    Mux(here, status, base.word_select(lane, 8))
                )
            with m.If(chunk != len(chunks)):
                m.d.sync += chunk.eq(chunk + 1)
        with m.If(self.read_data.valid & self.read_data.ready & self.read_data.payload.error):
            m.d.sync += failed.eq(1)
        with m.If(self.written.valid & self.written.ready & told.error):
            m.d.sync += failed.eq(1)
        with m.If(self.response.ready):
            m.d.sync += [
                busy.eq(self.response.valid),
                now.eq(self.response.payload),
                left.eq(self.response.payload.beats),
                opening.eq(1),
                closing.eq(self.response.payload.beats == 0),
                chunk.eq(0),
                failed.eq(0),
            ]
        m.d.sync += [
            self.failed.eq(ends & (status == Status.IOERR)),
            self.unsupported.eq(ends & (status == Status.UNSUPP)),
        ]
        return m
