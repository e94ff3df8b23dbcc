"""Writes descriptors of any kind where the device looks next, in both ring formats."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from lib.hostile.actions import Action, Write
from lib.hostile.arena import Place
from virtio_model.rings.packed import PackedDescriptor
from virtio_model.rings.split import SplitDescriptor, avail_entry_offset
from virtio_model.spec.packed import AVAIL_BIT, USED_BIT
from virtio_model.spec.split import DESC_SIZE

__all__ = ["INDIRECT", "NEXT", "WRITE", "Element", "PackedWriter", "RingWriter", "SplitWriter"]

NEXT, WRITE, INDIRECT = 1, 2, 4


@dataclass(frozen=True)
class Element:
    """A descriptor, whatever the format; `next` only counts in split ones."""

    address: int
    length: int
    flags: int = 0
    next: int | None = None


class RingWriter:
    """Knows where the device looks next; believes that the device has used all earlier buffers.

    `place` is the virtqueue. One that has gone once around the ring overwrites what the device
    may not have seen: that is part of the game.
    """

    def __init__(self, place: Place) -> None:
        self.place = place

    def expose(self, chain: Sequence[Element], note: str) -> list[Action]:
        """Make a chain available, linked as given or else one element to the next."""
        raise NotImplementedError

    def table(self, address: int, chain: Sequence[Element], note: str) -> Action:
        """Write an indirect table."""
        raise NotImplementedError

    @property
    def position(self) -> int:
        """What the upper half of a kick with data should be."""
        raise NotImplementedError


class SplitWriter(RingWriter):
    """Descriptor table and available ring."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.free = 0
        self.avail = 0

    def expose(self, chain: Sequence[Element], note: str) -> list[Action]:
        size, done = self.place.size, []
        head = self.free % size
        for element in chain:
            at = self.free % size
            after = (self.free + 1) % size if element.next is None else element.next
            entry = SplitDescriptor(
                element.address & (1 << 64) - 1, element.length, element.flags, after & 0xFFFF
            )
            done.append(Write(self.place.desc + DESC_SIZE * at, entry.encode(), note))
            self.free += 1
        return [*done, *self.announce(head, note)]

    def announce(self, head: int, note: str, step: int = 1) -> list[Action]:
        """Write an available entry, and the index `step` entries further."""
        where = self.place.driver + avail_entry_offset(self.avail, self.place.size)
        self.avail = self.avail + step & 0xFFFF
        return [
            Write(where, struct.pack("<H", head & 0xFFFF), note),
            Write(self.place.driver + 2, struct.pack("<H", self.avail), note),
        ]

    def table(self, address: int, chain: Sequence[Element], note: str) -> Action:
        data = b""
        for at, element in enumerate(chain):
            after = at + 1 if element.next is None else element.next
            data += SplitDescriptor(
                element.address & (1 << 64) - 1, element.length, element.flags, after & 0xFFFF
            ).encode()
        return Write(address, data, note)

    @property
    def position(self) -> int:
        return self.avail


class PackedWriter(RingWriter):
    """Descriptor ring: the head is written last."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.slot = 0
        self.wrap = 1

    def flags(self, flags: int) -> int:
        """Flags of a slot that is available in this lap."""
        return flags | self.wrap << AVAIL_BIT | (1 - self.wrap) << USED_BIT

    def expose(self, chain: Sequence[Element], note: str) -> list[Action]:
        done: list[Action] = []
        name = self.slot
        for element in chain:
            entry = PackedDescriptor(
                element.address & (1 << 64) - 1, element.length, name, self.flags(element.flags)
            )
            done.append(Write(self.place.desc + DESC_SIZE * self.slot, entry.encode(), note))
            self.step()
        return done[::-1]

    def step(self) -> None:
        """Go on to the next slot."""
        self.slot += 1
        if self.slot == self.place.size:
            self.slot, self.wrap = 0, 1 - self.wrap

    def table(self, address: int, chain: Sequence[Element], note: str) -> Action:
        data = b"".join(
            PackedDescriptor(
                element.address & (1 << 64) - 1, element.length, 0, element.flags
            ).encode()
            for element in chain
        )
        return Write(address, data, note)

    @property
    def position(self) -> int:
        return self.slot | self.wrap << 15
