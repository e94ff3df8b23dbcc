"""Puts used descriptors or elements together to packet beats."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..types.packet import packet_stream
from .used_position import chosen

__all__ = ["UsedBeats", "UsedWord"]


class UsedWord(data.Struct):
    """Eight bytes of a used ring, of which ``index`` takes the first two only.

    Of a packed used descriptor these are the upper eight bytes; the lower ones, its address, are 0.
    ``last`` ends the packet.
    """

    word: 64
    index: 1
    last: 1


class UsedBeats(wiring.Component):
    """Fills beats from their low lanes up.

    Parameters
    ----------
    width
        Bits of a packet beat.
    rings
        Ring formats that are built.

    Ports
    -----
    packed : 1
        The ring format in use: words are 16 bytes apart, not 8.
    word : stream of ``UsedWord``
    packet : packet_stream(width)

    One word a cycle (a packed one every two cycles at 64 bits). Combinational from ``word`` to
    ``packet``, and ``ready`` the other way.
    """

    def __init__(self, width: int, rings: tuple[str, ...]):
        self.width = width
        self.rings = rings
        super().__init__(
            {
                "packed": In(1),
                "word": In(stream.Signature(UsedWord)),
                "packet": Out(packet_stream(width)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        packed = chosen(self.rings, self.packed)
        word, beat = self.word.payload, self.packet.payload
        m.d.comb += beat.last.eq(word.last)
        if self.width == 64:
            # The lower half of a packed descriptor has a beat of its own.
            upper = Signal()
            lower = packed & ~upper
            m.d.comb += [
                beat.data.eq(Mux(lower, 0, word.word)),
                beat.count.eq(Mux(word.index, 2, 8)),
                beat.last.eq(word.last & ~lower),
                self.packet.valid.eq(self.word.valid),
                self.word.ready.eq(self.packet.ready & ~lower),
            ]
            with m.If(self.packet.valid & self.packet.ready):
                m.d.sync += upper.eq(lower)
            return m

        lanes = self.width // 64
        number = Signal(range(lanes))  # words in the beat, before this one
        lane = Signal.like(number)
        full = Signal()
        step = Signal()
        m.d.comb += [
            lane.eq(Mux(packed, Cat(Const(1, 1), number), number)),
            full.eq(lane == lanes - 1),
            beat.count.eq((lane << 3) + Mux(word.index, 2, 8)),
            beat.last.eq(word.last),
            self.packet.valid.eq(self.word.valid & (word.last | full)),
            self.word.ready.eq(self.packet.ready),
            step.eq(self.word.valid & self.word.ready),
        ]
        for index in range(lanes):
            place = slice(64 * index, 64 * (index + 1))
            earlier = Signal(64, name=f"earlier_{index}")
            # Packed words lie in odd lanes.
            unused = packed if index % 2 == 0 else Const(0, 1)
            m.d.comb += beat.data[place].eq(
                Mux(lane == index, word.word, earlier & (~unused).replicate(64))
            )
            with m.If(step & (lane == index)):
                m.d.sync += earlier.eq(word.word)
        with m.If(step):
            m.d.sync += number.eq(Mux(word.last | full, 0, number + 1))
        return m
