"""Asks for indirect tables, ahead of those who use them."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..types.dma import ReadRequest
from .ring_item import TABLE_ROOM

__all__ = ["TableChunk", "TableStart", "WalkTable"]

_CHUNK = 16


class TableStart(data.Struct):
    """An indirect descriptor; ``follows``: it is behind others in its chain; ``next``: NEXT."""

    address: 64
    length: 32
    follows: 1
    next: 1


class TableChunk(data.Struct):
    """A part of the table was asked for; ``last`` ends it.

    ``bad``: nothing was asked for, since a rule is broken.
    """

    last: 1
    bad: 1


class WalkTable(wiring.Component):
    """Reads the table of an indirect descriptor in chunks of up to 16 descriptors.

    A chunk is asked for when there is room for what comes back. Rules checked: the table's length
    is a multiple of 16 and not 0. A packed one stands alone in its chain and holds no more
    descriptors than the virtqueue [virtio 1.4 §2.8.8, §2.8.19]. A split one ends its chain
    [virtio 1.4 §2.7.5.3]; it may be larger than the virtqueue, whose size is what is read of it
    here: no chain in entry order is longer.

    Parameters
    ----------
    rings
        Ring formats of the device.

    Ports
    -----
    packed : 1
        The rings are packed. Ignored where only one format is built.
    start : stream of ``TableStart``
    size : 16
        Size of the virtqueue, while its table is read.
    request : stream of ``ReadRequest``
    chunk : stream of ``TableChunk``, one for each request
    freed : 1
        A table descriptor was used.

    Three cycles a chunk, one more for a table that is larger than the virtqueue; latency from
    ``start`` to ``request`` two cycles.
    """

    def __init__(self, rings: tuple[str, ...] = ("packed",)):
        self.rings = rings
        super().__init__(
            {
                "packed": In(1),
                "start": In(stream.Signature(TableStart)),
                "size": In(unsigned(16)),
                "request": Out(stream.Signature(ReadRequest)),
                "chunk": Out(stream.Signature(TableChunk)),
                "freed": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        address = Signal(64)
        length = Signal(32)  # that is left
        count = Signal(range(_CHUNK + 1))
        alone = Signal()
        enough = Signal()
        room = Signal(range(TABLE_ROOM + 1), init=TABLE_ROOM)
        taken = Signal(range(_CHUNK + 1))
        more = length[4:] > _CHUNK
        too_large = length[4:] > self.size
        start = self.start.payload
        # What a packed table must not, a split one may.
        follows = start.follows
        if "split" in self.rings:
            follows &= self.packed if "packed" in self.rings else 0
        m.d.sync += room.eq(room + self.freed - taken)
        m.d.comb += [
            self.request.payload.address.eq(address),
            self.request.payload.length.eq(count << 4),
            self.request.payload.last.eq(1),
        ]
        with m.FSM(name="walk_table"):
            with m.State("IDLE"):
                m.d.comb += self.start.ready.eq(1)
                m.d.sync += [
                    address.eq(start.address),
                    length.eq(start.length),
                    alone.eq(~follows & ~start.next),
                ]
                with m.If(self.start.valid):
                    m.next = "SIZE"
            with m.State("SIZE"):
                m.d.sync += [
                    count.eq(Mux(more, _CHUNK, length[4:])),
                    self.chunk.payload.last.eq(~more),
                    self.chunk.payload.bad.eq(0),
                ]
                # Room only grows until then.
                m.d.sync += enough.eq(room >= Mux(more, _CHUNK, length[4:9]))
                m.next = "READ"
                # Of a later chunk all this is known.
                broken = ~alone | length[:4].any() | (length == 0)
                if "split" not in self.rings:
                    broken |= too_large
                elif "packed" in self.rings:
                    broken |= too_large & self.packed
                with m.If(broken):
                    m.d.sync += [self.chunk.payload.last.eq(1), self.chunk.payload.bad.eq(1)]
                    m.next = "CHUNK"
                if "split" in self.rings:
                    with m.Elif(too_large):
                        m.d.sync += length[4:].eq(self.size)
                        m.next = "SIZE"
            with m.State("READ"):
                m.d.sync += enough.eq(room >= count)
                with m.If(enough):
                    m.d.comb += self.request.valid.eq(1)
                    with m.If(self.request.ready):
                        m.d.comb += taken.eq(count)
                        m.next = "CHUNK"
            with m.State("CHUNK"):
                m.d.comb += self.chunk.valid.eq(1)
                with m.If(self.chunk.ready):
                    m.d.sync += [
                        address.eq(address + (_CHUNK << 4)),
                        length[4:].eq(length[4:] - _CHUNK),
                    ]
                    m.next = "SIZE"
                    with m.If(self.chunk.payload.last):
                        m.next = "IDLE"
        return m
