"""Block device: requests in order to the read path, the write path and the responses."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..config_blk import BlkConfig
from ..lib.stream import StreamFIFO
from .blk_hazard import BlkHazard
from .blk_types import Action, access, plan, response, write_job

__all__ = ["BlkDispatch"]

_RESPONSES = 64


class BlkDispatch(wiring.Component):
    """Hand out reads and writes in order, as many at once as do not touch each other.

    A read waits for the earlier writes that overlap it, and a write for the earlier reads, so that
    requests take effect in their order; all others run side by side. The next request waits behind
    one that waits.

    Parameters
    ----------
    width
        Bits of a beat.
    config
        The block device's configuration.
    under_way
        Reads, and writes, that may be under way; a power of two.
    tokens
        Writes that may be done before their responses ask for them.

    Ports
    -----
    plan : stream of ``plan(config)``
    segment : stream of ``access(config)``
        As many as the plans say.
    read : stream of ``access(config)``
    write : stream of ``write_job(config)``
    response : stream of ``response(width)``
        One per plan with ``told``, in order.
    read_done, write_done : 1
        The oldest read, or write, no longer needs its sectors for itself.
    written : 1
        A response has taken the token of a write.

    Three cycles a read or write.
    """

    def __init__(self, width: int, config: BlkConfig, *, under_way: int = 16, tokens: int = 16):
        self.width = width
        self.config = config
        self.under_way = under_way
        self.tokens = tokens
        super().__init__(
            {
                "plan": In(stream.Signature(plan(config))),
                "segment": In(stream.Signature(access(config))),
                "read": Out(stream.Signature(access(config))),
                "write": Out(stream.Signature(write_job(config))),
                "response": Out(stream.Signature(response(width))),
                "read_done": In(1),
                "write_done": In(1),
                "written": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, bits = self.config, self.config.sector_bits
        lane_bits = (self.width // 8 - 1).bit_length()
        m.submodules.reads = reads = StreamFIFO(access(config), self.under_way)
        m.submodules.writes = writes = StreamFIFO(write_job(config), self.under_way)
        m.submodules.responses = responses = StreamFIFO(response(self.width), _RESPONSES)
        m.submodules.reading = reading = BlkHazard(bits, self.under_way)
        m.submodules.writing = writing = BlkHazard(bits, self.under_way)
        wiring.connect(m, reads.output, wiring.flipped(self.read))
        wiring.connect(m, writes.output, wiring.flipped(self.write))
        wiring.connect(m, responses.output, wiring.flipped(self.response))

        plan_ = self.plan.payload
        first, sectors, end = Signal(bits), Signal(bits), Signal(bits)
        index = Signal(range(config.segments + 1))  # segments of this plan that are dealt with
        conflict = Signal()
        owed = Signal(range(self.tokens + 1))  # writes handed out whose token was not taken
        credit = Signal(init=1)
        is_read = plan_.action == Action.READ
        is_zero = plan_.action == Action.ZERO
        left = plan_.segments != index
        final = ~is_zero | (index == plan_.segments)

        m.d.comb += [
            reading.done.eq(self.read_done),
            writing.done.eq(self.write_done),
            reads.input.payload.first.eq(first),
            reads.input.payload.sectors.eq(sectors),
            writes.input.payload.first.eq(first),
            writes.input.payload.sectors.eq(sectors),
            writes.input.payload.zero.eq(is_zero),
            writes.input.payload.final.eq(final),
            responses.input.payload.read.eq(is_read),
            responses.input.payload.identity.eq(plan_.identity),
            responses.input.payload.wait.eq(is_zero | (plan_.action == Action.WRITE)),
            responses.input.payload.status.eq(plan_.status),
            responses.input.payload.beats.eq(plan_.room[lane_bits:]),
            responses.input.payload.lane.eq(plan_.room[:lane_bits]),
        ]
        for table in (reading, writing):
            m.d.comb += [table.first.eq(first), table.end.eq(end)]
        m.d.sync += conflict.eq(Mux(is_read, writing.overlap, reading.overlap))

        hands_out = Signal()
        with m.FSM(name="dispatch"):
            with m.State("TAKE"):
                m.d.sync += [
                    first.eq(Mux(is_zero, self.segment.payload.first, plan_.first)),
                    sectors.eq(Mux(is_zero, self.segment.payload.sectors, plan_.sectors)),
                ]
                with m.If(self.plan.valid):
                    with m.If(is_zero):
                        m.d.comb += self.segment.ready.eq(1)
                        with m.If(self.segment.valid):
                            m.d.sync += index.eq(index + 1)
                            m.next = "END"
                    with m.Elif(plan_.action != Action.NONE):
                        m.next = "END"
                    with m.Elif(left):
                        # Of a request that is refused.
                        m.d.comb += self.segment.ready.eq(1)
                        with m.If(self.segment.valid):
                            m.d.sync += index.eq(index + 1)
                    with m.Elif(responses.input.ready & writes.input.ready):
                        m.d.comb += [
                            self.plan.ready.eq(1),
                            writes.input.payload.drain.eq(1),
                            writes.input.valid.eq(plan_.drain),
                            responses.input.valid.eq(plan_.told),
                        ]
                        m.d.sync += index.eq(0)
            with m.State("END"):
                m.d.sync += end.eq(first + sectors)
                m.next = "COMPARE"
            with m.State("COMPARE"):
                m.next = "GO"
            with m.State("GO"):
                room = Mux(
                    is_read,
                    reads.input.ready & ~reading.full,
                    writes.input.ready & ~writing.full & credit,
                )
                with m.If(~conflict & room & responses.input.ready):
                    m.d.comb += [
                        hands_out.eq(1),
                        reads.input.valid.eq(is_read),
                        reading.add.eq(is_read),
                        writes.input.valid.eq(~is_read),
                        writing.add.eq(~is_read),
                        # With the first segment: the response takes the tokens of all of them.
                        responses.input.valid.eq(~is_zero | (index == 1)),
                        self.plan.ready.eq(final),
                    ]
                    with m.If(final):
                        m.d.sync += index.eq(0)
                    m.next = "TAKE"

        gives = hands_out & ~is_read
        with m.If(gives & ~self.written):
            m.d.sync += [owed.eq(owed + 1), credit.eq(owed != self.tokens - 1)]
        with m.Elif(self.written & ~gives):
            m.d.sync += [owed.eq(owed - 1), credit.eq(1)]
        return m
