"""LUTs and flip-flops of each room of a flattened design."""

from __future__ import annotations

from collections import Counter

from synth.cells import bits, kind
from synth.netlist import Netlist


def rooms(netlist: Netlist, depth: int = 2) -> dict[str, tuple[int, int]]:
    """Return room -> (LUTs as logic, flip-flops).

    A mapped LUT has no name, so it counts for the room of the net that it drives, or, where that
    has none, of the first cell behind it that is in a known room: right for most, exact for none.
    """
    hierarchy = netlist.hierarchy
    user: dict[int, int] = {}
    for index, cell in enumerate(netlist.cells):
        for pin in cell.inputs.values():
            for bit in bits(pin):
                user.setdefault(bit, index)
    known: dict[int, str] = {}

    def output(index: int) -> int | None:
        pins = netlist.cells[index].outputs.values()
        return next((bit for pin in pins for bit in bits(pin)), None)

    def room(index: int) -> str:
        passed: list[int] = []
        found = ""
        at: int | None = index
        while at is not None and not found:
            if at in known:
                found = known[at]
                break
            cell, bit = netlist.cells[at], output(at)
            passed.append(at)
            if cell.module is not None:
                found = ".".join(cell.module.split(".")[:depth]) or "(top)"
            elif kind(cell.type) in ("lutram", "bram", "uram"):
                found = hierarchy.room(cell.name, depth)
            elif bit is not None and (name := netlist.name(bit)):
                found = hierarchy.room(name, depth)
            at = user.get(bit) if bit is not None and kind(cell.type) != "ff" else None
            if at in passed:
                at = None
        for cell_index in passed:
            known[cell_index] = found or "(unknown)"
        return found or "(unknown)"

    luts: Counter[str] = Counter()
    flops: Counter[str] = Counter()
    for index, cell in enumerate(netlist.cells):
        if kind(cell.type) == "lut":
            luts[room(index)] += 1
        elif kind(cell.type) == "ff":
            flops[room(index)] += 1
    return {name: (luts[name], flops[name]) for name in sorted(set(luts) | set(flops))}
