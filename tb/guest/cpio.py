"""Write and read cpio archives of the format newc, which Linux takes as initramfs.

Written here because the archive holds device nodes and files of root, which the `cpio` program
could only pack from a folder that root has made.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

_MAGIC = b"070701"
_TRAILER = "TRAILER!!!"


@dataclass(frozen=True)
class Entry:
    """A file of the archive: `mode` with its type, `device` (major, minor) of a node."""

    path: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


@dataclass
class Archive:
    """Files by their path, without the leading slash; folders come by themselves."""

    entries: dict[str, Entry] = field(default_factory=dict)

    def folder(self, path: str) -> None:
        """Add a folder and those above it."""
        for parent in [*reversed(PurePosixPath(path).parents), PurePosixPath(path)]:
            name = str(parent)
            if name != "." and name not in self.entries:
                self.entries[name] = Entry(name, stat.S_IFDIR | 0o755)

    def file(self, path: str, data: bytes, executable: bool = False) -> None:
        """Add a file."""
        self._add(Entry(path, stat.S_IFREG | (0o755 if executable else 0o644), data))

    def link(self, path: str, target: str) -> None:
        """Add a symbolic link."""
        self._add(Entry(path, stat.S_IFLNK | 0o777, target.encode()))

    def character_device(self, path: str, major: int, minor: int) -> None:
        """Add a device node."""
        self._add(Entry(path, stat.S_IFCHR | 0o600, device=(major, minor)))

    def _add(self, entry: Entry) -> None:
        self.folder(str(PurePosixPath(entry.path).parent))
        self.entries[entry.path] = entry

    def pack(self) -> bytes:
        """Return the archive; the same files give the same bytes."""
        parts = []
        for number, entry in enumerate([*self.entries.values(), Entry(_TRAILER, 0)], 1):
            name = entry.path.encode() + b"\0"
            links = 2 if stat.S_ISDIR(entry.mode) else 1
            fields = [number, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0]
            fields += [*entry.device, len(name), 0]
            head = _MAGIC + b"".join(b"%08X" % value for value in fields) + name
            parts += [head, _padding(len(head)), entry.data, _padding(len(entry.data))]
        return b"".join(parts)


def unpack(data: bytes) -> Iterator[Entry]:
    """Yield the entries of an archive; ValueError if it is not one."""
    place = 0
    while True:
        if data[place : place + 6] != _MAGIC:
            raise ValueError(f"no cpio header at byte {place}")
        fields = [int(data[place + 6 + 8 * i : place + 14 + 8 * i], 16) for i in range(13)]
        size, name_size = fields[6], fields[11]
        path = data[place + 110 : place + 110 + name_size - 1].decode()
        if path == _TRAILER:
            return
        place += 110 + name_size + len(_padding(110 + name_size))
        yield Entry(path, fields[1], data[place : place + size], (fields[9], fields[10]))
        place += size + len(_padding(size))


def _padding(length: int) -> bytes:
    return bytes(-length % 4)
