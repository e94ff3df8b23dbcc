"""Run the demo of a block device from the outside: simulate, then judge what it left behind."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from demo import disk_image
from demo.disk_config import SHOWN, disk_config
from demo.disk_result import DiskResult, load_disk_result
from demo.simulation import launch, run_name, waveform
from lib.disk import DiskDevice, disk_plusargs
from lib.golden import Check
from lib.sim import choose_seed
from lib.words import counted

__all__ = ["DiskFiles", "run"]

_BASE_S = 900
_PER_MIB_S = 120


@dataclass(frozen=True)
class DiskFiles:
    """What a run leaves in its folder."""

    folder: Path

    @property
    def report(self) -> Path:
        """The report for people."""
        return self.folder / "report.html"

    @property
    def read_back(self) -> Path:
        """The image as the driver has read it."""
        return self.folder / "read-back.img"

    @property
    def dump(self) -> Path:
        """The content of the simulated memory at the end."""
        return self.folder / "memory.img"

    @property
    def result(self) -> Path:
        """The result as JSON."""
        return self.folder / "result.json"

    @property
    def own_image(self) -> Path:
        """The image that the demo makes if there is none."""
        return self.folder / "image.img"

    def clear(self) -> None:
        """Remove what an earlier run left, so that a failed one shows nothing old."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in (self.report, self.read_back, self.dump, self.result):
            path.unlink(missing_ok=True)


def run(
    name: str,
    image: disk_image.DiskImage,
    seed: int | None,
    files: DiskFiles,
    console: Console,
    ring: str = "packed",
) -> DiskResult:
    """Write the image through the simulated device, read it back, and compare."""
    size = len(image.content)
    config = disk_config(name, size)
    files.clear()
    simulation = run_name(config, ring)
    chosen = choose_seed(simulation, seed)
    launch(
        DiskDevice(config),
        "demo.disk_flow",
        simulation,
        {
            "config": name,
            "ring": ring,
            "image": str(image.path.resolve()),
            "source": str(image.path),
            "seed": chosen,
            "shown": SHOWN,
            "read_back": str(files.read_back.resolve()),
            "result": str(files.result.resolve()),
        },
        files.folder,
        console,
        limit_s=round(_BASE_S + _PER_MIB_S * size / (1 << 20)),
        plusargs=disk_plusargs(dump=files.dump),
    )
    result = judged(load_disk_result(files.result), image, files)
    places = {"report": files.report, "image read back": files.read_back}
    if wave := waveform(config, ring):
        places["waveform"] = wave
    result = replace(result, files={what: str(path) for what, path in places.items()})
    result.save(files.result)
    return result


def judged(result: DiskResult, image: disk_image.DiskImage, files: DiskFiles) -> DiskResult:
    """Add what can be told from the files alone."""
    same = files.dump.exists() and files.dump.read_bytes() == image.content
    files.dump.unlink(missing_ok=True)
    size = counted(len(image.content), "byte")
    checks = [
        *result.checks,
        Check("memory behind the device", same, size if same else "not the image"),
    ]
    notes = []
    if found := disk_image.check_file_system(image, files.read_back):
        checks.append(found)
    elif image.ext4:
        notes.append(f"the file system is not checked: {disk_image.MISSING}")
    else:
        notes.append("no ext4 file system in the image: only its bytes are compared")
    return replace(result, checks=checks, notes=notes)
