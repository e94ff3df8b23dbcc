"""Block device: reads as AXI4 bursts."""

from amaranth.hdl import Cat, Const, Module, Mux, ResetInserter, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config_blk import SECTOR_BYTES, BlkConfig
from ..lib.stream import SkidBuffer, StreamFIFO
from .blk_axi_write import burst
from .blk_types import access, read_beat, sector_beats

__all__ = ["BlkAxiRead"]

_BURSTS = 32
_BEATS = 512


class BlkAxiRead(wiring.Component):
    """Cut reads into bursts, as many under way as there is room for their data.

    Data are always taken at once, so that a read that nobody fetches holds nobody up on the bus.

    Parameters
    ----------
    width
        Bits of a beat.
    config
        The block device's configuration.

    Ports
    -----
    read : stream of ``access(config)``
    read_data : stream of ``read_beat(width)``
        All beats of all reads, in order.
    read_done : 1
        The last beat of the oldest read has come.
    address : stream of ``burst(axi_address_bits)``
    data : stream of {data, last, failed}
        In the order of the bursts; always ready.
    engine_reset : 1
        All reads are forgotten; new ones wait until the bursts under way have ended.
    hold : 1
        Begin no new read.

    A burst every two cycles, at most 32 bursts and 512 beats under way; one beat a cycle.
    """

    def __init__(self, width: int, config: BlkConfig):
        self.width = width
        self.config = config
        super().__init__(
            {
                "read": In(stream.Signature(access(config))),
                "read_data": Out(stream.Signature(read_beat(width))),
                "read_done": Out(1),
                "address": Out(stream.Signature(burst(config.axi_address_bits))),
                "data": In(
                    stream.Signature(data.StructLayout({"data": width, "last": 1, "failed": 1}))
                ),
                "engine_reset": In(1),
                "hold": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        shift = (sector_beats(self.width) - 1).bit_length()
        most = config.axi_burst_bytes // SECTOR_BYTES  # sectors in a burst
        position = (most - 1).bit_length()
        m.submodules.addresses = addresses = SkidBuffer(burst(config.axi_address_bits))
        m.submodules.ends = ends = StreamFIFO(1, _BURSTS)
        fifo = StreamFIFO(read_beat(self.width), _BEATS)
        m.submodules.fifo = ResetInserter(self.engine_reset)(fifo)
        wiring.connect(m, addresses.output, wiring.flipped(self.address))
        wiring.connect(m, fifo.output, wiring.flipped(self.read_data))

        draining = Signal()
        outstanding = Signal(range(_BURSTS + 3))
        room = Signal(range(_BEATS + 1), init=_BEATS)
        enough = Signal(init=1)

        busy, cut = Signal(), Signal()
        sector, left = Signal(config.sector_bits), Signal(config.sector_bits)
        sectors = Signal(range(most + 1))
        final = Signal()
        until_edge = most - sector[:position]
        issues = Signal()
        m.d.comb += [
            issues.eq(cut & enough & addresses.input.ready & ends.input.ready),
            self.read.ready.eq(~busy & ~draining & ~self.hold),
            addresses.input.valid.eq(issues),
            addresses.input.payload.address.eq(
                Cat(Const(0, 9), sector) + Const(config.axi_base, config.axi_address_bits)
            ),
            addresses.input.payload.length.eq(Cat(Const(-1, shift), sectors - 1)),
            ends.input.valid.eq(issues),
            ends.input.payload.eq(final),
        ]
        with m.If(self.read.ready):
            m.d.sync += [
                busy.eq(self.read.valid),
                sector.eq(self.read.payload.first),
                left.eq(self.read.payload.sectors),
            ]
        with m.If(busy & ~cut):
            # One step for how long the burst is, one for the burst.
            m.d.sync += [
                cut.eq(1),
                sectors.eq(Mux(left > until_edge, until_edge, left)),
                final.eq(left <= until_edge),
            ]
        with m.If(issues):
            m.d.sync += [
                cut.eq(0),
                busy.eq(~final),
                sector.eq(sector + sectors),
                left.eq(left - sectors),
            ]

        taken = fifo.output.valid & fifo.output.ready
        claimed = Mux(issues, sectors << shift, 0)
        m.d.sync += [
            room.eq(room - claimed + taken),
            # A cycle late: not in the one after a burst, in which none is issued.
            enough.eq(room >= (most << shift)),
        ]

        beat = self.data.payload
        ready = Signal()  # a register, for a port that is constant is a port that was forgotten
        arrives = Signal()
        ended = Signal()
        m.d.sync += ready.eq(1)
        m.d.comb += [
            self.data.ready.eq(ready),
            arrives.eq(self.data.valid & ready),
            ended.eq(arrives & beat.last),
            ends.output.ready.eq(ended),
            fifo.input.valid.eq(arrives & ~draining),
            fifo.input.payload.data.eq(Mux(beat.failed, 0, beat.data)),
            fifo.input.payload.error.eq(beat.failed),
        ]
        m.d.sync += [
            self.read_done.eq(ended & ends.output.payload & ~draining & ~self.engine_reset),
            outstanding.eq(outstanding + issues - ended),
        ]
        with m.If(self.engine_reset):
            m.d.sync += [draining.eq(1), busy.eq(0), cut.eq(0), room.eq(_BEATS)]
        with m.Elif(outstanding == 0):
            m.d.sync += draining.eq(0)
        return m
