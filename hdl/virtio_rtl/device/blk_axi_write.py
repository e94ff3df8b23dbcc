"""Block device: writes as AXI4 bursts."""

from amaranth.hdl import Module, Mux, ResetInserter, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config_blk import BlkConfig
from ..lib.cut_packet import CutPacket
from ..lib.frame_fifo import FrameFIFO
from ..lib.stream import SkidBuffer, StreamFIFO
from .blk_types import Written, write_beat

__all__ = ["BlkAxiWrite", "burst"]

_BURSTS = 16
"""Bursts that wait for their turn, and as many that wait for their answer."""


def burst(address_bits: int) -> data.StructLayout:
    """Address of a burst, in bytes, and its beats less one."""
    return data.StructLayout({"address": address_bits, "length": 8})


class BlkAxiWrite(wiring.Component):
    """Cut writes into bursts, and count their answers.

    A burst begins when all of its data are here, so that it never makes the bus wait for the host.
    A burst that has begun is finished, whatever happens on this side.

    Parameters
    ----------
    width
        Bits of a beat.
    config
        The block device's configuration.
    tokens
        Writes that may be done before ``written`` is taken; more never happen.

    Ports
    -----
    write : stream of ``write_beat(width, config)``
    written : stream of ``Written``
        One per write, in order, when the last of its bursts was answered.
    write_done : 1
        The oldest write was answered.
    address : stream of ``burst(axi_address_bits)``
    data : stream of {data, last}
    answer : stream of 1, failed
        In the order of the bursts; always ready.
    engine_reset : 1
        What is not yet a whole burst is forgotten, and so are the answers to come; new data wait
        for those.
    draining : 1
        From the cycle after a reset until the bursts from before it have been answered.

    One beat a cycle. Sixteen bursts wait for their turn, sixteen more for their answer.
    """

    def __init__(self, width: int, config: BlkConfig, *, tokens: int = 16):
        self.width = width
        self.config = config
        self.tokens = tokens
        super().__init__(
            {
                "write": In(stream.Signature(write_beat(width, config))),
                "written": Out(stream.Signature(Written)),
                "write_done": Out(1),
                "address": Out(stream.Signature(burst(config.axi_address_bits))),
                "data": Out(stream.Signature(data.StructLayout({"data": width, "last": 1}))),
                "answer": In(stream.Signature(1)),
                "engine_reset": In(1),
                "draining": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, lanes = self.config, self.width // 8
        beats_out = data.StructLayout({"data": self.width, "last": 1})
        beats = config.axi_burst_bytes // lanes
        ends = data.StructLayout({"end": 1, "final": 1, "failed": 1})
        queued = data.StructLayout({"burst": burst(config.axi_address_bits), "ends": ends})
        m.submodules.cut = cut = CutPacket(self.width)
        m.submodules.fifo = fifo = FrameFIFO(self.width, max(4 * beats, 64), _BURSTS)
        m.submodules.bursts = bursts = StreamFIFO(queued, _BURSTS)
        m.submodules.answers = answers = StreamFIFO(ends, _BURSTS)
        m.submodules.addresses = addresses = SkidBuffer(burst(config.axi_address_bits))
        m.submodules.output = output = SkidBuffer(beats_out)
        tokens = StreamFIFO(Written, self.tokens)
        m.submodules.tokens = ResetInserter(self.engine_reset)(tokens)
        wiring.connect(m, cut.output, fifo.input)
        wiring.connect(m, addresses.output, wiring.flipped(self.address))
        wiring.connect(m, output.output, wiring.flipped(self.data))
        wiring.connect(m, tokens.output, wiring.flipped(self.written))

        draining = self.draining
        outstanding = Signal(range(2 * _BURSTS + 4))

        # Beats into bursts.
        beat = self.write.payload
        last = beat.last | (beat.address[: (beats - 1).bit_length()].all())
        open_ = bursts.input.ready & ~draining
        begun = Signal()
        start = Signal.like(beat.address)
        count = Signal(8)
        moves = self.write.valid & self.write.ready
        entry = bursts.input.payload
        shift = (lanes - 1).bit_length()
        m.d.comb += [
            cut.cut.eq(self.engine_reset),
            cut.input.payload.data.eq(beat.data),
            cut.input.payload.count.eq(lanes),
            cut.input.payload.last.eq(last),
            cut.input.valid.eq(self.write.valid & open_),
            self.write.ready.eq(cut.input.ready & open_),
            bursts.input.valid.eq(moves & last),
            entry.burst.address.eq((Mux(begun, start, beat.address) << shift) + config.axi_base),
            entry.burst.length.eq(Mux(begun, count, 0)),
            entry.ends.end.eq(beat.last),
            entry.ends.final.eq(beat.final),
            entry.ends.failed.eq(beat.failed),
            fifo.lengths.ready.eq(1),
        ]
        with m.If(moves):
            m.d.sync += [begun.eq(~last), count.eq(Mux(begun, count + 1, 1))]
            with m.If(~begun):
                m.d.sync += start.eq(beat.address)
        with m.If(self.engine_reset):
            m.d.sync += begun.eq(0)

        # Bursts to the bus: the address first, for some slaves wait for that.
        may_send = Signal(range(2 * _BURSTS))
        issues = Signal()
        sent = Signal()
        m.d.comb += [
            issues.eq(bursts.output.valid & addresses.input.ready & answers.input.ready),
            bursts.output.ready.eq(addresses.input.ready & answers.input.ready),
            addresses.input.valid.eq(issues),
            addresses.input.payload.eq(bursts.output.payload.burst),
            answers.input.valid.eq(issues),
            answers.input.payload.eq(bursts.output.payload.ends),
            output.input.payload.data.eq(fifo.output.payload.data),
            output.input.payload.last.eq(fifo.output.payload.last),
            output.input.valid.eq(fifo.output.valid & (may_send != 0)),
            fifo.output.ready.eq(output.input.ready & (may_send != 0)),
            sent.eq(output.input.valid & output.input.ready & fifo.output.payload.last),
        ]
        m.d.sync += may_send.eq(may_send + issues - sent)

        # Answers.
        answered = Signal()
        ready = Signal()  # a register, for a port that is constant is a port that was forgotten
        failed = Signal()
        ended = answers.output.payload
        m.d.sync += ready.eq(1)
        m.d.comb += [
            self.answer.ready.eq(ready),
            answered.eq(self.answer.valid & ready),
            answers.output.ready.eq(answered),
            tokens.input.payload.final.eq(ended.final),
            tokens.input.payload.error.eq(failed | self.answer.payload | ended.failed),
            tokens.input.valid.eq(answered & ended.end & ~draining),
        ]
        m.d.sync += [
            self.write_done.eq(answered & ended.end & ~draining & ~self.engine_reset),
            outstanding.eq(outstanding + bursts.input.valid - answered),
        ]
        with m.If(answered):
            m.d.sync += failed.eq(~ended.end & (failed | self.answer.payload))
        with m.If(self.engine_reset):
            m.d.sync += draining.eq(1)
        with m.Elif(outstanding == 0):
            m.d.sync += draining.eq(0)
        with m.If(draining):
            m.d.sync += failed.eq(0)
        return m
