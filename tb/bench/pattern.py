"""Numbered frames: the same bytes in hardware (`FramePattern`) and in numpy (`expected_frames`)."""

from typing import Any

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from numpy.typing import NDArray

__all__ = ["LENGTHS", "FramePattern", "LengthWrite", "expected_frames"]

LENGTHS = 256
"""Entries of the table of lengths: frame ``n`` of each queue pair has entry ``n`` modulo this."""

_STEP = 0x9E3779B1  # odd, so that the words of a frame all differ
_PAIR_SHIFT = 24  # frames of a pair stay below 2**24, so that no two pairs share a frame


def expected_frames(first: int, count: int, length: int, pair: int = 0) -> NDArray[np.uint8]:
    """Return frames `first` to `first + count - 1` of a pair, one in each row of `length` bytes.

    Word w of frame n is n ^ (w * _STEP) ^ (pair << _PAIR_SHIFT), modulo 2**32, little-endian.
    """
    words = -(-length // 4)
    lanes = (np.arange(words, dtype=np.uint64) * _STEP & 0xFFFFFFFF).astype("<u4")
    numbers = (np.arange(first, first + count, dtype=np.uint64) & 0xFFFFFFFF).astype("<u4")
    numbers ^= np.uint32(pair << _PAIR_SHIFT & 0xFFFFFFFF)
    frames: NDArray[Any] = numbers[:, None] ^ lanes[None, :]
    return frames.view(np.uint8)[:, :length]


class LengthWrite(data.Struct):
    """A write to the table of lengths: bytes of a frame without FCS, at least 1."""

    enable: 1
    index: LENGTHS.bit_length() - 1
    bytes: 16


class FramePattern(wiring.Component):
    """The beats of numbered frames, one frame after the other; numbers count in each queue pair.

    Parameters
    ----------
    width
        Bits of a beat.
    pairs
        Queue pairs, 1 or more.

    Ports
    -----
    lengths : ``LengthWrite``
        Fills the table, and makes the pair of the same index begin with frame 0 again, for
        memories outlive a reset; no frame may be under way.
    pair : bits of a pair's number, at least 1
        Of the present frame; constant while it lasts.
    advance : 1
        Go to the next beat.
    data, keep, last
        The present beat, packed from lane 0; lanes without ``keep`` hold bytes that are not of
        the frame.
    frames : 32
        Frames of all pairs whose last beat has been advanced over.

    A beat a cycle, no gap between frames. For simulation: no effort for short paths.
    """

    def __init__(self, width: int, pairs: int = 1):
        self.width = width
        self.pairs = pairs
        super().__init__(
            {
                "lengths": In(LengthWrite),
                "pair": In(max((pairs - 1).bit_length(), 1)),
                "advance": In(1),
                "data": Out(width),
                "keep": Out(width // 8),
                "last": Out(1),
                "frames": Out(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        lanes, words = self.width // 8, self.width // 32
        m.submodules.table = table = Memory(shape=16, depth=LENGTHS, init=[])
        m.submodules.numbers = numbers = Memory(shape=32, depth=1 << len(self.pair), init=[])
        table_write, table_read = table.write_port(), table.read_port(domain="comb")
        numbers_write, numbers_read = numbers.write_port(), numbers.read_port(domain="comb")
        number, length = numbers_read.data, table_read.data
        before = Signal(16)  # bytes of the frame in earlier beats
        base = Signal(32)  # first word's index times _STEP
        left = Signal(16)
        seed = Signal(32)
        m.d.comb += [
            table_write.en.eq(self.lengths.enable),
            table_write.addr.eq(self.lengths.index),
            table_write.data.eq(self.lengths.bytes),
            table_read.addr.eq(number),
            numbers_read.addr.eq(self.pair),
            numbers_write.addr.eq(self.pair),
            numbers_write.data.eq(number + 1),
            numbers_write.en.eq(self.advance & self.last),
            seed.eq(number ^ (self.pair << _PAIR_SHIFT)),
            left.eq(length - before),
            self.last.eq(left <= lanes),
            self.data.eq(Cat(seed ^ (base + word * _STEP)[:32] for word in range(words))),
            self.keep.eq(Mux(self.last, Cat(left > lane for lane in range(lanes)), -1)),
        ]
        with m.If(self.lengths.enable):
            m.d.comb += [
                numbers_write.addr.eq(self.lengths.index),
                numbers_write.data.eq(0),
                numbers_write.en.eq(1),
            ]
        with m.If(self.advance):
            m.d.sync += [before.eq(before + lanes), base.eq(base + words * _STEP)]
            with m.If(self.last):
                m.d.sync += [before.eq(0), base.eq(0), self.frames.eq(self.frames + 1)]
        return m
