"""The guest's memory: what the client has mapped for the device, and nothing else."""

from __future__ import annotations

import errno
import mmap
import os
from dataclasses import dataclass

from guest.protocol import DmaFlag, DmaMap, DmaUnmap, UnmapFlag
from virtio_model.memory import GuestMemory

_ADDRESS_SPACE = 1 << 64


@dataclass(eq=False)
class _Map:
    """Bus addresses `start` to `end - 1`; `data` is None where the client gave no descriptor."""

    start: int
    end: int
    data: mmap.mmap | None
    readable: bool
    writable: bool

    def allows(self, writing: bool) -> bool:
        return self.data is not None and (self.writable if writing else self.readable)


class MappedMemory(GuestMemory):
    """Guest memory that another process owns: the maps of DMA_MAP, shared by memfd.

    The device's side (`device_read`, `device_write`, `device_may`, `faults`, the hooks) is as in
    `GuestMemory`, and a map is what a window is there: nothing else is granted. A fault never
    raises. Both sides of the memory live, so two reads may differ. The client unmaps and maps
    again while a guest boots: an access looks its map up anew each time.
    """

    def __init__(self) -> None:
        super().__init__(0, raise_faults=False)
        self.size = _ADDRESS_SPACE
        self._maps: list[_Map] = []
        self._last: _Map | None = None

    # What the client says

    def map(self, request: DmaMap, fd: int | None) -> None:
        """Add a map; OSError where it cannot be. The descriptor stays the caller's."""
        start, end = request.address, request.address + request.size
        if not request.size or end > _ADDRESS_SPACE:
            raise OSError(errno.EINVAL, "no such range")
        if any(start < other.end and other.start < end for other in self._maps):
            raise OSError(errno.EEXIST, "the range is mapped already")
        writable = bool(request.flags & DmaFlag.WRITE)
        data = None if fd is None else _mmap(fd, request.offset, request.size, writable)
        self._maps.append(_Map(start, end, data, bool(request.flags & DmaFlag.READ), writable))

    def unmap(self, request: DmaUnmap) -> None:
        """Drop the maps in a range; OSError if one would have to be split."""
        if request.flags & UnmapFlag.ALL:
            gone = list(self._maps)
        else:
            start, end = request.address, request.address + request.size
            gone = [each for each in self._maps if start < each.end and each.start < end]
            if any(each.start < start or end < each.end for each in gone):
                raise OSError(errno.EINVAL, "a map is taken away whole")
        self._last = None
        for each in gone:
            self._maps.remove(each)
            if each.data is not None:
                each.data.close()

    def close(self) -> None:
        """Drop all maps."""
        self.unmap(DmaUnmap(0, UnmapFlag.ALL, 0, 0))

    # Accesses

    def _find(self, addr: int) -> _Map | None:
        if (last := self._last) and last.start <= addr < last.end:
            return last
        for each in self._maps:
            if each.start <= addr < each.end:
                self._last = each
                return each
        return None

    def _pieces(self, addr: int, length: int, writing: bool | None) -> list[tuple[_Map, int, int]]:
        """Map, offset in it and length of each piece, or none at all if one is not allowed.

        `writing`: None looks past the device's rights.
        """
        pieces = []
        while length:
            found = self._find(addr)
            if found is None or found.data is None:
                return []
            if writing is not None and not found.allows(writing):
                return []
            count = min(length, found.end - addr)
            pieces.append((found, addr - found.start, count))
            addr, length = addr + count, length - count
        return pieces

    def _mapped(self, addr: int, length: int) -> list[tuple[_Map, int, int]]:
        pieces = self._pieces(addr, length, None)
        if length and not pieces:
            raise IndexError(f"{length} bytes at {addr:#x} are outside guest memory")
        return pieces

    def read(self, addr: int, length: int) -> bytes:
        """Read whatever is mapped, allowed to the device or not."""
        return b"".join(_get(*piece) for piece in self._mapped(addr, length))

    def write(self, addr: int, data: bytes) -> None:
        """Write whatever is mapped; IndexError where nothing is, or only to be read."""
        pieces = self._mapped(addr, len(data))
        if not all(found.writable for found, _, _ in pieces):
            raise IndexError(f"{len(data)} bytes at {addr:#x} are mapped for reading")
        at = 0
        for found, offset, count in pieces:
            assert found.data is not None
            found.data[offset : offset + count] = data[at : at + count]
            at += count

    def device_may(self, addr: int, length: int, writing: bool) -> bool:
        """Whether maps that allow it cover the whole access."""
        return not length or bool(self._pieces(addr, length, writing))


def _get(found: _Map, offset: int, count: int) -> bytes:
    assert found.data is not None
    return found.data[offset : offset + count]


def _mmap(fd: int, offset: int, size: int, writable: bool) -> mmap.mmap:
    # mmap wants the offset on a page, and reports a range beyond the file as ValueError.
    if offset % mmap.ALLOCATIONGRANULARITY or offset + size > os.fstat(fd).st_size:
        raise OSError(errno.EINVAL, "the range is not in the file, or not on a page")
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    return mmap.mmap(fd, size, mmap.MAP_SHARED, protection, offset=offset)
