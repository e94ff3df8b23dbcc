"""Putting a header of fixed length in front of packets, and taking it off."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..types.packet import packet_stream

__all__ = ["AddPrefix", "DropPrefix"]


class DropPrefix(wiring.Component):
    """Take the first ``length`` bytes off every packet.

    Parameters
    ----------
    width
        Bits of a packet beat.
    length
        Bytes to drop, not a multiple of ``width // 8``.
    dest_bits
        Bits of the packets' ``dest``, or 0.

    Ports
    -----
    input, output : packet_stream(width, dest_bits)
    dropped : 1
        Strobe: a packet vanished because it has ``length`` bytes or less. Not for ``error``.

    Latency two cycles; one beat a cycle, the first
    beat of a packet while the tail of the one before it leaves.
    """

    def __init__(self, width: int, length: int, dest_bits: int = 0):
        if length % (width // 8) == 0:
            raise ValueError(f"length = {length!r}: a multiple of the beat needs no shift")
        self.width = width
        self.length = length
        self.dest_bits = dest_bits
        super().__init__(
            {
                "input": In(packet_stream(width, dest_bits)),
                "output": Out(packet_stream(width, dest_bits)),
                "dropped": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        lanes = self.width // 8
        skip, shift = divmod(self.length, lanes)
        beat = self.input.payload
        out = self.output.payload

        skipped = Signal(range(skip + 1))
        held = Signal(self.width - 8 * shift)
        have = Signal()
        tail = Signal()
        tail_count = Signal(range(lanes + 1))
        tail_error = Signal()
        free = ~self.output.valid | self.output.ready
        longer = beat.count > shift

        dest = Signal(self.dest_bits)

        def load():
            """Keep what this beat leaves for the next one; its packet may end here."""
            m.d.sync += [
                held.eq(beat.data[8 * shift :]),
                tail_count.eq(beat.count - shift),
                tail_error.eq(beat.error),
                tail.eq(beat.last & longer),
                have.eq(~beat.last),
            ]
            if self.dest_bits:
                m.d.sync += dest.eq(beat.dest)
            if skip:
                m.d.sync += skipped.eq(Mux(beat.last, 0, skipped))

        with m.If(free):
            m.d.sync += self.output.valid.eq(0)
            if self.dest_bits:
                # Of the packet whose first bytes are held, which is the one that leaves.
                m.d.sync += out.dest.eq(dest)
            with m.If(tail):
                m.d.sync += [
                    self.output.valid.eq(1),
                    out.data.eq(held),
                    out.count.eq(tail_count),
                    out.last.eq(1),
                    out.error.eq(tail_error),
                    tail.eq(0),
                ]
            m.d.comb += self.input.ready.eq(1)
            with m.If(self.input.valid):
                with m.If(~have & (skipped != skip)):
                    # A packet that ends here is no longer than the prefix.
                    m.d.sync += skipped.eq(Mux(beat.last, 0, skipped + 1))
                    m.d.comb += self.dropped.eq(beat.last & ~beat.error)
                with m.Elif(~have):
                    load()
                    m.d.comb += self.dropped.eq(beat.last & ~longer & ~beat.error)
                with m.Else():
                    m.d.sync += [
                        self.output.valid.eq(1),
                        out.data.eq(Cat(held, beat.data[: 8 * shift])),
                        out.count.eq(Mux(longer, lanes, lanes - shift + beat.count)),
                        out.last.eq(beat.last & ~longer),
                        out.error.eq(beat.error),
                    ]
                    load()
        return m


class AddPrefix(wiring.Component):
    """Put ``prefix`` in front of every packet.

    Parameters
    ----------
    width
        Bits of a packet beat.
    prefix
        The bytes; their number is not a multiple of ``width // 8``.

    Ports
    -----
    input, output : packet_stream(width)

    Latency one cycle; one output beat a cycle.
    """

    def __init__(self, width: int, prefix: bytes):
        if len(prefix) % (width // 8) == 0:
            raise ValueError(f"prefix of {len(prefix)} bytes: a multiple of the beat")
        self.width = width
        self.prefix = prefix
        super().__init__({"input": In(packet_stream(width)), "output": Out(packet_stream(width))})

    def elaborate(self, platform):
        m = Module()
        lanes = self.width // 8
        whole, shift = divmod(len(self.prefix), lanes)
        beat = self.input.payload
        out = self.output.payload
        rest = int.from_bytes(self.prefix[whole * lanes :], "little")

        sent = Signal(range(whole + 1))
        carry = Signal(8 * shift, init=rest)
        tail = Signal()
        tail_count = Signal(range(lanes + 1))
        tail_error = Signal()
        free = ~self.output.valid | self.output.ready
        longer = beat.count > lanes - shift

        with m.If(free):
            m.d.sync += self.output.valid.eq(0)
            with m.If(tail):
                m.d.sync += [
                    self.output.valid.eq(1),
                    out.data.eq(carry),
                    out.count.eq(tail_count),
                    out.last.eq(1),
                    out.error.eq(tail_error),
                    tail.eq(0),
                    carry.eq(rest),
                ]
            with m.Elif(self.input.valid & (sent != whole)):
                chunks = [
                    int.from_bytes(self.prefix[i * lanes : (i + 1) * lanes], "little")
                    for i in range(whole)
                ]
                with m.Switch(sent):
                    for index, chunk in enumerate(chunks):
                        with m.Case(index):
                            m.d.sync += out.data.eq(Const(chunk, self.width))
                m.d.sync += [
                    self.output.valid.eq(1),
                    out.count.eq(lanes),
                    out.last.eq(0),
                    out.error.eq(0),
                    sent.eq(sent + 1),
                ]
            with m.Elif(self.input.valid):
                m.d.comb += self.input.ready.eq(1)
                m.d.sync += [
                    self.output.valid.eq(1),
                    out.data.eq(Cat(carry, beat.data)),
                    out.count.eq(Mux(beat.last & ~longer, beat.count + shift, lanes)),
                    out.last.eq(beat.last & ~longer),
                    out.error.eq(beat.error),
                    carry.eq(beat.data[self.width - 8 * shift :]),
                    tail.eq(beat.last & longer),
                    tail_count.eq(beat.count + shift - lanes),
                    tail_error.eq(beat.error),
                ]
                with m.If(beat.last):
                    m.d.sync += sent.eq(0)
                    with m.If(~longer):
                        m.d.sync += carry.eq(rest)
        return m
