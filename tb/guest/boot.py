"""What guests boot: kernels and their initramfs, made once each."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

from guest import initramfs, packages
from guest.packages import Kernel


class Images:
    """Kernels by name, each with a small initramfs and one with all programs.

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
        self._made: dict[tuple[str, bool], tuple[Kernel, Path]] = {}
        self._lock = threading.Lock()

    def get(self, name: str, full: bool) -> tuple[Kernel, Path]:
        """Return a kernel and the initramfs for it; `full` has more programs than busybox."""
        with self._lock:
            if (name, full) not in self._made:
                self._made[name, full] = self._make(name, full)
            return self._made[name, full]

    def _make(self, name: str, full: bool) -> tuple[Kernel, Path]:
        kernel = packages.find_kernel(name, self._packages, self._say)
        busybox = packages.fetch(packages.BUSYBOX, self._packages, self._say)
        programs = packages.fetch(packages.PROGRAMS, self._packages, self._say) if full else None
        data = initramfs.build(kernel, busybox, programs).pack()
        key = hashlib.sha256(data).hexdigest()[:12]
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{kernel.version}-{key}.cpio"
        if not path.exists():
            # Another program may be making the same file.
            part = path.with_suffix(f".{threading.get_native_id()}")
            part.write_bytes(data)
            part.replace(path)
        return kernel, path
