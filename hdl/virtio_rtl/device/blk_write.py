"""Block device: the beats of writes, with their addresses."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..config_blk import BlkConfig
from .blk_types import data_beat, sector_beats, write_beat, write_job

__all__ = ["BlkWrite"]


class BlkWrite(wiring.Component):
    """Do one write after the other: an OUT's data, or zeros; data that nobody wants are dropped.

    Parameters
    ----------
    width
        Bits of a beat.
    config
        The block device's configuration.

    Ports
    -----
    job : stream of ``write_job(config)``
    data : stream of ``data_beat(width)``
        One packet per job that is not ``zero``.
    output : stream of ``write_beat(width, config)``

    One beat a cycle, no pause between jobs; latency two cycles.
    """

    def __init__(self, width: int, config: BlkConfig):
        self.width = width
        self.config = config
        super().__init__(
            {
                "job": In(stream.Signature(write_job(config))),
                "data": In(stream.Signature(data_beat(width))),
                "output": Out(stream.Signature(write_beat(width, config))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        shift = (sector_beats(self.width) - 1).bit_length()
        job, out, beat = self.job.payload, self.output.payload, self.data.payload
        busy, drain, zero, final = Signal(), Signal(), Signal(), Signal()
        address = Signal.like(out.address)
        sectors = Signal.like(job.sectors)  # still to be zeroed, this one included
        zeroed = address[:shift].all() & (sectors == 1)
        last = Signal()
        moves = Signal()
        free = ~self.output.valid | self.output.ready
        m.d.comb += [
            moves.eq(busy & free & (zero | self.data.valid)),
            last.eq((zero & zeroed) | (~zero & beat.last)),
            self.data.ready.eq(busy & free & ~zero),
            self.job.ready.eq(~busy | (moves & last)),
        ]
        with m.If(free):
            m.d.sync += self.output.valid.eq(moves & ~drain)
        with m.If(moves):
            m.d.sync += [
                out.address.eq(address),
                out.last.eq(last),
                out.final.eq(final),
                out.failed.eq(~zero & beat.error),
                address.eq(address + 1),
            ]
            with m.If(zero):
                m.d.sync += out.data.eq(0)
            with m.Else():
                m.d.sync += out.data.eq(beat.data)
            with m.If(address[:shift].all()):
                m.d.sync += sectors.eq(sectors - 1)
        with m.If(self.job.ready):
            m.d.sync += [
                busy.eq(self.job.valid),
                drain.eq(job.drain),
                zero.eq(job.zero),
                final.eq(job.final),
                address.eq(job.first << shift),
                sectors.eq(job.sectors),
            ]
        return m
