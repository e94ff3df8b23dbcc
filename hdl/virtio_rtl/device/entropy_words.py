"""Sources of bytes for the entropy device: a stream port, and a generator for simulation."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["SeededSource", "WordSource"]

_STATE_BITS = 64


class WordSource(wiring.Component):
    """Packs words of a stream port into full beats, the first word in the lowest bits.

    Parameters
    ----------
    width
        Data bits of a beat.
    word_bits
        Bits of a word; divides ``width``.

    Ports
    -----
    words : stream of ``word_bits`` bits
    output : stream of ``width`` bits

    One word a cycle. Combinational from ``words`` to ``output`` for the last word of a beat;
    ``words.ready`` is ``output.ready``, which comes from a FIFO.
    """

    def __init__(self, width: int, word_bits: int):
        if width % word_bits:
            raise ValueError(f"word_bits = {word_bits!r}: must divide {width}")
        self.width = width
        self.word_bits = word_bits
        super().__init__(
            {
                "words": In(stream.Signature(word_bits)),
                "output": Out(stream.Signature(width)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        count = self.width // self.word_bits
        held = Signal(self.width - self.word_bits)
        index = Signal(range(max(count, 2)))
        word = self.words.payload
        m.d.comb += [
            self.output.payload.eq(Cat(held, word)),
            self.output.valid.eq(self.words.valid & (index == count - 1)),
            self.words.ready.eq(self.output.ready),
        ]
        with m.If(self.words.valid & self.words.ready):
            m.d.sync += held.eq(Cat(held[self.word_bits :], word))
            if count > 1:
                m.d.sync += index.eq(index + 1)
        return m


def _step(state: int) -> int:
    """One step of Marsaglia's xorshift64 (Xorshift RNGs, 2003), with the shifts 13, 7, 17."""
    mask = (1 << _STATE_BITS) - 1
    state ^= (state << 13) & mask
    state ^= state >> 7
    return state ^ ((state << 17) & mask)


def _steps(state: int, count: int) -> int:
    for _ in range(count):
        state = _step(state)
    return state


class SeededSource(wiring.Component):
    """A generator that gives the same bytes after every reset: for simulation, **not random**.

    The words of xorshift64, little-endian, the first in the lowest bits of the first beat. The
    words of a beat are steps of one generator, so that the bytes are the same for each width.

    Parameters
    ----------
    width
        Data bits of a beat, a multiple of 64.
    seed
        State before the first word, 64 bits and not 0.

    Ports
    -----
    output : stream of ``width`` bits
        A register; always valid.

    One beat a cycle.
    """

    def __init__(self, width: int, seed: int):
        if width % _STATE_BITS:
            raise ValueError(f"width = {width!r}: a multiple of {_STATE_BITS}")
        if not 0 < seed < 1 << _STATE_BITS:
            raise ValueError(f"seed = {seed!r}: {_STATE_BITS} bits and not 0")
        self.width = width
        self.seed = seed
        super().__init__({"output": Out(stream.Signature(width))})

    def elaborate(self, platform):
        m = Module()
        count = self.width // _STATE_BITS
        words = [
            Signal(_STATE_BITS, init=_steps(self.seed, index + 1), name=f"word_{index}")
            for index in range(count)
        ]
        m.d.comb += [self.output.payload.eq(Cat(words)), self.output.valid.eq(1)]
        # `count` steps at once are a linear map: each bit is the parity of some bits.
        images = [_steps(1 << bit, count) for bit in range(_STATE_BITS)]
        sources = [
            sum((image >> bit & 1) << position for position, image in enumerate(images))
            for bit in range(_STATE_BITS)
        ]
        with m.If(self.output.ready):
            for word in words:
                m.d.sync += word.eq(
                    Cat((word & Const(mask, _STATE_BITS)).xor() for mask in sources)
                )
        return m
