"""A virtqueue of frames in random pieces, driven in bulk.

Lengths, pieces and addresses are drawn once, for a pool of frames that is used again and again;
only the bytes change. All used descriptors and all bytes are checked.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.bulk_ring import DESCRIPTOR, BulkRing
from bench.pattern import expected_frames
from bench.ring_layout import Ring, Used
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.rings.packed import DescFlags
from virtio_model.spec.net import HEADER_SIZE

__all__ = ["LONGEST", "MOST_DESCRIPTORS", "SHORTEST", "FastChains", "Framing", "draw_framings"]

SHORTEST, LONGEST = 60, 9000
MOST_DESCRIPTORS = 16
_SPARE = 64
_ALIGN = 64


@dataclass(frozen=True)
class Framing:
    """A frame of `length` bytes without FCS, and the sizes of its buffer's descriptors."""

    length: int
    pieces: tuple[int, ...]


def draw_framings(draw: random.Random, lengths: Sequence[int], *, receive: bool) -> list[Framing]:
    """Cut the packet of each length into 1 to 16 descriptors anywhere, also in the header.

    Receive buffers are up to 64 bytes longer than their packet.
    """
    framings = []
    for length in lengths:
        total = length + HEADER_SIZE + (draw.randrange(_SPARE) if receive else 0)
        cuts = draw.sample(range(1, total), draw.randint(1, MOST_DESCRIPTORS) - 1)
        edges = [0, *sorted(cuts), total]
        pieces = tuple(after - before for before, after in itertools.pairwise(edges))
        framings.append(Framing(length, pieces))
    return framings


class FastChains(BulkRing):
    """A `BulkRing` whose buffer k is a chain with framing k modulo their number.

    framings: so many that no two buffers in the ring share one. draw: places the pieces at any
    alignment, and shuffles the buffer ids.
    """

    def __init__(
        self,
        memory: GuestMemory,
        allocator: Allocator,
        size: int,
        framings: Sequence[Framing],
        *,
        receive: bool,
        draw: random.Random,
        ring: Ring = "packed",
    ) -> None:
        super().__init__(memory, allocator, size, receive=receive, ring=ring)
        self.framings = framings
        self._starts = [0, *itertools.accumulate(len(each.pieces) for each in framings)]
        if self._starts[-1] < size:
            raise ValueError(f"{self._starts[-1]} descriptors for a ring of {size}")
        ids = draw.sample(range(max(size, len(framings))), len(framings))
        self._ids = ids
        self._chains = []
        for framing, ident in zip(framings, ids, strict=True):
            chain = np.zeros(len(framing.pieces), DESCRIPTOR)
            for place, length in zip(chain, framing.pieces, strict=True):
                addr = allocator.alloc(length, _ALIGN, skew=draw.randrange(_ALIGN))
                memory.grant(addr, length, writable=receive, readable=not receive)
                place["addr"], place["len"] = addr, length
            chain["flags"] = self.write_flag | int(DescFlags.NEXT)
            chain["flags"][-1] = self.write_flag
            # Only the last descriptor's id counts. [virtio 1.4 §2.8.6]
            chain["id"] = ~ident & 0xFFFF
            chain["id"][-1] = ident
            self._chains.append(chain)
        self._areas = [
            [(int(place["addr"]), int(place["len"])) for place in chain] for chain in self._chains
        ]

    @property
    def batch(self) -> int:
        """Buffers at a time: no more than surely fit in half of the ring."""
        return max(1, min(super().batch, self.size // (2 * MOST_DESCRIPTORS)))

    def area(self, number: int) -> list[tuple[int, int]]:
        """Return address and length of each piece of the `number`-th buffer."""
        return self._areas[number % len(self.framings)]

    def can_add(self, count: int) -> bool:
        """Tell whether the next `count` buffers fit."""
        end = self.slots_before(self.available + count)
        return end - self.slots_before(self.taken) <= self.size

    def slots_before(self, number: int) -> int:
        """Return how many slots the buffers before the `number`-th take."""
        lap, index = divmod(number, len(self.framings))
        return lap * self._starts[-1] + self._starts[index]

    def _supply(self, count: int) -> None:
        for number in range(self.available, self.available + count):
            which = number % len(self.framings)
            if not self.receive:
                self._fill(number, which)
            self.layout.write(number, self.slots_before(number), self._chains[which])

    def _packet(self, number: int, which: int) -> bytes:
        length = self.framings[which].length
        return self.header + expected_frames(number, 1, length, self.pair).tobytes()

    def _fill(self, number: int, which: int) -> None:
        packet, at = self._packet(number, which), 0
        for addr, length in self._areas[which]:
            self.memory.write(addr, packet[at : at + length])
            at += length

    def _collect(self, limit: int) -> int:
        for count in range(limit):
            number = self.taken + count
            slot = self.slots_before(number)
            used = self.layout.used(number, slot, 1)
            if not len(used.id):
                return count
            self._check(number, slot, used)
        return limit

    def _check(self, number: int, slot: int, used: Used) -> None:
        which = number % len(self.framings)
        ids = self.layout.ids(slot, np.array([self._ids[which]]))
        self.demand("id", number, used.id, ids)
        packet = self._packet(number, which)
        self.demand("len", number, used.len, len(packet) if self.receive else 0)
        if used.flags is not None:
            self.demand("flags", number, used.flags, self.write_flag)
        if self.receive:
            pieces = [self.memory.read(addr, length) for addr, length in self._areas[which]]
            found = b"".join(pieces)[: len(packet)]
            if found != packet:
                row = np.frombuffer(found, np.uint8)[None, :]
                self.demand("frame", number, row, np.frombuffer(packet, np.uint8))
