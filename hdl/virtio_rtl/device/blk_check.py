"""Block device: what a request asks for, and whether it may have it."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from virtio_model.spec.blk import BlkFeature

from ..config_blk import BlkConfig
from ..lib.stream import StreamFIFO
from .blk_types import (
    HEADER_BYTES,
    SEGMENT_BYTES,
    Action,
    Command,
    RequestType,
    Status,
    plan,
    verdict,
)

__all__ = ["BlkCheck"]

_SECTOR_SHIFT = 9
_PART_BITS = 26


class BlkCheck(wiring.Component):
    """Turn commands into plans: the action, or the status of a request that cannot be done.

    In this order: a header that is too short, or bytes that could not be read, are an IOERR; a type
    that is unknown, or belongs to a feature that was not accepted, is UNSUPP, and so is a segment
    with an unknown flag; a write to a read-only disk, data that are no whole sectors or segments,
    too many segments, and sectors beyond the end, are IOERR. A request without a byte for the
    status is not done. [virtio 1.4 §5.2.6.2]

    Parameters
    ----------
    config
        The block device's configuration.

    Ports
    -----
    command : stream of ``Command``
    verdict : stream of ``verdict(config)``, one per command that has segments
    plan : stream of ``plan(config)``, one per command, in order
    accepted : 64
        Feature bits.

    Latency five cycles, one command a cycle.
    """

    def __init__(self, config: BlkConfig):
        self.config = config
        super().__init__(
            {
                "command": In(stream.Signature(Command)),
                "verdict": In(stream.Signature(verdict(config))),
                "plan": Out(stream.Signature(plan(config))),
                "accepted": In(64),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, bits = self.config, self.config.sector_bits
        m.submodules.plans = plans = StreamFIFO(plan(config), 4)
        wiring.connect(m, plans.output, wiring.flipped(self.plan))

        kinds = {f"is_{kind.name.lower()}": 1 for kind in RequestType}
        first_step = data.StructLayout(
            kinds
            | {
                "unreadable": 1,
                "beyond": 1,
                "told": 1,
                "body": _PART_BITS,
                "has_body": 1,
                "room": _PART_BITS,
                "sector": bits,
            }
        )
        second_step = data.StructLayout(
            first_step.members
            | {"ragged": 1, "sectors": bits, "end": bits, "too_many": 1, "segments_wrong": 1}
        )
        third_step = data.StructLayout(
            second_step.members | {"refused": 1, "unsupported": 1, "has_segments": 1}
        )
        one, two, three = Signal(first_step), Signal(second_step), Signal(third_step)
        valid = Signal(3)

        # All steps move together, or stand still.
        joined = ~three.has_segments | self.verdict.valid
        moves = Signal()
        m.d.comb += [
            moves.eq(~valid[2] | (plans.input.ready & joined)),
            self.command.ready.eq(moves),
            plans.input.valid.eq(valid[2] & joined),
            self.verdict.ready.eq(valid[2] & three.has_segments & plans.input.ready),
        ]
        command = self.command.payload
        with m.If(moves):
            m.d.sync += [
                valid.eq((valid << 1) | self.command.valid),
                one.unreadable.eq(command.error | (command.readable < HEADER_BYTES)),
                one.beyond.eq(command.sector[bits:].any()),
                one.sector.eq(command.sector),
                one.told.eq(command.writable != 0),
                one.body.eq(command.readable - HEADER_BYTES),
                one.has_body.eq(command.readable > HEADER_BYTES),
                one.room.eq(command.writable - 1),
            ]
            for kind in RequestType:
                m.d.sync += one[f"is_{kind.name.lower()}"].eq(command.type == kind.value)
            self._second(m, one, two)
            self._third(m, two, three)
        self._plan(m, three, plans.input.payload)
        return m

    def _second(self, m: Module, one, two) -> None:
        """How many sectors, and where they would have to begin at the latest."""
        capacity = self.config.capacity_sectors
        amount = Signal(_PART_BITS)
        sectors = amount[_SECTOR_SHIFT:]
        m.d.comb += amount.eq(Mux(one.is_out, one.body, one.room))
        segments = one.body >> (SEGMENT_BYTES - 1).bit_length()
        most = Mux(
            one.is_discard,
            segments > self.config.max_discard_seg,
            segments > self.config.max_write_zeroes_seg,
        )
        for name, _ in one.shape():
            m.d.sync += two[name].eq(one[name])
        m.d.sync += [
            two.ragged.eq(amount[:_SECTOR_SHIFT].any()),
            two.sectors.eq(sectors),
            two.too_many.eq(sectors > capacity),
            two.end.eq(capacity - sectors),
            two.segments_wrong.eq((one.body[:4] != 0) | most),
        ]

    def _third(self, m: Module, two, three) -> None:
        accepted = self.accepted
        known = (
            two.is_in
            | two.is_out
            | two.is_get_id
            | (two.is_flush & accepted[BlkFeature.FLUSH])
            | (two.is_discard & accepted[BlkFeature.DISCARD])
            | (two.is_write_zeroes & accepted[BlkFeature.WRITE_ZEROES])
        )
        outside = two.beyond | two.too_many | (two.sector > two.end) | two.ragged
        if self.config.read_only:
            outside = outside | two.is_out
        ranges = two.is_discard | two.is_write_zeroes
        for name, _ in two.shape():
            m.d.sync += three[name].eq(two[name])
        m.d.sync += [
            three.unsupported.eq(~known),
            three.refused.eq(((two.is_in | two.is_out) & outside) | (ranges & two.segments_wrong)),
            three.has_segments.eq(ranges & two.has_body),
        ]

    def _plan(self, m: Module, three, out) -> None:
        has_segments = three.has_segments
        checked = self.verdict.payload
        with m.If(three.unreadable):
            m.d.comb += out.status.eq(Status.IOERR)
        with m.Elif(three.unsupported | (has_segments & (checked.status == Status.UNSUPP))):
            m.d.comb += out.status.eq(Status.UNSUPP)
        with m.Elif(three.refused):
            m.d.comb += out.status.eq(Status.IOERR)
        with m.Elif(has_segments):
            m.d.comb += out.status.eq(checked.status)
        done = three.told & (out.status == Status.OK)
        with m.If(done & three.is_in & (three.sectors != 0)):
            m.d.comb += out.action.eq(Action.READ)
        with m.Elif(done & three.is_out & (three.sectors != 0)):
            m.d.comb += out.action.eq(Action.WRITE)
        with m.Elif(done & has_segments & (checked.count != 0)):
            m.d.comb += out.action.eq(Action.ZERO)
        m.d.comb += [
            out.drain.eq(three.is_out & three.has_body & (out.action != Action.WRITE)),
            out.identity.eq(three.is_get_id & done),
            out.told.eq(three.told),
            out.room.eq(three.room),
            out.segments.eq(Mux(has_segments, checked.count, 0)),
            out.first.eq(three.sector),
            out.sectors.eq(three.sectors),
        ]
