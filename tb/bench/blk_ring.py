"""A block device's virtqueue driven in bulk, and what the disk must hold."""

from __future__ import annotations

import random
from typing import Literal

import numpy as np

from bench.bulk_ring import DESCRIPTOR, BulkRing
from bench.ring_layout import Ring
from virtio_model.blk_request import RequestHeader
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.rings.packed import DescFlags
from virtio_model.spec.blk import REQUEST_HEADER_SIZE, SECTOR_SIZE, RequestStatus, RequestType
from virtio_model.wire_blk import BlkShape

__all__ = ["BATCH", "IN_FLIGHT", "BlkRing", "ring_size"]

IN_FLIGHT = 64
"""Requests that the driver keeps in flight."""

BATCH = 1
"""Requests that it takes back, and adds, at a time: the next one as soon as one is answered."""

_NEXT, _WRITE = int(DescFlags.NEXT), int(DescFlags.WRITE)
_PAGE = 4096
_NO_STATUS = 0xA5
_LEAST_SIZE = 128


def ring_size(shape: BlkShape) -> int:
    """Return the size of a ring with room for all requests in flight."""
    return max(_LEAST_SIZE, 1 << (IN_FLIGHT * shape.slots - 1).bit_length())


class _Room:
    """Memory of a request, for good: header, data, status; and its descriptors for either way."""

    def __init__(self, memory: GuestMemory, allocator: Allocator, shape: BlkShape, ident: int):
        self.memory = memory
        self.header = allocator.alloc(REQUEST_HEADER_SIZE, 64)
        self.status = allocator.alloc(1, 64)
        self.data = allocator.alloc(shape.length, _PAGE)
        self.table = self.table_end = 0
        memory.grant(self.header, REQUEST_HEADER_SIZE)
        memory.grant(self.status, 1, writable=True, readable=False)
        memory.grant(self.data, shape.length, writable=True)
        chain = np.zeros(shape.segments, DESCRIPTOR)
        chain["addr"][1:-1] = self.data + np.arange(shape.segments - 2) * shape.piece
        chain["len"][1:-1] = shape.pieces
        chain["addr"][0], chain["len"][0] = self.header, REQUEST_HEADER_SIZE
        chain["addr"][-1], chain["len"][-1] = self.status, 1
        chain["flags"][-1] = _WRITE
        self._chain = chain
        self._ident = ident
        self._indirect = shape.indirect
        if shape.indirect:
            self.table = allocator.alloc(chain.nbytes, 64)
            self.table_end = self.table + chain.nbytes
            memory.grant(self.table, chain.nbytes)

    def descriptors(self, kind: RequestType, ring: Ring) -> np.ndarray:
        """Return what goes into the ring; a table, if there is one, is written."""
        chain = self._chain.copy()
        chain["id"] = self._ident
        if kind == RequestType.IN:
            chain["flags"][1:-1] |= _WRITE
        if self._indirect and ring == "packed":
            chain["id"] = 0
        elif self._indirect:
            # The two last fields are flags and next in a split table.
            chain["id"] = chain["flags"] | _NEXT
            chain["id"][-1] = chain["flags"][-1]
            chain["flags"] = np.arange(1, len(chain) + 1)
        else:
            chain["flags"][:-1] |= _NEXT
        if not self._indirect:
            return chain
        self.memory.write(self.table, chain.tobytes())
        entry = np.zeros(1, DESCRIPTOR)
        entry["addr"], entry["len"], entry["id"] = self.table, chain.nbytes, self._ident
        entry["flags"] = int(DescFlags.INDIRECT)
        return entry


class BlkRing(BulkRing):
    """A `BulkRing` of reads or writes at random sectors, each of the same shape.

    The disk is filled first: the first `lap` requests write all of it. It can be looked at
    afterwards: from `look` on, requests read it from its beginning. Every status, every length and
    every byte read is compared.

    Parameters
    ----------
    direction
        What is measured, ``"read"`` or ``"write"``.
    sectors
        Of the disk.
    shape
        Of the requests; its length divides the disk.
    draw
        Chooses sectors, buffer ids and data.
    """

    def __init__(
        self,
        memory: GuestMemory,
        allocator: Allocator,
        direction: Literal["read", "write"],
        sectors: int,
        shape: BlkShape,
        *,
        draw: random.Random,
        ring: Ring = "packed",
    ) -> None:
        super().__init__(
            memory, allocator, ring_size(shape), receive=direction == "read", ring=ring
        )
        self.ring = ring
        self.direction = direction
        self.shape = shape
        self.image = bytearray(sectors * SECTOR_SIZE)
        self.lap = len(self.image) // shape.length
        """Requests that cover the whole disk."""
        if self.lap * shape.length != len(self.image):
            raise ValueError(f"a disk of {sectors} sectors in requests of {shape.length} bytes")
        self._random = draw
        self._ids = draw.sample(range(self.size), IN_FLIGHT)
        self._rooms = [_Room(memory, allocator, shape, ident) for ident in self._ids]
        self.tables = [(room.table, room.table_end) for room in self._rooms if room.table]
        """Where tables of requests begin and end."""
        self._flying: dict[int, tuple[RequestType, int]] = {}
        self._look_from: int | None = None

    @property
    def batch(self) -> int:
        """Requests at a time."""
        return BATCH

    def can_add(self, count: int) -> bool:
        """Tell whether `count` more may be in flight."""
        return self.available + count - self.taken <= IN_FLIGHT

    def slots_before(self, number: int) -> int:
        """Return how many slots the requests before the `number`-th take."""
        return number * self.shape.slots

    def look(self) -> None:
        """From the next request on, read the disk from its beginning."""
        self._look_from = self.available

    def _choose(self, number: int) -> tuple[RequestType, int]:
        """Return type and first byte of a request."""
        length, kind = self.shape.length, RequestType.OUT
        if self._look_from is not None:
            return RequestType.IN, (number - self._look_from) % self.lap * length
        if number < self.lap:
            return kind, number * length
        if self.direction == "read":
            kind = RequestType.IN
        return kind, self._random.randrange(0, len(self.image) - length + 1, SECTOR_SIZE)

    def _supply(self, count: int) -> None:
        for number in range(self.available, self.available + count):
            room = self._rooms[number % IN_FLIGHT]
            kind, at = self._flying[number] = self._choose(number)
            header = RequestHeader(kind, at // SECTOR_SIZE).encode()
            self.memory.write(room.header, header)
            self.memory.write(room.status, bytes([_NO_STATUS]))
            data = bytes(self.shape.length)
            if kind == RequestType.OUT:
                # Requests take effect in order.
                data = self._random.randbytes(self.shape.length)
                self.image[at : at + len(data)] = data
            self.memory.write(room.data, data)
            self.layout.write(number, self.slots_before(number), room.descriptors(kind, self.ring))

    def _collect(self, limit: int) -> int:
        for count in range(limit):
            number = self.taken + count
            slot = self.slots_before(number)
            used = self.layout.used(number, slot, 1)
            if not len(used.id):
                return count
            chosen = np.array([self._ids[number % IN_FLIGHT]])
            self.demand("id", number, used.id, self.layout.ids(slot, chosen))
            kind, at = self._flying.pop(number)
            length = self.shape.length if kind == RequestType.IN else 0
            self.demand("len", number, used.len, length + 1)
            self._check(number, at, length)
        return limit

    def _check(self, number: int, at: int, length: int) -> None:
        room = self._rooms[number % IN_FLIGHT]
        status = np.frombuffer(self.memory.read(room.status, 1), np.uint8)
        self.demand("status", number, status, RequestStatus.OK)
        if (found := self.memory.read(room.data, length)) != self.image[at : at + length]:
            row = np.frombuffer(found, np.uint8)[None, :]
            expected = np.frombuffer(self.image[at : at + length], np.uint8)
            self.demand("data", number, row, expected)
