"""Packages of Debian, fetched and unpacked without touching the system's own.

A private apt state (lists, cache, an empty dpkg status) in a folder: neither dpkg's database nor
the system's lists change, and no root is needed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from guest.errors import GuestError

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR = "http://deb.debian.org/debian"
SOURCES = Path("/etc/apt")
SUITES = ("bookworm", "trixie", "trixie-backports")

_OPTIONS = [
    "-q=2",
    "-o=APT::Update::Error-Mode=any",  # without it an unreachable mirror is only a warning
    "-o=Acquire::Retries=2",
    "-o=Acquire::http::Timeout=20",
]
_MIRROR_LINE = re.compile(r"^(?:URIs:|deb\s+(?:\[[^]]*\])?)\s*(\S+/debian)/*(?:\s|$)", re.MULTILINE)


def system_mirror(sources: Path = SOURCES) -> str:
    """Return the Debian mirror that this machine uses, or the public one."""
    files = [sources / "sources.list", *sorted((sources / "sources.list.d").glob("*"))]
    for path in files:
        if path.is_file() and (match := _MIRROR_LINE.search(path.read_text(errors="replace"))):
            return match[1]
    return MIRROR


@dataclass(frozen=True)
class Package:
    """A package in one version."""

    name: str
    version: str


class PrivateApt:
    """apt-get with a state of its own in `folder`.

    Parameters: `folder` holds lists and settings; `mirror` is the URL of a Debian archive;
    `keyring` the keys that must have signed it.
    """

    def __init__(self, folder: Path, mirror: str = "", keyring: Path = KEYRING) -> None:
        self.folder = folder
        self.mirror = mirror or os.environ.get("DEBIAN_MIRROR") or system_mirror()
        self.keyring = keyring

    def update(self) -> None:
        """Fetch the lists of all suites (20 MB), unless they are younger than an hour."""
        fresh = self.folder / "fresh"
        if fresh.exists() and time.time() - fresh.stat().st_mtime < 3600:
            return
        for program in ("apt-get", "dpkg"):
            if shutil.which(program) is None:
                raise GuestError(
                    f"{program} not found: packages are fetched on Debian or Ubuntu only"
                )
        if not self.keyring.exists():
            raise GuestError(f"{self.keyring} is missing: install debian-archive-keyring")
        for part in ("state/lists/partial", "cache/archives/partial", "etc/apt.conf.d",
                     "etc/preferences.d"):  # fmt: skip
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        (self.folder / "state/status").touch()
        (self.folder / "etc/sources.list").write_text(
            "".join(
                f"deb [signed-by={self.keyring}] {self.mirror} {suite} main\n" for suite in SUITES
            )
        )
        # root fetches as root: the user `_apt` may not be allowed into the folder
        (self.folder / "apt.conf").write_text(
            f'Dir::State "{self.folder}/state";\n'
            f'Dir::State::status "{self.folder}/state/status";\n'
            f'Dir::Cache "{self.folder}/cache";\n'
            f'Dir::Etc "{self.folder}/etc";\n'
            'APT::Architecture "amd64";\n'
            'APT::Architectures "amd64";\n'
            'APT::Install-Recommends "false";\n'
            'APT::Sandbox::User "root";\n'
            'Acquire::Languages "none";\n'
            'Acquire::GzipIndexes "true";\n'
        )
        self._run("update")
        fresh.touch()

    def closure(self, packages: Sequence[str], suite: str) -> list[Package]:
        """Return `packages` of `suite` and all that they depend on."""
        lines = self._run("install", "--simulate", "-q=1", f"--target-release={suite}", *packages)
        found = re.findall(r"^Inst (\S+) \((\S+) ", lines, re.MULTILINE)
        return [Package(name, version) for name, version in found]

    def unpack(self, packages: Sequence[Package], target: Path) -> None:
        """Fetch packages and unpack them below `target`; no scripts of theirs run."""
        archives = self.folder / "archives"
        shutil.rmtree(archives, ignore_errors=True)
        archives.mkdir(parents=True)
        self._run("download", *(f"{p.name}={p.version}" for p in packages), cwd=archives)
        target.mkdir(parents=True, exist_ok=True)
        for archive in sorted(archives.glob("*.deb")):
            unpacked = subprocess.run(
                ["dpkg", "-x", archive, target], capture_output=True, text=True, check=False
            )
            if unpacked.returncode:
                raise GuestError(f"cannot unpack {archive.name}: {first_error(unpacked.stderr)}")
        shutil.rmtree(archives)

    def _run(self, command: str, *arguments: str, cwd: Path | None = None) -> str:
        done = subprocess.run(
            ["apt-get", command, *_OPTIONS, *arguments],
            env={**os.environ, "APT_CONFIG": str(self.folder / "apt.conf"), "LC_ALL": "C"},
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise GuestError(
                f"packages of {self.mirror} cannot be had (apt-get {command}): "
                f"{first_error(done.stderr)}"
            )
        return done.stdout


def first_error(text: str) -> str:
    """Return the first line that says what went wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for line in lines:
        if line.startswith(("E:", "Err:")):
            return line.split(":", 1)[1].strip()
    return lines[0] if lines else "no reason given"
