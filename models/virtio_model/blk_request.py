"""Block requests: header, ranges, and the rules for a driver's requests [virtio 1.4 §5.2.6]."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from virtio_model.spec.blk import (
    ID_BYTES,
    REQUEST_HEADER_SIZE,
    SECTOR_SIZE,
    SEGMENT_SIZE,
    SEGMENT_UNMAP,
    BlkFeature,
    RequestType,
)
from virtio_model.spec.features import has

__all__ = ["BlkLimits", "Range", "RequestHeader", "data_faults", "decode_ranges", "encode_ranges"]

_HEADER = struct.Struct("<IIQ")
_RANGE = struct.Struct("<QII")
_NEEDS: dict[int, BlkFeature] = {
    RequestType.FLUSH: BlkFeature.FLUSH,
    RequestType.DISCARD: BlkFeature.DISCARD,
    RequestType.WRITE_ZEROES: BlkFeature.WRITE_ZEROES,
    RequestType.GET_LIFETIME: BlkFeature.LIFETIME,
    RequestType.SECURE_ERASE: BlkFeature.SECURE_ERASE,
    RequestType.ZONE_APPEND: BlkFeature.ZONED,
    RequestType.ZONE_REPORT: BlkFeature.ZONED,
    RequestType.ZONE_OPEN: BlkFeature.ZONED,
    RequestType.ZONE_CLOSE: BlkFeature.ZONED,
    RequestType.ZONE_FINISH: BlkFeature.ZONED,
    RequestType.ZONE_RESET: BlkFeature.ZONED,
    RequestType.ZONE_RESET_ALL: BlkFeature.ZONED,
}
"""Request types that a feature brings."""


@dataclass(frozen=True)
class RequestHeader:
    """The first 16 readable bytes of a request. `type` is an int: a driver may send any."""

    type: int
    sector: int = 0
    reserved: int = 0

    def encode(self) -> bytes:
        """The 16 bytes."""
        return _HEADER.pack(self.type, self.reserved, self.sector)

    @classmethod
    def decode(cls, data: bytes) -> RequestHeader:
        """From at least 16 bytes."""
        kind, reserved, sector = _HEADER.unpack_from(data)
        return cls(kind, sector, reserved)


@dataclass(frozen=True)
class Range:
    """A stretch of sectors in the data of DISCARD and WRITE_ZEROES; bit 0 of `flags` is unmap."""

    sector: int
    sectors: int
    flags: int = 0

    @property
    def unmap(self) -> bool:
        """The device may deallocate the sectors."""
        return bool(self.flags & SEGMENT_UNMAP)

    def encode(self) -> bytes:
        """The 16 bytes."""
        return _RANGE.pack(self.sector, self.sectors, self.flags)


def encode_ranges(ranges: Sequence[Range]) -> bytes:
    """The data of a request with these ranges."""
    return b"".join(item.encode() for item in ranges)


def decode_ranges(data: bytes) -> list[Range]:
    """The ranges of a request's data, which is whole ranges."""
    return [Range(*fields) for fields in _RANGE.iter_unpack(data)]


@dataclass(frozen=True)
class BlkLimits:
    """What the device configuration says about requests; sectors are 512 bytes."""

    capacity: int
    read_only: bool = False
    """RO is offered, accepted or not."""
    max_discard_sectors: int = 0xFFFF_FFFF
    max_discard_seg: int = 0xFFFF_FFFF
    max_write_zeroes_sectors: int = 0xFFFF_FFFF
    max_write_zeroes_seg: int = 0xFFFF_FFFF

    @classmethod
    def of(cls, config: Mapping[str, int], offered: int) -> BlkLimits:
        """From fields of the device configuration by name, those that `offered` brings."""
        chosen = {"capacity": config["capacity"]}
        for feature in (BlkFeature.DISCARD, BlkFeature.WRITE_ZEROES):
            if has(offered, feature):
                for unit in ("sectors", "seg"):
                    name = f"max_{feature.name.lower()}_{unit}"
                    chosen[name] = config[name]
        return cls(**chosen, read_only=has(offered, BlkFeature.RO))

    def holds(self, sector: int, sectors: int) -> bool:
        """Whether a stretch of sectors is on the disk."""
        return sector + sectors <= self.capacity

    def ranges(self, kind: int) -> tuple[int, int]:
        """(sectors of a range, ranges of a request) at most, for DISCARD or WRITE_ZEROES."""
        if kind == RequestType.DISCARD:
            return self.max_discard_sectors, self.max_discard_seg
        return self.max_write_zeroes_sectors, self.max_write_zeroes_seg


def data_faults(readable: bytes, writable: int, features: int, limits: BlkLimits) -> list[str]:
    """What is wrong with a driver's request; `writable` bytes include the status.

    Rows of the requirement table are in brackets.
    """
    if writable == 0:
        return ["no byte for the status [fact-blk-req-01]"]
    if len(readable) < REQUEST_HEADER_SIZE:
        return ["shorter than its header"]
    header = RequestHeader.decode(readable)
    sent, room = readable[REQUEST_HEADER_SIZE:], writable - 1
    if (feature := _NEEDS.get(header.type)) and not has(features, feature):
        return [f"{RequestType(header.type).name} without {feature.name}"]
    faults: list[str] = []
    match header.type:
        case RequestType.IN | RequestType.OUT:
            length, other = (
                (room, len(sent)) if header.type == RequestType.IN else (len(sent), room)
            )
            if length % SECTOR_SIZE:
                faults.append("data is no multiple of 512 bytes [drv-blk-req-06]")
            if not limits.holds(header.sector, -(-length // SECTOR_SIZE)):
                faults.append("beyond the capacity [drv-blk-req-02]")
            if other:
                faults.append("data in the other direction")
            if limits.read_only and header.type == RequestType.OUT:
                faults.append("a write to a read-only device")
        case RequestType.FLUSH:
            if header.sector:
                faults.append("sector of a flush is not 0 [drv-blk-req-04]")
            if sent or room:
                faults.append("a flush with data [drv-blk-req-05]")
        case RequestType.GET_ID:
            if room != ID_BYTES or sent:
                faults.append("data of GET_ID is not 20 bytes [drv-blk-req-08]")
        case RequestType.DISCARD | RequestType.WRITE_ZEROES:
            faults += _range_faults(header.type, sent, limits)
            if room:
                faults.append("data in the other direction")
    return faults


def _range_faults(kind: int, data: bytes, limits: BlkLimits) -> list[str]:
    if len(data) % SEGMENT_SIZE or not data:
        return ["data is no whole ranges [drv-blk-req-07]"]
    ranges = decode_ranges(data)
    sectors, count = limits.ranges(kind)
    faults = []
    discard = kind == RequestType.DISCARD
    if len(ranges) > count:
        faults.append(f"too many ranges [drv-blk-req-{'09' if discard else '11'}]")
    for item in ranges:
        if discard and item.unmap:
            faults.append("unmap is set in a discard [drv-blk-req-14]")
        if item.flags & ~SEGMENT_UNMAP:
            faults.append("reserved flags are set")
        if item.sectors > sectors:
            faults.append("a range is longer than allowed")
        if not limits.holds(item.sector, item.sectors):
            faults.append("beyond the capacity [drv-blk-req-02]")
    if limits.read_only:
        faults.append("a write to a read-only device")
    return faults
