"""Transmit side: order, flow control credits and fairness of everything that leaves."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from ..lib.stream import SkidBuffer, StreamArbiter, StreamFIFO
from ..types.tlp import FlowControlLimits, TLPHeader, tlp_beat, tlp_stream
from .tx_admission import Admission

__all__ = ["TxArbiter"]


class TxArbiter(wiring.Component):
    """Merge all that the function sends into one TLP stream. [PCIe 3.0 §2.4.1, §2.6.1]

    Parameters
    ----------
    width
        Data bits of the TLP streams: 64, 128, 256 or 512.
    depth
        Beats of the posted buffer and of the completion buffer, at least 4.
    read_depth
        Read requests that can wait. More than ``depth``, so that reads get their full share even
        though each waits for the posted TLPs ahead of it.

    Ports
    -----
    posted : in, ``tlp_stream(width)``
        Memory writes.
    message : in, ``tlp_stream(width)``
        Interrupt messages, posted as well; round robin by TLP with ``posted``. In what follows
        they are posted TLPs like all others.
    nonposted : in, ``tlp_stream(width)``
        Read requests: one beat, only the header counts.
    completion_bar, completion_config : in, ``tlp_stream(width)``
        Completions, with data or without.
    limits : in, ``FlowControlLimits``
        What the link partner can take; no nonposted data credits, since nothing needs them.
    tlp : out, ``tlp_stream(width)``
        All of them, each TLP in one piece.
    busy : out, 1 bit
        A beat is inside, or the rest of a TLP has yet to come.

    One beat per cycle without a bubble between TLPs, single-beat TLPs included. Latency from an
    accepted beat to ``tlp`` two cycles for posted TLPs, and for reads that find no posted TLP
    ahead; three for completions. Round robin by TLP between posted, read requests and
    completions; round robin between the two inputs of completions.

    Order: each class keeps its order. A read request or completion whose first beat is accepted
    in any cycle after a posted TLP's last beat was accepted leaves after that TLP. For this the
    posted TLPs are counted as they enter, a read or completion takes the count as its ticket, and
    waits until as many have left. It waits for no posted TLP that came later, and posted TLPs
    wait for nothing but their own credits, which is what keeps PCIe free of deadlock.

    Credits: a TLP leaves only with all its credits, one header and ``ceil(length_dw / 4)`` data;
    they are consumed up to two cycles before its first beat is offered.

    Limitations: TLPs are cut through, not stored; a source that offers the first beat of a TLP
    must be able to offer the rest without waiting for anything else to leave. Reset together with
    the link only, since the credit counts start at zero.
    """

    def __init__(self, width: int, depth: int = 8, read_depth: int = 32):
        if depth < 4:
            raise ValueError(f"depth = {depth!r}: at least 4")
        if read_depth <= depth:
            raise ValueError(f"read_depth = {read_depth!r}: more than depth")
        self.width = width
        self.depth = depth
        self.read_depth = read_depth
        super().__init__(
            {
                "posted": In(tlp_stream(width)),
                "message": In(tlp_stream(width)),
                "nonposted": In(tlp_stream(width)),
                "completion_bar": In(tlp_stream(width)),
                "completion_config": In(tlp_stream(width)),
                "limits": In(FlowControlLimits),
                "tlp": Out(tlp_stream(width)),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        beat = tlp_beat(self.width)
        # A ticket is at most `depth` ahead of the posted TLPs that left. It is looked at in every
        # cycle and tickets are taken off one per cycle, so that it ages by `read_depth` at most.
        ticket_bits = bits_for(max(self.depth, self.read_depth) + 2) + 1
        posted_entered = Signal(ticket_bits)
        posted_left = Signal(ticket_bits)

        m.submodules.posted_buffer = posted = StreamFIFO(beat, self.depth)
        m.submodules.completion_buffer = completion = StreamFIFO(beat, self.depth)
        m.submodules.read_buffer = read = StreamFIFO(TLPHeader, self.read_depth)
        m.submodules.posted_merge = posted_merge = StreamArbiter(beat, 2, packets=True)
        m.submodules.completion_merge = merge = StreamArbiter(beat, 2, packets=True)
        m.submodules.order = order = StreamArbiter(beat, 3, packets=True)
        m.submodules.output_skid = skid = SkidBuffer(beat)
        m.submodules.posted_admission = posted_admission = Admission(
            self.depth, ordered=False, with_data=True, early=True, ticket_bits=ticket_bits
        )
        m.submodules.read_admission = read_admission = Admission(
            self.read_depth, ordered=True, with_data=False, early=True, ticket_bits=ticket_bits
        )
        m.submodules.completion_admission = completion_admission = Admission(
            self.depth, ordered=True, with_data=True, early=False, ticket_bits=ticket_bits
        )

        wiring.connect(m, wiring.flipped(self.posted), posted_merge.input_0)
        wiring.connect(m, wiring.flipped(self.message), posted_merge.input_1)
        wiring.connect(m, posted_merge.output, posted.input)
        wiring.connect(m, wiring.flipped(self.completion_bar), merge.input_0)
        wiring.connect(m, wiring.flipped(self.completion_config), merge.input_1)
        wiring.connect(m, merge.output, completion.input)
        m.d.comb += [
            read.input.payload.eq(self.nonposted.payload.header),
            read.input.valid.eq(self.nonposted.valid & self.nonposted.payload.first),
            self.nonposted.ready.eq(read.input.ready),
        ]

        for source, admission, gated in (
            (posted, posted_admission, order.input_0),
            (read, read_admission, order.input_1),
            (completion, completion_admission, order.input_2),
        ):
            if source is read:
                first = 1
                header = source.input.payload
                m.d.comb += [
                    gated.payload.header.eq(source.output.payload),
                    gated.payload.first.eq(1),
                    gated.payload.last.eq(1),
                ]
            else:
                first = source.input.payload.first
                header = source.input.payload.header
                m.d.comb += gated.payload.eq(source.output.payload)
            m.d.comb += [
                admission.arrived.eq(source.input.valid & source.input.ready & first),
                admission.data_need.eq((header.length_dw + 3) >> 2),
                admission.ticket.eq(posted_entered),
                admission.posted_left.eq(posted_left),
                gated.valid.eq(source.output.valid & admission.admitted),
                source.output.ready.eq(gated.ready & admission.admitted),
                admission.departed.eq(gated.valid & gated.ready & gated.payload.last),
            ]

        limits = self.limits
        m.d.comb += [
            posted_admission.header_limit.eq(limits.posted_header),
            posted_admission.data_limit.eq(limits.posted_data),
            posted_admission.infinite.eq(limits.posted_infinite),
            read_admission.header_limit.eq(limits.nonposted_header),
            read_admission.infinite.eq(limits.nonposted_infinite),
            completion_admission.header_limit.eq(limits.completion_header),
            completion_admission.data_limit.eq(limits.completion_data),
            completion_admission.infinite.eq(limits.completion_infinite),
        ]

        # Counted as late as possible on the way in and as early as possible on the way out: a
        # TLP that starts now leaves ahead of whatever is chosen next.
        entering = posted.input.valid & posted.input.ready & posted.input.payload.last
        leaving = order.input_0.valid & order.input_0.ready & order.input_0.payload.first
        with m.If(entering):
            m.d.sync += posted_entered.eq(posted_entered + 1)
        with m.If(leaving):
            m.d.sync += posted_left.eq(posted_left + 1)

        wiring.connect(m, order.output, skid.input)
        wiring.connect(m, skid.output, wiring.flipped(self.tlp))
        unfinished = Signal()
        with m.If(order.output.valid & order.output.ready):
            m.d.sync += unfinished.eq(~order.output.payload.last)
        buffers = (posted.output.valid, read.output.valid, completion.level, skid.output.valid)
        held = Cat(*buffers, unfinished)
        m.d.comb += self.busy.eq(held.any())
        return m
