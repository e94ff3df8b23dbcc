"""Which stretch of guest memory belongs to what."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lib.ring_monitor.buffers import Buffer
    from lib.ring_monitor.queue import WatchedQueue

__all__ = ["Kind", "Region", "RegionMap"]

_BITS = 12
_BIG = 1 << 20
"""Larger regions stand in a list of their own: a granule table of 4 GiB would be no help."""


class Kind(Enum):
    """What a region is for."""

    DESC = "descriptor area"
    DRIVER_AREA = "driver area"
    DEVICE_AREA = "device area"
    TABLE = "indirect table"
    READABLE = "readable element"
    WRITABLE = "writable element"


@dataclass(frozen=True, eq=False)
class Region:
    """[start, end) of guest memory. `offset`: of its first byte among the buffer's writable."""

    start: int
    end: int
    kind: Kind
    queue: WatchedQueue
    buffer: Buffer | None = None
    offset: int = 0


class RegionMap:
    """Regions, which may overlap, by address."""

    def __init__(self) -> None:
        self._granules: dict[int, list[Region]] = {}
        self._big: list[Region] = []

    def _lists(self, region: Region) -> list[list[Region]]:
        if region.end <= region.start:
            return []
        if region.end - region.start > _BIG:
            return [self._big]
        granules = range(region.start >> _BITS, (region.end - 1 >> _BITS) + 1)
        return [self._granules.setdefault(granule, []) for granule in granules]

    def add(self, region: Region) -> None:
        """Enter a region."""
        for regions in self._lists(region):
            regions.append(region)

    def remove(self, region: Region) -> None:
        """Take a region out again."""
        for regions in self._lists(region):
            regions.remove(region)

    def at(self, address: int) -> list[Region]:
        """The regions that hold an address."""
        near = self._granules.get(address >> _BITS, [])
        return [r for r in (*near, *self._big) if r.start <= address < r.end]

    def reach(self, address: int, end: int) -> int:
        """Up to where, at most `end`, memory from `address` on belongs to nobody."""
        while address < end and not self.at(address):
            granule = address >> _BITS
            starts = [
                r.start for r in (*self._granules.get(granule, []), *self._big) if r.start > address
            ]
            address = min([*starts, (granule + 1) << _BITS])
        return min(address, end)
