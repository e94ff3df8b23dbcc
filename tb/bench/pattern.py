"""Numbered frames: the same bytes in hardware (`FramePattern`) and in numpy (`expected_frames`)."""

from typing import Any

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import NDArray

__all__ = ["FramePattern", "expected_frames"]

_STEP = 0x9E3779B1  # odd, so that the words of a frame all differ


def expected_frames(first: int, count: int, length: int) -> NDArray[np.uint8]:
    """Return frames `first` to `first + count - 1`, one in each row of `length` bytes.

    Word w of frame n is n ^ (w * _STEP), modulo 2**32, little-endian.
    """
    words = -(-length // 4)
    lanes = (np.arange(words, dtype=np.uint64) * _STEP & 0xFFFFFFFF).astype("<u4")
    numbers = (np.arange(first, first + count, dtype=np.uint64) & 0xFFFFFFFF).astype("<u4")
    frames: NDArray[Any] = numbers[:, None] ^ lanes[None, :]
    return frames.view(np.uint8)[:, :length]


class FramePattern(wiring.Component):
    """The beats of numbered frames, one after the other.

    Parameters
    ----------
    width
        Bits of a beat.

    Ports
    -----
    frame_bytes : 16
        Length of every frame, at least 1; constant while frames move.
    advance : 1
        Go to the next beat.
    data, keep, last
        The present beat, packed from lane 0; lanes without ``keep`` hold bytes that are not of
        the frame.
    number : 32
        Frames whose last beat has been advanced over.

    A beat a cycle, no gap between frames. For simulation: no effort for short paths.
    """

    def __init__(self, width: int):
        self.width = width
        super().__init__(
            {
                "frame_bytes": In(16),
                "advance": In(1),
                "data": Out(width),
                "keep": Out(width // 8),
                "last": Out(1),
                "number": Out(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        lanes, words = self.width // 8, self.width // 32
        before = Signal(16)  # bytes of the frame in earlier beats
        base = Signal(32)  # first word's index times _STEP
        left = Signal(16)
        m.d.comb += [
            left.eq(self.frame_bytes - before),
            self.last.eq(left <= lanes),
            self.data.eq(Cat(self.number ^ (base + word * _STEP)[:32] for word in range(words))),
            self.keep.eq(Mux(self.last, Cat(left > lane for lane in range(lanes)), -1)),
        ]
        with m.If(self.advance):
            m.d.sync += [before.eq(before + lanes), base.eq(base + words * _STEP)]
            with m.If(self.last):
                m.d.sync += [before.eq(0), base.eq(0), self.number.eq(self.number + 1)]
        return m
