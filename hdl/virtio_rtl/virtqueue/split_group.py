"""Puts neighbouring heads together into one read of descriptors."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..types.dma import ReadRequest
from .split_records import BLOCK, split_entry, split_ticket

__all__ = ["SplitGroup"]


class SplitGroup(wiring.Component):
    """One read for consecutive heads of one ring read in the same block, in whatever order.

    The read reaches from the lowest to the highest head, and further up, inside the block, as
    long as the virtqueue's chains have been lately. It begins with the block if chains may come
    over from the block that the virtqueue's last read was in: from the one before, or from the
    table's last into its first.

    Parameters
    ----------
    queues
        Virtqueues.
    depth
        Descriptors per virtqueue in the read-ahead store.

    Ports
    -----
    entry : stream of ``split_entry``
    request : stream of ``ReadRequest``
    ticket : stream of ``split_ticket``, in the order of the requests; ``bad`` and ``lost`` ones
        have none.
    idle : 1

    One head a cycle, one group every second cycle. A request comes three cycles after the last
    head of its group, from registers.
    """

    def __init__(self, queues: int, depth: int):
        self.queues = queues
        self.pointer_bits = (2 * depth - 1).bit_length()
        super().__init__(
            {
                "entry": In(stream.Signature(split_entry(self.pointer_bits))),
                "request": Out(stream.Signature(ReadRequest)),
                "ticket": Out(stream.Signature(split_ticket(self.pointer_bits))),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        ticket_layout = split_ticket(self.pointer_bits)
        group_layout = data.StructLayout(
            {
                "ticket": ticket_layout,
                "high": 4,
                "area": 60,
                "estimate": 2,
                "top": 16,  # place of the table's last descriptor
            }
        )
        entry = self.entry.payload
        block, offset = entry.place[4:], entry.place[:4]

        # A group that is growing.
        group = Signal(group_layout)
        group_valid = Signal()
        closed = Signal()
        joins = Signal()
        moves = Signal()
        # Behind it: one that has its first and last descriptor, and one that is sent.
        span = Signal(group_layout)
        span_valid = Signal()
        out = Signal(ticket_layout)
        out_valid = Signal()
        out_base = Signal(56)
        done = Signal()
        simple = ~(entry.bad | entry.lost | entry.chain)
        m.d.comb += [
            joins.eq(group_valid & ~closed & simple & (block == group.ticket.block)),
            moves.eq(group_valid & ~span_valid & (closed | (self.entry.valid & ~joins))),
            self.entry.ready.eq(~group_valid | joins | moves),
        ]
        with m.If(moves):
            m.d.sync += group_valid.eq(0)
        with m.If(self.entry.valid & self.entry.ready):
            m.d.sync += [group_valid.eq(1), closed.eq(entry.last | ~simple)]
            with m.If(joins):
                m.d.sync += [
                    group.ticket.heads.eq(group.ticket.heads + 1),
                    group.ticket.offsets[group.ticket.heads[:4]].eq(offset),
                ]
                with m.If(offset < group.ticket.low):
                    m.d.sync += group.ticket.low.eq(offset)
                with m.If(offset > group.high):
                    m.d.sync += group.high.eq(offset)
            with m.Else():
                m.d.sync += [
                    group.ticket.queue.eq(entry.queue),
                    group.ticket.epoch.eq(entry.epoch),
                    group.ticket.limit.eq(entry.limit),
                    group.ticket.block.eq(block),
                    group.ticket.low.eq(offset),
                    group.ticket.heads.eq(simple),
                    group.ticket.offsets[0].eq(offset),
                    group.ticket.size.eq(entry.size),
                    group.ticket.area.eq(entry.descriptor_area[4:8]),
                    group.ticket.bad.eq(entry.bad),
                    group.ticket.lost.eq(entry.lost),
                    group.high.eq(offset),
                    group.area.eq(entry.descriptor_area[4:]),
                    group.estimate.eq(entry.estimate),
                    group.top.eq(entry.size - 1 + entry.descriptor_area[4:8]),
                ]

        # How far the read goes. A chain that came over from the block before needs the beginning.
        # Looked up with each entry that is taken; a group has but one virtqueue.
        m.submodules.behind = behind = Memory(shape=12, depth=self.queues, init=[])
        behind_write = behind.write_port()
        behind_read = behind.read_port(transparent_for=[behind_write])
        wanted = Signal(4)
        slack = Signal(2)
        m.d.comb += [
            slack.eq(Mux(group.estimate == 2, 3, group.estimate)),
            wanted.eq(Mux(group.high > BLOCK - 1 - slack, BLOCK - 1, group.high + slack)),
        ]
        with m.If(group.estimate == 3):
            m.d.comb += wanted.eq(BLOCK - 1)
        next_block = Mux(group.ticket.block == group.top[4:], 0, group.ticket.block + 1)
        m.d.comb += [
            behind_read.addr.eq(entry.queue),
            behind_read.en.eq(self.entry.valid & self.entry.ready),
            behind_write.addr.eq(group.ticket.queue),
            behind_write.data.eq(next_block),
            behind_write.en.eq(moves),
        ]
        with m.If(moves):
            m.d.sync += [span_valid.eq(1), span.eq(group), span.high.eq(wanted)]
            with m.If((behind_read.data == group.ticket.block) & (group.estimate != 0)):
                # What stands before the table in its first block is not the virtqueue's.
                m.d.sync += span.ticket.low.eq(Mux(group.ticket.block == 0, group.ticket.area, 0))

        at_top = (span.ticket.block == span.top[4:]) & (span.high > span.top[:4])
        last = Signal(4)
        m.d.comb += last.eq(Mux(at_top, span.top[:4], span.high))
        with m.If(done):
            m.d.sync += out_valid.eq(0)
        with m.If(span_valid & (~out_valid | done)):
            m.d.sync += [
                span_valid.eq(0),
                out_valid.eq(1),
                out.eq(span.ticket),
                out.count.eq(last - span.ticket.low + 1),
                out_base.eq(span.area[4:] + span.ticket.block),
            ]

        request_sent = Signal()
        ticket_sent = Signal()
        reads = ~(out.bad | out.lost)
        m.d.comb += [
            self.request.payload.address.eq(Cat(Const(0, 4), out.low, out_base)),
            self.request.payload.length.eq(out.count << 4),
            self.request.payload.last.eq(1),
            self.request.valid.eq(out_valid & reads & ~request_sent),
            self.ticket.payload.eq(out),
            self.ticket.valid.eq(out_valid & ~ticket_sent),
            done.eq(
                out_valid
                & (request_sent | self.request.ready | ~reads)
                & (ticket_sent | self.ticket.ready)
            ),
            self.idle.eq(~(group_valid | span_valid | out_valid)),
        ]
        with m.If(done):
            m.d.sync += [request_sent.eq(0), ticket_sent.eq(0)]
        with m.Elif(out_valid):
            m.d.sync += [
                request_sent.eq(request_sent | (reads & self.request.ready)),
                ticket_sent.eq(ticket_sent | self.ticket.ready),
            ]
        return m
