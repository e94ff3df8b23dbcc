"""Block device: the header off a request, and its body to where it belongs."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.prefix import DropPrefix
from ..lib.stream import SkidBuffer, StreamFIFO
from ..types.packet import packet_beat, packet_stream
from ..types.virtqueue import Request
from .blk_types import HEADER_BYTES, Body, Command, RequestType, body_beat, data_beat

__all__ = ["HELD_BEATS", "BlkHeader"]

_DATA_BEATS = 512
HELD_BEATS = _DATA_BEATS // 2
"""Beats of an OUT that must be there before it may begin, unless it is shorter."""


class BlkHeader(wiring.Component):
    """Take requests apart: a command each, the data of an OUT, the segments of a DISCARD.

    A command leaves when the last readable byte is here, so that nothing is done for a request
    whose header or segments could not be read. An OUT of more than ``HELD_BEATS`` beats begins when
    so many are here; if a read fails behind them, ``error`` comes with the last beat of ``data``.

    Parameters
    ----------
    width
        Bits of a beat.

    Ports
    -----
    request : stream of ``Request``; readable : packet_stream(width)
        The door to the virtqueue engine.
    command : stream of ``Command``
        One per request, in order.
    data : stream of ``data_beat(width)``
        What follows the header of an OUT, in order; nothing if nothing follows.
    segments : stream of ``body_beat(width)``
        What follows the header of a DISCARD or WRITE_ZEROES.

    One beat a cycle; a request costs no cycle of its own. 512 beats of data wait in block RAM.
    [virtio 1.4 §5.2.6]
    """

    def __init__(self, width: int):
        self.width = width
        super().__init__(
            {
                "request": In(stream.Signature(Request)),
                "readable": In(packet_stream(width)),
                "command": Out(stream.Signature(Command)),
                "data": Out(stream.Signature(data_beat(width))),
                "segments": Out(stream.Signature(body_beat(width))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        width, lanes = self.width, self.width // 8
        header_beats = -(-HEADER_BYTES // lanes)
        m.submodules.intake = intake = SkidBuffer(packet_beat(width))
        m.submodules.data_fifo = data_fifo = StreamFIFO(data_beat(width), _DATA_BEATS)
        m.submodules.commands = commands = StreamFIFO(Command, 4)
        wiring.connect(m, wiring.flipped(self.readable), intake.input)
        wiring.connect(m, commands.output, wiring.flipped(self.command))
        wiring.connect(m, data_fifo.output, wiring.flipped(self.data))

        request, beat = self.request.payload, intake.output.payload
        first = Signal(init=1)
        kept_type, kept_sector = Signal(32), Signal(64)
        kept_kind = Signal(Body)
        told = Signal()  # the command of this packet has left
        held = Signal(range(HELD_BEATS + 1))

        kind = Signal(Body)
        command = commands.input.payload
        with m.If(first):
            m.d.comb += command.type.eq(beat.data[:32])
            with m.Switch(beat.data[:32]):
                with m.Case(RequestType.OUT):
                    m.d.comb += kind.eq(Body.DATA)
                with m.Case(RequestType.DISCARD):
                    m.d.comb += kind.eq(Body.DISCARD)
                with m.Case(RequestType.WRITE_ZEROES):
                    m.d.comb += kind.eq(Body.WRITE_ZEROES)
        with m.Else():
            m.d.comb += [kind.eq(kept_kind), command.type.eq(kept_type)]

        inside_header = Signal(init=1)
        if header_beats == 1:
            m.d.comb += [
                inside_header.eq(first),
                command.sector.eq(Mux(first, beat.data[64:128], kept_sector)),
            ]
        else:
            second = Signal()
            m.d.comb += [
                inside_header.eq(first | second),
                command.sector.eq(Mux(second, beat.data, kept_sector)),
            ]
        m.d.comb += [
            command.readable.eq(request.readable),
            command.writable.eq(request.writable),
            command.error.eq(beat.last & beat.error),
        ]

        moves = Signal()

        # The body: shifted to lane 0, and to where it belongs.
        m.submodules.align = align = SkidBuffer(packet_beat(width, 2))
        if HEADER_BYTES % lanes:
            m.submodules.drop_header = drop = DropPrefix(width, HEADER_BYTES, 2)
            wiring.connect(m, drop.output, align.input)
            entrance = drop.input
            m.d.comb += entrance.valid.eq(moves)
        else:
            entrance = align.input
            m.d.comb += entrance.valid.eq(moves & ~inside_header)
        m.d.comb += [
            entrance.payload.data.eq(beat.data),
            entrance.payload.count.eq(beat.count),
            entrance.payload.last.eq(beat.last),
            entrance.payload.error.eq(beat.error),
            entrance.payload.dest.eq(kind),
        ]

        enough = (kind == Body.DATA) & (held == HELD_BEATS - 1)
        tells = Signal()
        has_packet = request.readable != 0
        m.d.comb += [
            tells.eq(~told & (beat.last | enough)),
            moves.eq(
                intake.output.valid
                & self.request.valid
                & has_packet
                & entrance.ready
                & (commands.input.ready | ~tells)
            ),
            intake.output.ready.eq(moves),
            commands.input.valid.eq(Mux(has_packet, moves & tells, self.request.valid)),
            self.request.ready.eq(Mux(has_packet, moves & beat.last, commands.input.ready)),
        ]
        with m.If(moves):
            m.d.sync += [
                first.eq(beat.last),
                told.eq((told | tells) & ~beat.last),
                held.eq(Mux(beat.last, 0, held + (held != HELD_BEATS))),
            ]
            if header_beats == 2:
                m.d.sync += second.eq(first & ~beat.last)
                with m.If(second):
                    m.d.sync += kept_sector.eq(beat.data)
            with m.If(first):
                m.d.sync += [kept_type.eq(beat.data[:32]), kept_kind.eq(kind)]
                if header_beats == 1:
                    m.d.sync += kept_sector.eq(beat.data[64:128])

        out, valid = align.output.payload, align.output.valid
        to_data = out.dest == Body.DATA.value
        to_segments = out.dest[1]
        m.d.comb += [
            data_fifo.input.payload.data.eq(out.data),
            data_fifo.input.payload.last.eq(out.last),
            data_fifo.input.payload.error.eq(out.error),
            data_fifo.input.valid.eq(valid & to_data),
            self.segments.payload.data.eq(out.data),
            self.segments.payload.count.eq(out.count),
            self.segments.payload.last.eq(out.last),
            self.segments.payload.kind.eq(out.dest),
            self.segments.valid.eq(valid & to_segments),
            align.output.ready.eq(
                Mux(to_segments, self.segments.ready, data_fifo.input.ready | ~to_data)
            ),
        ]
        return m
