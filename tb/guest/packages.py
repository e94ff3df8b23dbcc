"""The packages that a guest is made of: QEMU, kernels, programs; unpacked below build/guest.

A set is fetched once: its folder holds the versions and the key of its recipe.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from guest.apt import PrivateApt
from guest.errors import GuestError
from lib.locks import file_lock
from lib.paths import BUILD

FOLDER = BUILD / "guest" / "packages"
READY = "versions.json"


@dataclass(frozen=True)
class PackageSet:
    """Packages of one suite that are unpacked together.

    `only` keeps from the closure what begins with one of these; `without` leaves out what begins
    with one of these.
    """

    name: str
    suite: str
    packages: tuple[str, ...]
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    def wants(self, package: str) -> bool:
        """Say whether a package of the closure is needed."""
        if self.only and not package.startswith(self.only):
            return False
        return package in self.packages or not (self.without and package.startswith(self.without))


_SYSTEM = (
    "adduser", "base-passwd", "debconf", "dmsetup", "dpkg", "gcc-", "init-system-helpers",
    "libpython", "login.defs", "media-types", "netbase", "passwd", "perl", "python3", "tar",
    "tzdata", "openssl-provider", "cpp", "mount", "util-linux", "lsb-", "shared-mime",
    "xdg-", "sgml-",
)  # fmt: skip
"""Packages for a running system: nothing here runs their programs."""

QEMU = PackageSet(
    "qemu", "trixie-backports", ("qemu-system-x86", "seabios", "ipxe-qemu"), without=_SYSTEM
)
BUSYBOX = PackageSet("busybox", "trixie", ("busybox-static",), only=("busybox-static",))
TOOLS = PackageSet("tools", "trixie", ("e2fsprogs", "ethtool", "fio"), without=_SYSTEM)
DPDK = PackageSet(
    "dpdk",
    "trixie",
    ("dpdk-dev", "librte-net-virtio25", "librte-mempool-ring25"),
    only=(
        "dpdk-dev", "librte-", "libatomic1", "libbsd0", "libbz2", "libc6", "libcap2", "libdbus-1-3",
        "libelf1", "libfdt1", "libgcc-s1", "libibverbs1", "ibverbs-providers", "libjansson4",
        "liblzma5", "libmd0", "libnl-", "libnuma1", "libpcap0", "libssl3", "libsystemd0",
        "libzstd1", "zlib1g",
    ),
    without=("libc6-dev", "libnl-3-dev", "libnl-route-3-dev", "zlib1g-dev", "librte-meta"),
)  # fmt: skip
"""testpmd, whose program is in the package for developers."""


def kernel(name: str, suite: str) -> PackageSet:
    """Return the set of a suite's kernel for virtual machines."""
    parts = ("linux-image-", "linux-modules-", "linux-binary-")
    return PackageSet(f"kernel-{name}", suite, ("linux-image-cloud-amd64",), only=parts)


KERNELS = {
    "stable": kernel("stable", "bookworm"),
    "backports": kernel("backports", "trixie-backports"),
    "trixie": kernel("trixie", "trixie"),
}
"""Kernels by the name that the matrix uses: Debian 12's own, the newest, and Debian 13's own."""


def fetch(
    packages: PackageSet, folder: Path = FOLDER, say: Callable[[str], None] = lambda text: None
) -> Path:
    """Return the folder of a set's files; fetch it if it is not there."""
    target = folder / packages.name
    recipe = {"recipe": asdict(packages)}
    if _ready(target, recipe):
        return target
    with file_lock(folder / "lock"):
        if _ready(target, recipe):
            return target
        apt = PrivateApt(folder / "apt")
        say(f"fetching {packages.name} from {apt.mirror}")
        apt.update()
        wanted = [
            p for p in apt.closure(packages.packages, packages.suite) if packages.wants(p.name)
        ]
        if not wanted:
            raise GuestError(f"{packages.suite} has none of: {', '.join(packages.packages)}")
        shutil.rmtree(target, ignore_errors=True)
        part = target.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        apt.unpack(wanted, part)
        versions = {p.name: p.version for p in wanted}
        (part / READY).write_text(
            json.dumps(json.loads(json.dumps(recipe)) | {"versions": versions}, indent=1)
        )
        part.rename(target)
    return target


def _ready(target: Path, recipe: dict) -> bool:
    try:
        found = json.loads((target / READY).read_text())
    except (OSError, ValueError):
        return False
    return found.get("recipe") == json.loads(json.dumps(recipe))["recipe"]


@dataclass(frozen=True)
class Kernel:
    """An unpacked kernel: `image` boots, `modules` is its /lib/modules/VERSION."""

    name: str
    version: str
    image: Path
    modules: Path


def find_kernel(
    name: str, folder: Path = FOLDER, say: Callable[[str], None] = lambda text: None
) -> Kernel:
    """Return a kernel of KERNELS; fetch it if it is not there."""
    if name not in KERNELS:
        raise GuestError(f"no kernel {name!r}: there is {', '.join(KERNELS)}")
    root = fetch(KERNELS[name], folder, say)
    for modules in [*root.glob("usr/lib/modules/*"), *root.glob("lib/modules/*")]:
        for image in (modules / "vmlinuz", root / "boot" / f"vmlinuz-{modules.name}"):
            if image.exists():
                return Kernel(name, modules.name, image, modules)
    raise GuestError(f"no kernel with its modules in {root}")
