"""Where indirect tables land: their descriptors, chunk by chunk."""

from amaranth.hdl import Module, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.stream import StreamFIFO
from ..types.packet import packet_stream
from .descriptor_stream import DescriptorStream
from .ring_item import TABLE_ROOM

__all__ = ["TableEntry", "WalkLanding", "split_links"]


class TableEntry(data.Struct):
    """A descriptor of an indirect table.

    ``last`` ends the chunk that it came with; ``error``: that chunk could not be read. In a split
    table ``chained``: the chain goes on at entry ``next``; ``indirect``: the descriptor points at
    another table. They are 0 in a packed one.
    """

    address: 64
    length: 32
    writable: 1
    last: 1
    error: 1
    chained: 1
    indirect: 1
    next: 16


def split_links(descriptor: Value) -> tuple[Value, Value, Value, Value]:
    """NEXT, WRITE, INDIRECT and ``next`` of a split descriptor. [virtio 1.4 §2.7.5]"""
    raw = Value.cast(descriptor)
    return raw[96], raw[97], raw[98], raw[112:128]


class WalkLanding(wiring.Component):
    """Holds the chunks of indirect tables until they are used.

    A chunk is shown only when it has come back whole. Room for it was reserved when it was asked
    for: ``table_packet`` never waits.

    Parameters
    ----------
    width
        Bits of a packet beat.
    rings
        Ring formats of the device; without "split" no links are kept.

    Ports
    -----
    packed : 1
        The rings are packed. Ignored where only one format is built.
    table_packet : packet_stream(width), a packet each chunk
    entry : stream of ``TableEntry``

    One entry a cycle; latency two cycles behind the end of the chunk. ``entry`` is made of
    registers.
    """

    def __init__(self, width: int, rings: tuple[str, ...] = ("packed",)):
        self.width = width
        self.rings = rings
        super().__init__(
            {
                "packed": In(1),
                "table_packet": In(packet_stream(width)),
                "entry": Out(stream.Signature(TableEntry)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.descriptors = descriptors = DescriptorStream(self.width)
        m.submodules.entries = entries = StreamFIFO(TableEntry, TABLE_ROOM)
        m.submodules.chunks = chunks = StreamFIFO(1, TABLE_ROOM)
        wiring.connect(m, wiring.flipped(self.table_packet), descriptors.packet)

        landed = descriptors.output.payload
        stored = entries.input.payload
        m.d.comb += [
            descriptors.output.ready.eq(1),
            entries.input.valid.eq(descriptors.output.valid),
            stored.address.eq(landed.descriptor.address),
            stored.length.eq(landed.descriptor.length),
            stored.writable.eq(landed.descriptor.write),
            stored.last.eq(landed.last),
            chunks.input.valid.eq(descriptors.output.valid & landed.last),
            chunks.input.payload.eq(landed.error),
        ]
        if "split" in self.rings:
            chained, writable, indirect, following = split_links(landed.descriptor)
            links = [
                stored.writable.eq(writable),
                stored.chained.eq(chained),
                stored.indirect.eq(indirect),
                stored.next.eq(following),
            ]
            if "packed" in self.rings:
                with m.If(~self.packed):
                    m.d.comb += links
            else:
                m.d.comb += links

        entry = self.entry
        m.d.comb += [
            Value.cast(entry.payload).eq(Value.cast(entries.output.payload)),
            entry.payload.error.eq(chunks.output.payload),
            # A chunk of which the end has come is in the entries as well.
            entry.valid.eq(chunks.output.valid),
            entries.output.ready.eq(chunks.output.valid & entry.ready),
            chunks.output.ready.eq(entry.ready & entries.output.payload.last),
        ]
        return m
