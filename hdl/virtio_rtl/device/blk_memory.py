"""Block device: the disk in on-chip memory."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory

from ..config_blk import BlkConfig
from ..lib.stream import StreamFIFO
from .blk_types import Written, backend_ports, sector_beats

__all__ = ["BlkMemory"]

_READ_BEATS = 8
"""Beats between the memory and who takes them: six make up for the way there."""


class BlkMemory(wiring.Component):
    """A disk in memory with one port for reads and one for writes, each a beat a cycle.

    Parameters
    ----------
    width
        Bits of a beat.
    config
        The block device's configuration; ``axi_*`` is of no use here.
    tokens
        Writes that may be done before ``written`` is taken; more never happen.

    Ports
    -----
    write : stream of ``write_beat(width, config)``
        Always ready.
    written : stream of ``Written``
        One per write, in order, when later reads see it.
    write_done, read_done : 1
        The oldest write, or read, is done: a read or write of the same sectors may begin.
    read : stream of ``access(config)``
    read_data : stream of ``read_beat(width)``
        All beats of all reads, in order.

    Latency of a read five cycles. Starts as zeros.
    """

    def __init__(self, width: int, config: BlkConfig, *, tokens: int = 16):
        self.width = width
        self.config = config
        self.tokens = tokens
        super().__init__(backend_ports(width, config))

    def elaborate(self, platform):
        m = Module()
        beats = sector_beats(self.width)
        shift = (beats - 1).bit_length()
        depth = self.config.capacity_sectors * beats
        m.submodules.memory = memory = Memory(shape=self.width, depth=depth, init=[])
        m.submodules.tokens = tokens = StreamFIFO(Written, self.tokens)
        wiring.connect(m, tokens.output, wiring.flipped(self.written))

        # A register in front of the memory, which is spread over the chip.
        beat = self.write.payload
        port = memory.write_port()
        ends = Signal()
        token = Signal(Written)
        m.d.sync += [
            port.en.eq(self.write.valid & self.write.ready),
            port.addr.eq(beat.address),
            port.data.eq(beat.data),
            ends.eq(self.write.valid & self.write.ready & beat.last),
            token.final.eq(beat.final),
            token.error.eq(beat.failed),
            self.write_done.eq(ends),
        ]
        m.d.comb += [
            self.write.ready.eq(1),
            tokens.input.payload.eq(token),
            tokens.input.valid.eq(ends),
        ]

        busy = Signal()
        address = Signal(range(max(depth, 2)))
        sectors = Signal.like(self.read.payload.sectors)
        last = Signal()
        issues = Signal()
        credit = Signal(range(_READ_BEATS + 1), init=_READ_BEATS)
        m.submodules.data = fifo = StreamFIFO(self.width, _READ_BEATS)
        reader = memory.read_port()
        arriving = Signal(2)
        fetched = Signal(self.width)
        m.d.comb += [
            issues.eq(busy & (credit != 0)),
            last.eq(address[:shift].all() & (sectors == 1)),
            self.read.ready.eq(~busy | (issues & last)),
            reader.addr.eq(address),
            fifo.input.payload.eq(fetched),
            fifo.input.valid.eq(arriving[1]),
            self.read_data.payload.data.eq(fifo.output.payload),
            self.read_data.valid.eq(fifo.output.valid),
            fifo.output.ready.eq(self.read_data.ready),
        ]
        m.d.sync += [
            arriving.eq(Cat(issues, arriving)),
            fetched.eq(reader.data),
            self.read_done.eq(issues & last),
        ]
        taken = fifo.output.valid & fifo.output.ready
        with m.If(issues & ~taken):
            m.d.sync += credit.eq(credit - 1)
        with m.Elif(taken & ~issues):
            m.d.sync += credit.eq(credit + 1)
        with m.If(issues):
            m.d.sync += address.eq(address + 1)
            with m.If(address[:shift].all()):
                m.d.sync += sectors.eq(sectors - 1)
        with m.If(self.read.ready):
            m.d.sync += [
                busy.eq(self.read.valid),
                address.eq(self.read.payload.first << shift),
                sectors.eq(self.read.payload.sectors),
            ]
        return m
