"""The guest's initramfs: busybox, kernel modules, programs with their libraries, scripts."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from guest import packages
from guest.cpio import Archive
from guest.errors import GuestError
from guest.kernel_modules import collect
from guest.packages import Kernel, PackageSet
from guest.script_files import SCRIPTS, kernel_modules

MODULES = [
    "virtio_pci",
    *kernel_modules(),
    *("ext4", "crc32c_generic", "vfio_pci", "vfio_iommu_type1"),
]
"""Kernel modules in every initramfs, which get with them what they need."""


@dataclass(frozen=True)
class Programs:
    """Programs of a package set; `plugins` are libraries that they open by name as they run."""

    packages: PackageSet
    places: tuple[str, ...]
    plugins: tuple[str, ...] = ()


PROGRAMS = {
    "tools": Programs(
        packages.TOOLS,
        ("usr/sbin/mke2fs", "usr/sbin/e2fsck", "usr/sbin/ethtool", "usr/bin/fio"),
    ),
    "dpdk": Programs(
        packages.DPDK,
        ("usr/bin/dpdk-testpmd",),
        ("librte_net_virtio.so.25", "librte_mempool_ring.so.25", "libgcc_s.so.1"),
    ),
}
"""What a case may ask for besides busybox."""

_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_LOADER = "usr/lib64/ld-linux-x86-64.so.2"


def libraries(root: Path, program: Path) -> dict[str, Path]:
    """Return the shared libraries of a program below `root`: their files by the names it asks for.

    The packages' own loader is asked: the machine may have other libraries, or none.
    """
    home = root / _LIBRARIES
    folders = ":".join(str(path) for path in (home, *sorted(home.glob("*/"))))
    listed = subprocess.run(
        [root / _LOADER, "--library-path", folders, "--list", program],
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        raise GuestError(f"libraries of {program.name}: {listed.stderr.strip()}")
    pairs = re.findall(r"^\s*(\S+) => (\S+) \(", listed.stdout, re.MULTILINE)
    return {Path(name).name: Path(path) for name, path in pairs}


def add_program(archive: Archive, root: Path, place: str) -> None:
    """Add a program of the unpacked packages below `root`, and its libraries."""
    program = root / place
    archive.file(f"bin/{program.name}", program.read_bytes(), executable=True)
    _add_libraries(archive, libraries(root, program))
    archive.file("lib64/ld-linux-x86-64.so.2", (root / _LOADER).read_bytes(), executable=True)


def add_plugin(archive: Archive, root: Path, name: str) -> None:
    """Add a library that no program names, and what it needs."""
    path = root / _LIBRARIES / name
    _add_libraries(archive, {name: path, **libraries(root, path)})


def _add_libraries(archive: Archive, found: dict[str, Path]) -> None:
    for name, path in found.items():
        archive.file(f"lib/x86_64-linux-gnu/{name}", path.read_bytes(), executable=True)


def build(
    kernel: Kernel,
    busybox: Path,
    programs: Programs | None = None,
    root: Path = Path(),
    modules: Iterable[str] = MODULES,
) -> Archive:
    """Return the files of the initramfs.

    `busybox`: folder of the unpacked package. `programs` come from packages unpacked below `root`;
    without them there is busybox alone, which is enough for the quick cases and boots faster.
    """
    archive = Archive()
    for folder in ("proc", "sys", "dev", "tmp", "mnt", "sbin", "usr/bin", "usr/sbin"):
        archive.folder(folder)
    archive.character_device("dev/console", 5, 1)  # init's output before /dev is mounted
    archive.file("bin/busybox", (busybox / "usr/bin/busybox").read_bytes(), executable=True)
    archive.link("bin/sh", "busybox")

    module_names = list(modules)
    tree = collect(kernel.modules, module_names)
    home = f"lib/modules/{kernel.version}"
    for name, data in tree.files.items():
        archive.file(f"{home}/{name}.ko", data)
    archive.file(f"{home}/modules.dep", tree.dependencies().encode())
    # modprobe fails for a module that it does not know, but not for one that is built in.
    built_in = [name for name in module_names if name not in tree.files]
    archive.file(f"{home}/modules.builtin", "".join(f"{name}.ko\n" for name in built_in).encode())

    if programs:
        for place in programs.places:
            add_program(archive, root, place)
        for name in programs.plugins:
            add_plugin(archive, root, name)
    for script in sorted(SCRIPTS.glob("*.sh")):
        archive.file(f"scripts/{script.name}", script.read_bytes(), executable=True)
    archive.link("init", "scripts/init.sh")
    return archive
