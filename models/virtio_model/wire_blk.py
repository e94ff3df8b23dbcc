"""What PCI Express leaves over for block requests: bytes on the wire for each.

As `virtio_model.wire`, for the buffers of block drivers: 16 bytes of header, the data, one byte of
status, each in segments of its own. [virtio 1.4 §5.2.6]
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Literal

from virtio_model.spec.blk import REQUEST_HEADER_SIZE
from virtio_model.wire import CPLD, DESC, DOORBELL, MRD, MWR, Load, Ring, fetch_bytes, used_bytes

__all__ = ["BlkShape", "blk_bytes_per_request"]

Direction = Literal["read", "write"]

_STATUS = 4  # a write of one byte carries a dword


@dataclass(frozen=True)
class BlkShape:
    """How a driver lays a request out.

    length: bytes of data. piece: most bytes in a data segment. indirect: all descriptors stand in
    a table of the request's own, and one descriptor of the ring points there.
    """

    length: int
    piece: int = 4096
    indirect: bool = False

    @property
    def pieces(self) -> tuple[int, ...]:
        """Bytes of each data segment."""
        whole, rest = divmod(self.length, self.piece)
        return (self.piece,) * whole + ((rest,) if rest else ())

    @property
    def segments(self) -> int:
        """Descriptors: header, data, status."""
        return len(self.pieces) + 2

    @property
    def slots(self) -> int:
        """Descriptors of the ring."""
        return 1 if self.indirect else self.segments


def blk_bytes_per_request(
    direction: Direction,
    shape: BlkShape,
    ring: Ring,
    *,
    batch: int = 16,
    chunk: int = 256,
    mrrs: int = 512,
    mps: int = 256,
    doorbell_batch: int = 8,
) -> Load:
    """Return the least wire bytes for a read or write.

    batch: descriptors, or entries of a split ring, in a fetch, and used buffers in a write as far
    as they are neighbours: in a packed ring only those of one slot are. [virtio 1.4 §2.8]
    doorbell_batch: requests a doorbell; in a flood a device asks for few.
    Segments begin at multiples of MRRS.
    """
    load = _read(REQUEST_HEADER_SIZE, mrrs, chunk) + Load(MWR + _STATUS, DOORBELL / doorbell_batch)
    for piece in shape.pieces:
        if direction == "read":
            load += Load(piece + MWR * ceil(piece / mps), 0)
        else:
            load += _read(piece, mrrs, chunk)
    if shape.indirect:
        load += _read(DESC * shape.segments, mrrs, chunk)
    return load + _fetch(ring, shape.slots, batch, chunk, mrrs) + _used(ring, shape, batch, mps)


def _read(length: int, mrrs: int, chunk: int) -> Load:
    """Return what reading a segment takes."""
    return Load(MRD * ceil(length / mrrs), length + CPLD * ceil(length / chunk))


def _fetch(ring: Ring, slots: int, batch: int, chunk: int, mrrs: int) -> Load:
    """Return a request's share of index, ring entries and descriptors of the ring."""
    table = fetch_bytes("packed", batch, chunk, mrrs=mrrs)  # of one descriptor
    load = Load(table.up * slots, table.down * slots)
    if ring == "packed":
        return load
    split = fetch_bytes("split", batch, chunk, mrrs=mrrs)
    return load + Load(split.up - table.up, split.down - table.down)


def _used(ring: Ring, shape: BlkShape, batch: int, mps: int) -> Load:
    """Return a request's share of what gives it back."""
    if ring == "packed" and shape.slots > 1:
        return Load(MWR + DESC, 0)
    return used_bytes(ring, batch, mps=mps)
