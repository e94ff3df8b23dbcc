"""How the bytes of a buffer are cut into segments [virtio 1.4 §2.7.4].

A device must not care, so a test should try them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from virtio_model.driver.queue import Segment
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.spec.net import HEADER_SIZE

ONE_PIECE: tuple[int, ...] = ()
HEADER_ALONE: tuple[int, ...] = (HEADER_SIZE,)


@dataclass(frozen=True)
class Framing:
    """How a buffer with readable and writable bytes is cut and made available.

    `readable` and `writable` are positions in either part, as for `lay_out`; `indirect` puts the
    segments into a table; `skew` is that of each segment.
    """

    readable: tuple[int, ...] = ONE_PIECE
    writable: tuple[int, ...] = ONE_PIECE
    indirect: bool = False
    skew: int = 0


WHOLE = Framing()


@dataclass(frozen=True)
class Layout:
    """A buffer's segments, each in an allocation of its own."""

    segments: tuple[Segment, ...]

    @property
    def length(self) -> int:
        return sum(length for _, length in self.segments)

    def write(self, memory: GuestMemory, data: bytes) -> None:
        """Fill the segments from the first byte on."""
        for addr, length in self.segments:
            piece, data = data[:length], data[length:]
            memory.write(addr, piece)

    def read(self, memory: GuestMemory, length: int) -> bytes:
        """The first `length` bytes."""
        data = b"".join(memory.read(*segment) for segment in self.segments)
        return data[:length]

    def free(self, allocator: Allocator) -> None:
        for addr, _ in self.segments:
            allocator.free(addr)


def lay_out(
    allocator: Allocator,
    length: int,
    cuts: Sequence[int] = ONE_PIECE,
    *,
    align: int = 64,
    skew: int = 0,
) -> Layout:
    """Allocate segments for `length` bytes cut at the given positions.

    Each segment starts `skew` bytes behind a multiple of `align`. Positions below 0 count from the
    end. Cuts outside are ignored, so that one list serves buffers of many lengths.
    """
    places = {cut if cut >= 0 else length + cut for cut in cuts}
    edges = [0, *sorted(cut for cut in places if 0 < cut < length), length] if length else []
    return Layout(
        tuple(
            Segment(allocator.alloc(end - start, align, skew), end - start)
            for start, end in pairwise(edges)
        )
    )
