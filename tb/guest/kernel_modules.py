"""A kernel's modules with all that they need, ready for modprobe."""

from __future__ import annotations

import lzma
import re
from dataclasses import dataclass
from pathlib import Path

_SUFFIX = re.compile(r"\.ko(\.xz)?$")


def module_name(path: Path) -> str:
    """Return the name that the kernel uses for a module's file."""
    return _SUFFIX.sub("", path.name).replace("-", "_")


def read_module(path: Path) -> bytes:
    """Return a module as the kernel loads it; packages may hold it compressed."""
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def needs(module: bytes) -> list[str]:
    """Return the names of the modules that one needs.

    They stand in its section .modinfo as `depends=a,b`; modules.dep would say it too, but only a
    kernel's installation script makes that file.
    """
    match = re.search(rb"\0depends=([^\0]*)\0", module)
    names = match[1].decode().replace("-", "_") if match else ""
    return [name for name in names.split(",") if name]


@dataclass(frozen=True)
class ModuleTree:
    """Modules by name: `files` hold what the kernel loads, `depends` whom each one needs."""

    files: dict[str, bytes]
    depends: dict[str, list[str]]

    def dependencies(self) -> str:
        """Return modules.dep: each module's file, then what to load before it, deepest last."""
        lines = []
        for name in self.files:
            order = self._order(name)
            lines.append(f"{name}.ko:" + "".join(f" {need}.ko" for need in order) + "\n")
        return "".join(lines)

    def _order(self, name: str) -> list[str]:
        order: list[str] = []
        waiting = list(self.depends[name])
        while waiting:
            need = waiting.pop(0)
            if need in order:
                order.remove(need)
            order.append(need)
            waiting += self.depends[need]
        return order


def collect(folder: Path, names: list[str]) -> ModuleTree:
    """Return the modules `names` of a kernel and their closure.

    Names that the kernel has built in have no file and are left out.
    """
    places = {module_name(path): path for path in folder.rglob("*.ko*") if path.is_file()}
    files: dict[str, bytes] = {}
    depends: dict[str, list[str]] = {}
    waiting = [name.replace("-", "_") for name in names]
    while waiting:
        name = waiting.pop(0)
        if name in files or name not in places:
            continue
        files[name] = read_module(places[name])
        depends[name] = [need for need in needs(files[name]) if need in places]
        waiting += depends[name]
    return ModuleTree(files, depends)
