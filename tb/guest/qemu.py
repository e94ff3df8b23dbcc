"""QEMU: the one on PATH if it is new enough, else unpacked from backports."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from guest import packages
from guest.errors import GuestError

PROGRAM = "qemu-system-x86_64"
OLDEST = (10, 1)
"""The first version with the device `vfio-user-pci`."""
TRIED = ((10, 1), (11, 1))
"""Versions, first and last, whose handling of the MSI-X capability is known (see `Qemu.tried`)."""


@dataclass(frozen=True)
class Qemu:
    """How to start QEMU.

    `tried` is False for versions whose MSI-X handling nobody has looked at: QEMU keeps the table of
    a device that shows the capability when it is realized; the server hides it until the first
    reset.
    """

    command: tuple[str, ...]
    version: tuple[int, ...]
    place: str

    @property
    def tried(self) -> bool:
        """Whether the MSI-X handling of this version is known."""
        return TRIED[0] <= self.version[:2] <= TRIED[1]

    @property
    def text(self) -> str:
        """The version as people write it."""
        return ".".join(map(str, self.version))


def parse_version(text: str) -> tuple[int, ...]:
    """Return the version that `--version` prints; () if it does not."""
    match = re.search(r"QEMU emulator version (\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part) for part in match.groups() if part) if match else ()


def inspect(command: tuple[str, ...], place: str) -> Qemu:
    """Return what a QEMU is; a GuestError if it does not start or is too old."""
    try:
        said = subprocess.run(
            [*command, "--version"], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GuestError(f"{place} does not start: {error}") from error
    version = parse_version(said.stdout)
    if not version:
        reason = (said.stderr or said.stdout).strip().splitlines()[:1]
        raise GuestError(f"{place} does not tell its version: {' '.join(reason) or 'no output'}")
    qemu = Qemu(command, version, place)
    if version < OLDEST:
        raise GuestError(
            f"{place} is {qemu.text}: vfio-user-pci needs {'.'.join(map(str, OLDEST))} or newer"
        )
    return qemu


def unpacked(root: Path) -> tuple[str, ...]:
    """Return the command for a QEMU below `root`, with its own libraries and firmware."""
    libraries = root / "usr/lib/x86_64-linux-gnu"
    return (
        str(root / "usr/lib64/ld-linux-x86-64.so.2"),
        "--library-path",
        str(libraries),
        str(root / "usr/bin" / PROGRAM),
        "-L",
        str(root / "usr/share/qemu"),
        "-L",
        str(root / "usr/share/seabios"),
    )


def find(
    asked: str = "",
    folder: Path = packages.FOLDER,
    say: Callable[[str], None] = lambda text: None,
) -> Qemu:
    """Return a QEMU that has vfio-user-pci.

    `asked` is a program that must be used (QEMU=path); otherwise one on PATH that is too old is
    passed over for the one from the packages.
    """
    if asked:
        if (program := shutil.which(asked)) is None:
            raise GuestError(f"QEMU={asked}: no such program")
        return inspect((program,), program)
    if program := shutil.which(PROGRAM):
        try:
            return inspect((program,), program)
        except GuestError as error:
            say(f"{error}; taking the one from {packages.QEMU.suite}")
    root = packages.fetch(packages.QEMU, folder, say)
    return inspect(unpacked(root), f"QEMU of {packages.QEMU.suite}")
