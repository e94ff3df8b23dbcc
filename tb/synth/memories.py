"""Where the memories of a design went: block RAM, distributed RAM or flip-flops."""

from __future__ import annotations

import re
from dataclasses import dataclass

from synth.cells import BRAM36, LUTRAM_LUTS, kind
from synth.netlist import Netlist

_MODULE = re.compile(r"^module \\(\S+)$", re.M)
_MEMORY = re.compile(r"^  memory width (\d+) size (\d+) \\(\S+)$", re.M)


@dataclass(frozen=True)
class MappedMemory:
    """One memory: rows of `width` bits, and what it takes."""

    name: str
    depth: int
    width: int
    mapping: str
    luts: int
    bram36: float


def declared(rtlil: str, top: str) -> dict[str, tuple[int, int]]:
    """Return flattened name -> (depth, width) of the memories in an RTLIL text."""
    found = {}
    parts = _MODULE.split(rtlil)
    for module, body in zip(parts[1::2], parts[2::2], strict=True):
        prefix = "" if module == top else module.removeprefix(top + ".") + "."
        for width, depth, name in _MEMORY.findall(body):
            found[prefix + name] = int(depth), int(width)
    return found


def memories(rtlil: str, netlist: Netlist, top: str) -> list[MappedMemory]:
    """Return all memories of the design with their mapping, by name."""
    sizes = declared(rtlil, top)
    types: dict[str, list[str]] = {name: [] for name in sizes}
    for cell in netlist.cells:
        if kind(cell.type) in ("lutram", "bram", "uram"):
            # A memory becomes cells called memory.row.column, and sometimes parts of these.
            name = cell.name
            while name and name not in types:
                name = name.rpartition(".")[0]
            if name:
                types[name].append(cell.type)
    found = []
    for name, (depth, width) in sorted(sizes.items()):
        used = types[name]
        counts = ", ".join(f"{used.count(type_)} {type_}" for type_ in sorted(set(used)))
        if not counts:
            counts = "flip-flops" if netlist.has_wire(f"{name}[0]") else "removed"
        luts = sum(LUTRAM_LUTS.get(type_, 0) for type_ in used)
        bram = sum(BRAM36.get(type_, 0) for type_ in used)
        found.append(MappedMemory(name, depth, width, counts, luts, bram))
    return found
