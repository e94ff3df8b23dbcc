"""The image that the demo of a block device writes: read, judged, made; its file system."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lib.golden import Check
from lib.paths import ROOT
from virtio_rtl.config_blk import SECTOR_BYTES

__all__ = ["DiskImage", "ImageError", "check_file_system", "load", "make", "tool"]

LARGEST = 16 << 20
"""Bytes; more takes minutes to simulate."""

_EXT4_MAGIC = slice(0x438, 0x43A)
_SBIN = ("/usr/sbin", "/sbin")
_OWN_KIB = 1024
"""Size of the image that the demo makes."""

MISSING = "e2fsck is missing: the package e2fsprogs has it"


class ImageError(Exception):
    """An image that cannot be used; the message is one line for the user."""


@dataclass(frozen=True)
class DiskImage:
    """A disk's content."""

    path: Path
    content: bytes

    @property
    def sectors(self) -> int:
        """Its size in sectors of 512 bytes."""
        return len(self.content) // SECTOR_BYTES

    @property
    def ext4(self) -> bool:
        """Whether there is an ext2, ext3 or ext4 file system."""
        return self.content[_EXT4_MAGIC] == b"\x53\xef"


def load(path: Path) -> DiskImage:
    """Read an image that a simulated disk can hold, or raise ImageError."""
    if not path.exists():
        raise ImageError(f"{path}: no such file")
    if path.is_dir():
        raise ImageError(f"{path}: is a directory, not an image")
    if not path.is_file():
        raise ImageError(f"{path}: not a regular file")
    if not os.access(path, os.R_OK):
        raise ImageError(f"{path}: permission denied")
    size = path.stat().st_size
    if size == 0:
        raise ImageError(f"{path}: is empty")
    if size > LARGEST:
        raise ImageError(
            f"{path}: has {size:,} bytes, the simulated disk has at most {LARGEST:,} (16 MiB)"
        )
    if size % SECTOR_BYTES:
        raise ImageError(f"{path}: has {size:,} bytes, no multiple of the sector's {SECTOR_BYTES}")
    return DiskImage(path, path.read_bytes())


def make(path: Path) -> DiskImage:
    """Make an image: a small ext4 file system with this project's documents, else a pattern."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if program := tool("mkfs.ext4"):
        done = subprocess.run(
            [program, "-q", "-F", "-d", str(ROOT / "docs"), str(path), f"{_OWN_KIB}k"],
            capture_output=True,
            check=False,
        )
        if done.returncode == 0:
            return load(path)
    path.write_bytes(random.Random(1).randbytes(_OWN_KIB << 10))
    return load(path)


def tool(name: str) -> str | None:
    """Find a program of e2fsprogs; users often have no PATH to it."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *_SBIN]))


def check_file_system(image: DiskImage, read_back: Path) -> Check | None:
    """Check the file system of what was read back; None if there is none, or no e2fsck.

    The demo repairs nothing: if the image itself has errors, so must have what was read back.
    """
    program = tool("e2fsck")
    if program is None or not image.ext4:
        return None

    def check(path: Path) -> tuple[int, str]:
        done = subprocess.run(
            [program, "-fn", str(path)], capture_output=True, text=True, check=False
        )
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        last = (lines or done.stderr.splitlines() or ["no output"])[-1]
        return done.returncode, last.removeprefix(f"{path}: ")

    status, summary = check(read_back)
    if status == 0:
        return Check("e2fsck -fn", True, summary)
    if check(image.path)[0] == status:
        return Check("e2fsck -fn", True, f"status {status}, as of the image itself: {summary}")
    return Check("e2fsck -fn", False, f"status {status}: {summary}")
