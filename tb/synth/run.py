"""From RTLIL to figures: synthesise, analyse."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from synth.cells import BRAM36, LUTRAM_LUTS, kind
from synth.levels import Levels
from synth.memories import MappedMemory, memories
from synth.netlist import Hierarchy, Netlist, cell_types
from synth.progress import DONE
from synth.usage import rooms
from synth.yosys import TOP, synthesise

PATHS = 20


@dataclass(frozen=True)
class Figures:
    """What one design takes, and how long its paths are.

    `lut` is LUT1 to LUT6 as logic, one cell a LUT (a device packs some pairs into one site);
    `lutram` is the LUTs that memories and shift registers occupy; `bram36` counts an 18 Kib block
    as a half. `levels` is the longest path from register to register.
    """

    config: str
    queues: int
    lut: int
    lutram: int
    ff: int
    bram36: float
    uram: int
    levels: int
    port_levels: dict[str, int]
    histogram: dict[int, int]
    room_levels: dict[str, tuple[int, int]]
    room_usage: dict[str, tuple[int, int]]
    worst_path: list[str]
    pairs: list[str]
    memories: list[MappedMemory]
    cells: dict[str, int]

    def record(self) -> dict[str, Any]:
        """Return the figures as plain data."""
        return asdict(self)


def measure(
    rtlil: str, name: str, tell: Callable[[str], None], *, queues: int = 0, above: int = 10
) -> Figures:
    """Return the figures of RTLIL; `above` chooses the paths that are listed in pairs."""
    folder = synthesise(rtlil, tell)
    tell("analysing")
    design = json.loads((folder / "netlist.json").read_text())
    figures = analyse(design, rtlil, name, queues=queues, above=above)
    tell(DONE)
    return figures


def analyse(
    design: dict[str, Any], rtlil: str, name: str, *, queues: int = 0, above: int = 10
) -> Figures:
    """Return the figures of a mapped design; the RTLIL is what it was made from."""
    netlist = Netlist(design, Hierarchy(rtlil, TOP), TOP)
    levels = Levels(netlist)
    types = cell_types(netlist.cells)
    kinds: Counter[str] = Counter()
    for type_, count in types.items():
        kinds[kind(type_)] += count
    return Figures(
        config=name,
        queues=queues,
        lut=kinds["lut"],
        lutram=sum(LUTRAM_LUTS.get(type_, 0) * count for type_, count in types.items()),
        ff=kinds["ff"],
        bram36=sum(BRAM36.get(type_, 0) * count for type_, count in types.items()),
        uram=kinds["uram"],
        levels=levels.worst,
        port_levels=levels.port_levels(),
        histogram=levels.histogram(),
        room_levels=levels.rooms(),
        room_usage=rooms(netlist),
        worst_path=[path.text() for path in levels.paths(PATHS)],
        pairs=[
            f"{path.start_module or '(top)'} -> {path.end_module or '(top)'}, {count} ends\n"
            + path.text()
            for path, count in levels.pairs(above)
        ],
        memories=memories(rtlil, netlist, TOP),
        cells=types,
    )
