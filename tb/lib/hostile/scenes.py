"""What a breach is made for: one hostile virtqueue of a device type."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from lib.hostile.actions import Action, Write
from lib.hostile.arena import BUFFERS, Place
from lib.hostile.buffers import any_address, any_length, buffer_address
from lib.hostile.rings import NEXT, WRITE, Element, RingWriter
from virtio_model.blk_request import RequestHeader
from virtio_model.spec.blk import ID_BYTES, REQUEST_HEADER_SIZE, SECTOR_SIZE, RequestType

__all__ = ["HOSTILE_SECTORS", "BlkScene", "NetScene", "Scene", "linked"]

HOSTILE_SECTORS = 64
"""From sector 0 on; those behind are the neighbour's. No stray header names one: what a device
reads from rings as if it were a request has larger numbers, or ids below 64."""


def linked(chain: list[Element]) -> list[Element]:
    """Set NEXT in all but the last."""
    return [replace(one, flags=one.flags | NEXT) for one in chain[:-1]] + chain[-1:]


class Scene(ABC):
    """One hostile virtqueue, and the others' places; a device type's is a subclass.

    Parameters
    ----------
    draw
        Source of all choices.
    writer
        The virtqueue's ring.
    places
        The rings of both hostile virtqueues.
    """

    HUGE: Sequence[int] = ((1 << 32) - 1, 1 << 31, 1 << 24)
    """Bytes that no buffer has."""

    def __init__(self, draw: random.Random, writer: RingWriter, places: list[Place]) -> None:
        self.draw = draw
        self.writer = writer
        self.places = places

    @property
    @abstractmethod
    def direction(self) -> int:
        """WRITE, where a descriptor should be writable."""

    @abstractmethod
    def clean(self) -> list[Action]:
        """A buffer as it should be, anywhere."""

    @abstractmethod
    def opening(self) -> list[Action]:
        """A buffer whose result is known."""

    def address(self) -> int:
        """Of a buffer; perhaps a good one."""
        return any_address(self.draw, self.places)

    def length(self) -> int:
        """Of a buffer; perhaps a good one."""
        return any_length(self.draw)

    def element(self) -> Element:
        """A descriptor that is perhaps all right."""
        flags = self.direction
        if self.draw.random() < 0.1:
            flags ^= WRITE
        return Element(self.address(), self.length(), flags)

    def chain(self, longest: int) -> list[Element]:
        """A chain with correct links."""
        count = self.draw.randint(1, max(longest, 1))
        return linked([self.element() for _ in range(count)])


class NetScene(Scene):
    """Even virtqueues receive, odd ones transmit."""

    @property
    def direction(self) -> int:
        return 0 if self.writer.place.index % 2 else WRITE

    def _frame(self, length: int, at: int) -> list[Action]:
        """In one piece, or cut behind the header."""
        chain = [Element(at, length, self.direction)]
        if self.draw.random() < 0.3 and self.writer.place.size > 1:
            chain = linked(
                [Element(at, 12, self.direction), Element(at + 12, length - 12, self.direction)]
            )
        return self.writer.expose(chain, "clean")

    def clean(self) -> list[Action]:
        length = 1600 if self.direction else self.draw.randrange(26, 400)
        return self._frame(length, buffer_address(self.draw))

    def opening(self) -> list[Action]:
        # What arrives must not change what was sent before it is compared.
        at = BUFFERS + self.draw.randrange(64)
        return self._frame(1600, at + 2048) if self.direction else self._frame(90, at)


class BlkScene(Scene):
    """Requests for the hostile part of the disk.

    Longer ones than some sectors are left out: the virtqueues share a pipeline, and the limit of
    32 MiB is for milliseconds.
    """

    HUGE = ((1 << 32) - 1, 1 << 31, (1 << 25) + 1)
    _LONGEST = 20_000
    _ROOM = 1024
    """From a request to its writable part; there is as much of it."""

    @property
    def direction(self) -> int:
        return self.draw.choice((0, WRITE))

    def length(self) -> int:
        length = super().length()
        return length % self._LONGEST if length < 1 << 25 else length

    def chain(self, longest: int) -> list[Element]:
        """Mostly with readable elements first."""
        count = self.draw.randint(1, max(longest, 1))
        found = [self.element() for _ in range(count)]
        if self.draw.random() < 0.8:
            found.sort(key=lambda one: one.flags)
        return linked(found)

    def _request(self, data: bytes, room: int, at: int) -> list[Action]:
        """A request in two pieces or more; only its writable part where one slot is all."""
        readable = [Element(at, len(data))]
        writable = [Element(at + self._ROOM, room, WRITE)]
        size = self.writer.place.size
        if size == 1:
            return self.writer.expose(writable, "clean")
        if size >= 4 and room > 1 and self.draw.random() < 0.5:
            cut = self.draw.randrange(1, len(data))
            readable = [Element(at, cut), Element(at + cut, len(data) - cut)]
            cut = self.draw.randrange(1, room)
            writable = [
                Element(at + self._ROOM, cut, WRITE),
                Element(at + self._ROOM + cut, room - cut, WRITE),
            ]
        exposed = self.writer.expose(linked(readable + writable), "clean")
        return [Write(at, data, "request"), *exposed]

    def clean(self) -> list[Action]:
        draw = self.draw
        at = buffer_address(draw)
        kind = draw.choice((RequestType.IN, RequestType.OUT, RequestType.GET_ID, RequestType.FLUSH))
        header = RequestHeader(kind, draw.randrange(HOSTILE_SECTORS)).encode()
        match kind:
            case RequestType.IN:
                return self._request(header, SECTOR_SIZE + 1, at)
            case RequestType.OUT:
                return self._request(header + draw.randbytes(SECTOR_SIZE), 1, at)
        return self._request(header, ID_BYTES + 1, at)

    def element(self) -> Element:
        """Sometimes a header that was there before."""
        found = super().element()
        if not found.flags & WRITE and self.draw.random() < 0.4:
            return replace(found, address=BUFFERS + 16 * self.draw.randrange(64))
        return found

    def opening(self) -> list[Action]:
        """Ask for the id; headers of all kinds for later, at the start of the buffers."""
        draw = self.draw
        kinds = (0, 1, 4, 8, 11, 13, 99)
        headers = b"".join(
            RequestHeader(draw.choice(kinds), draw.randrange(HOSTILE_SECTORS)).encode()
            for _ in range(64)
        )
        assert len(headers) == 64 * REQUEST_HEADER_SIZE
        at = BUFFERS + 2048 * (1 + self.writer.place.index) + draw.randrange(64)
        header = RequestHeader(RequestType.GET_ID).encode()
        return [Write(BUFFERS, headers, "headers"), *self._request(header, ID_BYTES + 1, at)]
