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
_OWN_IDS = ("-U", "5ca1ab1e-0000-4000-8000-000000000001",
            "-E", "hash_seed=5ca1ab1e-0000-4000-8000-000000000002")  # fmt: skip
"""The same on each run, else each image would have others."""
_OWN_TIME = {"E2FSPROGS_FAKE_TIME": "1700000000"}

CHECK = "e2fsck -fn"
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


def make(path: Path, kib: int = _OWN_KIB, source: Path = ROOT / "docs") -> DiskImage:
    """Make an image: an ext4 file system with what is in `source`, else a pattern.

    Without a journal, which takes a megabyte. Two images of the same files differ only in the time
    at which their inodes were changed, which no program can choose.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if program := tool("mkfs.ext4"):
        done = subprocess.run(
            [program, "-q", "-F", "-b", "1024", "-O", "^has_journal", *_OWN_IDS,
             "-d", str(source), str(path), f"{kib}k"],
            env={**os.environ, **_OWN_TIME},
            capture_output=True,
            check=False,
        )  # fmt: skip
        if done.returncode == 0:
            return load(path)
    path.write_bytes(random.Random(1).randbytes(kib << 10))
    return load(path)


def tool(name: str) -> str | None:
    """Find a program of e2fsprogs; users often have no PATH to it."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *_SBIN]))


def check_file_system(image: DiskImage, read_back: Path) -> Check | str:
    """Check the file system of what was read back; a sentence for people if nothing can be said.

    The demo repairs nothing. If the image itself has errors, what was read back must have them,
    too; but that says nothing of the device, so it is no check that passed.
    """
    if not image.ext4:
        return "no ext4 file system in the image: only its bytes are compared"
    if (program := tool("e2fsck")) is None:
        return f"the file system is not checked: {MISSING}"
    before, after = (_e2fsck(program, path) for path in (image.path, read_back))
    if before.clean:
        return Check(CHECK, after.clean, after.text)
    if after.status != before.status:
        return Check(CHECK, False, f"{after.text}; of the image itself, {before.text}")
    return (
        "the image's own file system is not clean, so only its bytes are compared; "
        f"{CHECK} of it, {before.text}"
    )


@dataclass(frozen=True)
class _Found:
    """What e2fsck says of an image."""

    status: int
    clean: bool
    text: str


def _e2fsck(program: str, path: Path) -> _Found:
    done = subprocess.run(
        [program, "-fn", str(path)],
        env={**os.environ, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    # It goes on, and may end with status 0, where the file system is larger than the image.
    clean = done.returncode == 0 and "Abort? no" not in done.stdout
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    # The last line counts files and blocks, the first that is no heading is the first complaint.
    telling = [line for line in lines if not line.startswith("Pass ")] or ["no output"]
    line = telling[-1 if clean else 0].removeprefix(f"{path}: ")
    return _Found(
        done.returncode, clean, f"clean: {line}" if clean else f"status {done.returncode}: {line}"
    )
