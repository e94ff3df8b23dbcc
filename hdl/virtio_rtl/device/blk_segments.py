"""Block device: the segments of DISCARD and WRITE_ZEROES, checked before any of them is done."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..config_blk import BlkConfig
from ..lib.stream import StreamFIFO
from .blk_types import SEGMENT_BYTES, Body, Status, access, body_beat, verdict

__all__ = ["BlkSegments"]

_SEGMENT = 8 * SEGMENT_BYTES
_STAGES = 3


class BlkSegments(wiring.Component):
    """Cut a request's body into segments, check each, and queue what is good.

    A flag that means nothing (``unmap`` of a DISCARD is one) makes the request's status UNSUPP,
    whatever else is wrong and wherever the segment stands, also behind the last one that a request
    may have; else a segment that is too long or reaches beyond the disk makes it IOERR. Bytes
    behind the last whole segment are not looked at. Segments of no sectors are left out.
    [virtio 1.4 §5.2.6.2]

    Parameters
    ----------
    width
        Bits of a beat.
    config
        The block device's configuration.

    Ports
    -----
    input : stream of ``body_beat(width)``
    output : stream of ``access(config)``
        Segments that passed, in order; at most ``config.segments`` a request.
    verdict : stream of ``verdict(config)``
        One per packet, behind its segments: how many are in ``output``, and the status.

    One segment a cycle; a request costs about five more. A request's segments all fit into the
    queue, so the verdict never waits for them to be taken.
    """

    def __init__(self, width: int, config: BlkConfig):
        self.width = width
        self.config = config
        super().__init__(
            {
                "input": In(stream.Signature(body_beat(width))),
                "output": Out(stream.Signature(access(config))),
                "verdict": Out(stream.Signature(verdict(config))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, bits = self.config, self.config.sector_bits
        capacity = config.capacity_sectors
        # All of a request, and those that are on their way when the queue holds so many.
        depth = config.segments + _STAGES + 2
        m.submodules.queue = queue = StreamFIFO(access(config), depth)
        wiring.connect(m, queue.output, wiring.flipped(self.output))

        # Whole segments out of beats.
        beat = self.input.payload
        buffer = Signal(max(self.width, _SEGMENT))
        left = Signal(range(max(self.width // _SEGMENT, 1) + 1))
        ended = Signal()
        zeroes = Signal()
        room = Signal()
        m.d.sync += room.eq(queue.level <= config.segments)
        cut = Signal()
        m.d.comb += [
            self.input.ready.eq((left == 0) & ~ended),
            cut.eq((left != 0) & room),
        ]
        with m.If(self.input.valid & self.input.ready):
            m.d.sync += [ended.eq(beat.last), zeroes.eq(beat.kind == Body.WRITE_ZEROES)]
            if self.width >= _SEGMENT:
                m.d.sync += [buffer.eq(beat.data), left.eq(beat.count >> 4)]
            else:
                half = Signal()
                m.d.sync += [
                    buffer.eq(Cat(buffer[self.width :], beat.data)),
                    half.eq(~half & ~beat.last),
                    left.eq(half & (beat.count == self.width // 8)),
                ]
        with m.Elif(cut):
            m.d.sync += [buffer.eq(buffer[_SEGMENT:]), left.eq(left - 1)]

        # Checked in three steps, each a few levels of logic.
        sector, sectors, flags = buffer[:64], buffer[64:96], buffer[96:128]
        most = [min(n, capacity) for n in (config.max_discard_sectors,
                                           config.max_write_zeroes_sectors)]  # fmt: skip
        valid = Signal(_STAGES)
        unknown, refused = Signal(2), Signal(2)
        first = [Signal(bits, name=f"first_{k}") for k in range(_STAGES)]
        count = [Signal(bits, name=f"count_{k}") for k in range(_STAGES)]
        end = Signal(bits)
        m.d.sync += [
            valid.eq(Cat(cut, valid)),
            unknown.eq(Cat(Mux(zeroes, flags[1:].any(), flags.any()), unknown)),
            refused.eq(
                Cat(
                    sector[bits:].any() | Mux(zeroes, sectors > most[1], sectors > most[0]),
                    refused,
                )
            ),
            first[0].eq(sector),
            count[0].eq(sectors),
            first[1].eq(first[0]),
            count[1].eq(count[0]),
            end.eq(capacity - count[0]),
            first[2].eq(first[1]),
            count[2].eq(count[1]),
        ]
        status = Signal(Status)
        step_status = Signal(Status)
        with m.If(unknown[1]):
            m.d.sync += step_status.eq(Status.UNSUPP)
        with m.Elif(refused[1] | (first[1] > end)):
            m.d.sync += step_status.eq(Status.IOERR)
        with m.Else():
            m.d.sync += step_status.eq(Status.OK)

        number = Signal(range(config.segments + 1))
        entry = queue.input.payload
        good = (
            valid[2]
            & (status == Status.OK)
            & (step_status == Status.OK)
            & (count[2] != 0)
            & (number != config.segments)
        )
        m.d.comb += [
            entry.first.eq(first[2]),
            entry.sectors.eq(count[2]),
            queue.input.valid.eq(good),
            self.verdict.payload.status.eq(status),
            self.verdict.payload.count.eq(number),
            self.verdict.valid.eq(ended & (left == 0) & ~valid.any()),
        ]
        with m.If(good):
            m.d.sync += number.eq(number + 1)
        # UNSUPP, the greatest, stays; no segment behind the first that is refused is queued.
        with m.If(valid[2] & (step_status > status)):
            m.d.sync += status.eq(step_status)
        with m.If(self.verdict.valid & self.verdict.ready):
            m.d.sync += [ended.eq(0), number.eq(0), status.eq(Status.OK)]
        return m
