"""The descriptors that chains are taken from."""

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..lib.stream import StreamFIFO
from ..types.packet import packet_stream
from .descriptor_stream import DescriptorStream
from .split_records import BLOCK, WINDOWS, SplitDescriptor, WindowEntry, loaded_ticket, split_ticket

__all__ = ["SplitWindow"]


class SplitWindow(wiring.Component):
    """Four windows of 16 descriptors: some are loaded while chains are taken from another.

    Parameters
    ----------
    width
        Bits of a packet beat.
    depth
        Descriptors per virtqueue in the read-ahead store.

    Ports
    -----
    ticket : stream of ``split_ticket``
    packet : packet_stream(width), one for each ticket that is neither ``bad`` nor ``lost``
    loaded : stream of ``loaded_ticket``, in the order of the tickets
        The descriptors of a ticket that is offered stay until ``free``.
    window, offset -> entry
        Look at a ``WindowEntry``; combinational.
    free : 1
        Strobe: the ticket that was taken longest ago is done with.
    idle : 1
        Nothing is in a window.

    One descriptor a cycle, no cycle lost between tickets; ``loaded`` comes three cycles after the
    packet's end.
    """

    def __init__(self, width: int, depth: int):
        self.width = width
        self.pointer_bits = (2 * depth - 1).bit_length()
        super().__init__(
            {
                "ticket": In(stream.Signature(split_ticket(self.pointer_bits))),
                "packet": In(packet_stream(width)),
                "loaded": Out(stream.Signature(loaded_ticket(self.pointer_bits))),
                "window": In(range(WINDOWS)),
                "offset": In(4),
                "entry": Out(WindowEntry),
                "free": In(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.store = store = Memory(shape=WindowEntry, depth=WINDOWS * BLOCK, init=[])
        m.submodules.descriptors = descriptors = DescriptorStream(self.width)
        m.submodules.waiting = waiting = StreamFIFO(self.loaded.payload.shape(), WINDOWS)
        wiring.connect(m, wiring.flipped(self.packet), descriptors.packet)
        wiring.connect(m, waiting.output, wiring.flipped(self.loaded))
        write, read = store.write_port(), store.read_port(domain="comb")
        m.d.comb += [read.addr.eq(Cat(self.offset, self.window)), self.entry.eq(read.data)]

        # Tickets in a window; no packet is begun without one.
        used = Signal(range(WINDOWS + 1))
        full = Signal()
        window = Signal(range(WINDOWS))
        offset = Signal(4)  # in the block, behind the ticket's first
        ends = Signal()
        ticket = self.ticket.payload
        source = descriptors.output
        plain = ~(ticket.bad | ticket.lost)
        m.d.comb += [
            source.ready.eq(self.ticket.valid & plain & ~full),
            ends.eq(self.ticket.valid & ~full & (~plain | (source.valid & source.payload.last))),
            self.ticket.ready.eq(ends),
            self.idle.eq(used == 0),
        ]
        with m.If(ends & ~self.free):
            m.d.sync += [used.eq(used + 1), full.eq(used == WINDOWS - 1)]
        with m.If(~ends & self.free):
            m.d.sync += [used.eq(used - 1), full.eq(0)]
        with m.If(ends):
            m.d.sync += [offset.eq(0), window.eq(window + 1)]
        with m.Elif(source.valid & source.ready):
            m.d.sync += offset.eq(offset + 1)

        # Where the next descriptor is, is worked out on the way in.
        first = Signal(loaded_ticket(self.pointer_bits))
        arrives = Signal()
        arrived_last = Signal()
        arrived = Signal(SplitDescriptor)
        place = Signal(17)
        beyond = Signal()
        landed = data.View(SplitDescriptor, Value.cast(source.payload.descriptor))
        m.d.sync += [
            arrives.eq(source.valid & source.ready),
            arrived_last.eq(ends),
            arrived.eq(landed),
            place.eq(landed.next_index + ticket.area),
            beyond.eq(landed.next_index >= ticket.size),
            write.addr.eq(Cat((ticket.low + offset)[:4], window)),
            first.ticket.eq(ticket),
            first.window.eq(window),
            first.error.eq(source.payload.error & plain),
        ]
        behind = (place[:4] - first.ticket.low)[:5]
        entry = write.data
        m.d.comb += [
            write.en.eq(arrives),
            entry.address.eq(arrived.address),
            entry.length.eq(arrived.length),
            entry.next.eq(arrived.next),
            entry.write.eq(arrived.write),
            entry.indirect.eq(arrived.indirect),
            entry.offset.eq(place[:4]),
            entry.block.eq(place[4:]),
            entry.beyond.eq(beyond),
            entry.inside.eq((place[4:] == first.ticket.block) & (behind < first.ticket.count)),
            waiting.input.valid.eq(arrived_last),
            waiting.input.payload.eq(first),
        ]
        return m
