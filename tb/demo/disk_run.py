"""Run the demo of a block device from the outside: simulate, then judge what it left behind."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from demo import disk_image
from demo.disk_config import disk_config
from demo.request_result import RequestResult
from demo.request_run import RequestFiles, finish, run_requests
from lib.disk import DiskDevice, disk_plusargs
from lib.golden import Check
from lib.words import counted

__all__ = ["DiskFiles", "run"]

_BASE_S = 900
_PER_MIB_S = 120


@dataclass(frozen=True)
class DiskFiles(RequestFiles):
    """What a run leaves in its folder."""

    @property
    def read_back(self) -> Path:
        """The image as the driver has read it."""
        return self.folder / "read-back.img"

    @property
    def dump(self) -> Path:
        """The content of the simulated memory at the end."""
        return self.folder / "memory.img"

    @property
    def own_image(self) -> Path:
        """The image that the demo makes if there is none."""
        return self.folder / "image.img"

    def old(self) -> tuple[Path, ...]:
        """What of an earlier run has to go."""
        return (*super().old(), self.read_back, self.dump)


def run(
    name: str,
    image: disk_image.DiskImage,
    seed: int | None,
    files: DiskFiles,
    console: Console,
    ring: str = "packed",
) -> RequestResult:
    """Write the image through the simulated device, read it back, and compare."""
    size = len(image.content)
    config = disk_config(name, size)
    result = run_requests(
        "demo.disk_flow",
        DiskDevice(config),
        {
            "config": name,
            "ring": ring,
            "image": str(image.path.resolve()),
            "source": str(image.path),
            "read_back": str(files.read_back.resolve()),
        },
        seed,
        files,
        console,
        limit_s=round(_BASE_S + _PER_MIB_S * size / (1 << 20)),
        plusargs=disk_plusargs(dump=files.dump),
    )
    places = {"image read back": files.read_back}
    return finish(judged(result, image, files), config, ring, files, places)


def judged(result: RequestResult, image: disk_image.DiskImage, files: DiskFiles) -> RequestResult:
    """Add what can be told from the files alone."""
    same = files.dump.exists() and files.dump.read_bytes() == image.content
    files.dump.unlink(missing_ok=True)
    size = counted(len(image.content), "byte")
    checks = [
        *result.checks,
        Check("memory behind the device", same, size if same else "not the image"),
    ]
    found = disk_image.check_file_system(image, files.read_back)
    if isinstance(found, Check):
        return replace(result, checks=[*checks, found])
    return replace(result, checks=checks, notes=[found])
