"""What guests boot: kernels and their initramfs, made once each."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

from guest import initramfs, packages
from guest.packages import Kernel


class Images:
    """Kernels by name, each with an initramfs for the programs that a case asks for.

    Packages are fetched when a case first asks for them. Safe to share among threads.
    """

    def __init__(
        self,
        folder: Path,
        package_folder: Path = packages.FOLDER,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._folder = folder
        self._packages = package_folder
        self._say = say
        self._made: dict[tuple[str, str], tuple[Kernel, Path]] = {}
        self._lock = threading.Lock()

    def get(self, name: str, programs: str) -> tuple[Kernel, Path]:
        """Return a kernel and an initramfs with `programs` (of initramfs.PROGRAMS, or "")."""
        with self._lock:
            if (name, programs) not in self._made:
                self._made[name, programs] = self._make(name, programs)
            return self._made[name, programs]

    def _make(self, name: str, programs: str) -> tuple[Kernel, Path]:
        kernel = packages.find_kernel(name, self._packages, self._say)
        busybox = packages.fetch(packages.BUSYBOX, self._packages, self._say)
        chosen = initramfs.PROGRAMS.get(programs)
        root = packages.fetch(chosen.packages, self._packages, self._say) if chosen else Path()
        data = initramfs.build(kernel, busybox, chosen, root).pack()
        key = hashlib.sha256(data).hexdigest()[:12]
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{kernel.version}-{key}.cpio"
        if not path.exists():
            # Another program may be making the same file.
            part = path.with_suffix(f".{threading.get_native_id()}")
            part.write_bytes(data)
            part.replace(path)
        return kernel, path
