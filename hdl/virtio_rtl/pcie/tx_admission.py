"""Which of the TLPs of one class may leave: order and flow control credits."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..lib.stream import StreamFIFO

__all__ = ["Admission"]

_HEADER_BITS = 8
_DATA_BITS = 12
_NEED_BITS = 9  # 1024 dwords are 256 data credits


class Tally(wiring.Component):
    """Counts what has come and not gone, 0 to ``most``; ``any``, a register, says if there is any.

    The strobes may come late in the cycle: the sums do not wait for them.
    """

    def __init__(self, most: int):
        self.most = most
        super().__init__({"up": In(1), "down": In(1), "any": Out(1)})

    def elaborate(self, platform):
        m = Module()
        count = Signal(range(self.most + 1))
        with m.If(self.up != self.down):
            m.d.sync += count.eq(Mux(self.up, count + 1, count - 1))
        m.d.sync += self.any.eq(
            (self.up & ~self.down) | (self.any & (self.up | ~(self.down & (count == 1))))
        )
        return m


class Admission(wiring.Component):
    """Decide how many of the TLPs in one class's buffer may leave. [PCIe 3.0 §2.4.1, §2.6.1]

    It sees the TLPs as events beside the buffer: arrived, departed. A TLP is admitted once all
    posted TLPs with a smaller number have left (``ordered``) and its credits are there; the
    credits are consumed then. Admission runs ahead of the buffer's output, so that it costs no
    bubble.

    Parameters
    ----------
    depth
        TLPs that the buffer can hold.
    ordered
        The class must not overtake posted TLPs; else ``ticket`` and ``posted_left`` are ignored.
    with_data
        TLPs of the class need data credits; else ``data_need`` and ``data_limit`` are ignored.
        An unordered class needs it.
    early
        Look at a TLP in the cycle of its arrival: a longer path from ``data_need``.
    ticket_bits
        Bits of ``ticket`` and ``posted_left``; see ``TxArbiter`` for what suffices.

    Ports
    -----
    arrived : in, 1 bit
        The first beat of a TLP enters the buffer; ``data_need`` (9 bits, units of 16 bytes) and
        ``ticket`` are valid.
    departed : in, 1 bit
        The last beat of a TLP leaves the buffer.
    posted_left : in, ``ticket_bits``
        Posted TLPs that have left, modulo.
    header_limit, data_limit, infinite : in, 8, 12 and 1 bit
        Credits of the class as in ``FlowControlLimits``; they count a cycle later.
    admitted : out, 1 bit
        The oldest TLP of the buffer may leave; stays high while it leaves.

    One TLP per cycle; latency two cycles from ``arrived`` to ``admitted``, with ``early`` one
    for a TLP that finds no other before it.

    Tickets are checked apart from credits: a TLP that waits for credits while any number of
    posted TLPs pass would otherwise see its ticket wrap around.
    """

    def __init__(
        self, depth: int, *, ordered: bool, with_data: bool, early: bool, ticket_bits: int
    ):
        if not (ordered or with_data):
            raise ValueError("a class that is neither ordered nor limited by data needs no gate")
        self.depth = depth
        self.ordered = ordered
        self.with_data = with_data
        self.early = early
        super().__init__(
            {
                "arrived": In(1),
                "data_need": In(_NEED_BITS),
                "ticket": In(ticket_bits),
                "departed": In(1),
                "posted_left": In(ticket_bits),
                "header_limit": In(_HEADER_BITS),
                "data_limit": In(_DATA_BITS),
                "infinite": In(1),
                "admitted": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        admit = Signal()
        in_order = Signal()
        has_header = Signal()
        has_data = Signal()
        arrives = self.arrived & self.early  # and may be looked at

        # Neither FIFO can overflow: its entry goes before the TLP leaves the buffer.
        if self.with_data:
            m.submodules.needs = needs = StreamFIFO(_NEED_BITS, self.depth)
            data_consumed = Signal(_DATA_BITS)
            data_room = Signal(_DATA_BITS)  # of the cycle before: too little at worst
            first = ~needs.output.valid & self.early
            need = Signal(_NEED_BITS)
            after_waiting = Signal(_DATA_BITS)
            after_arriving = Signal(_DATA_BITS)
            m.d.comb += [
                needs.input.payload.eq(self.data_need),
                needs.input.valid.eq(self.arrived & ~(first & admit)),
                needs.output.ready.eq(admit),
                need.eq(Mux(first, self.data_need, needs.output.payload)),
                after_waiting.eq(data_room - needs.output.payload),
                after_arriving.eq(data_room - self.data_need),
                has_data.eq(Mux(first, ~after_arriving[-1], ~after_waiting[-1])),
            ]
            m.d.sync += data_room.eq(self.data_limit - data_consumed)
            with m.If(admit):
                m.d.sync += [
                    data_consumed.eq(data_consumed + need),
                    data_room.eq(self.data_limit - data_consumed - need),
                ]
        else:
            m.d.comb += has_data.eq(1)

        if self.ordered:
            m.submodules.tickets = tickets = StreamFIFO(len(self.ticket), self.depth)
            reached = Signal()
            posted_since = Signal(len(self.ticket))
            behind_posted = Tally(self.depth)
            m.submodules.behind_posted = behind_posted
            at_once = Signal()  # no posted TLP and none of this class is ahead
            m.d.comb += [
                tickets.input.payload.eq(self.ticket),
                tickets.input.valid.eq(self.arrived & ~at_once),
                posted_since.eq(self.posted_left - tickets.output.payload),
                at_once.eq(arrives & ~tickets.output.valid & (self.ticket == self.posted_left)),
                reached.eq((tickets.output.valid & ~posted_since[-1]) | at_once),
                tickets.output.ready.eq(reached),
                in_order.eq(reached | behind_posted.any),
            ]
            m.d.comb += [behind_posted.up.eq(reached), behind_posted.down.eq(admit)]
        else:
            m.d.comb += in_order.eq(needs.output.valid | arrives)

        header_consumed = Signal(_HEADER_BITS)
        header_after = Signal(_HEADER_BITS, init=-1)
        m.d.comb += [
            has_header.eq(~header_after[-1]),
            admit.eq(in_order & (self.infinite | (has_header & has_data))),
        ]
        m.d.sync += header_after.eq(self.header_limit - header_consumed - admit - 1)
        with m.If(admit):
            m.d.sync += header_consumed.eq(header_consumed + 1)
        m.submodules.waiting = waiting = Tally(self.depth)
        m.d.comb += [
            waiting.up.eq(admit),
            waiting.down.eq(self.departed),
            self.admitted.eq(waiting.any),
        ]
        return m
