"""A mapped netlist as Yosys writes it in JSON: cells, ports, and names for its bits."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from synth.cells import Cell

_MODULE = re.compile(r"^module \\(\S+)$", re.M)
_INPUT = re.compile(r"^  wire (?:width \d+ )?input \d+ (?:signed )?\\(\S+)$", re.M)
_CELL = re.compile(r"^(?=  cell )", re.M)
_MARK = "module:"


def mark_modules(rtlil: str, top: str) -> str:
    """Note in each cell which module it is in, as its place in the source.

    Flattening keeps only one of the names of a net, and mapping renames cells; but a place in the
    source stays with flip-flops and carry chains to the end.
    """
    parts = re.split(r"^(?=module \\)", rtlil, flags=re.M)
    for index, part in enumerate(parts):
        if found := _MODULE.match(part):
            path = "" if found[1] == top else found[1].removeprefix(top + ".")
            attribute = f'  attribute \\src "{_MARK}{path}"\n'
            parts[index] = _CELL.sub(lambda _, text=attribute: text, part)
    return "".join(parts)


class Hierarchy:
    """Which modules there were before flattening, and which of their signals were inputs.

    Taken from the RTLIL that Amaranth wrote: it names a module after its place in the hierarchy.
    """

    def __init__(self, rtlil: str = "", top: str = "virtio_device") -> None:
        self.modules: set[str] = set()
        self.inputs: set[str] = set()
        parts = _MODULE.split(rtlil)
        for name, body in zip(parts[1::2], parts[2::2], strict=True):
            if name == top:
                path = ""
            else:
                path = name.removeprefix(top + ".")
                self.modules.add(path)
            self.inputs |= {f"{path}.{port}" if path else port for port in _INPUT.findall(body)}

    def split(self, name: str) -> tuple[str, str]:
        """Split a flattened name into the module it is from and its name there."""
        module, rest = "", name
        head, dot, tail = name.partition(".")
        path = head
        while dot and path in self.modules:
            module, rest = path, tail
            head, dot, tail = tail.partition(".")
            path = f"{path}.{head}"
        return module, rest

    def room(self, name: str, depth: int = 2) -> str:
        """Return the first levels of the module that a name is from."""
        return ".".join(self.split(name)[0].split(".")[:depth]) or "(top)"

    def is_input(self, name: str) -> bool:
        """Say whether a name is that of an input of its module, or of a part of one."""
        module, rest = self.split(name)
        base = re.split(r"[.\[]", rest, maxsplit=1)[0]
        return (f"{module}.{base}" if module else base) in self.inputs


class Netlist:
    """The top module of a JSON netlist, flattened and mapped."""

    def __init__(self, design: dict[str, Any], hierarchy: Hierarchy, top: str) -> None:
        module = design["modules"][top]
        self.hierarchy = hierarchy
        self.cells = [_cell(name, cell) for name, cell in module["cells"].items()]
        self.ports: dict[str, tuple[str, list[Any]]] = {
            name: (port["direction"], port["bits"]) for name, port in module["ports"].items()
        }
        self._wires: dict[str, list[Any]] = {
            name: wire["bits"]
            for name, wire in module["netnames"].items()
            if not wire["hide_name"] and not name.startswith("$")
        }
        self._names: dict[int, str] | None = None

    def has_wire(self, name: str) -> bool:
        """Say whether there is a net of this name."""
        return name in self._wires

    def name(self, bit: int) -> str:
        """Return the most telling name of a bit, or an empty text if it has none.

        A net has a name in every module that it passes. The best is where it comes from: not an
        input there, and deepest.
        """
        if self._names is None:
            self._names = self._choose()
        return self._names.get(bit, "")

    def _choose(self) -> dict[int, str]:
        best: dict[int, tuple[tuple[Any, ...], str]] = {}
        for name, wire in self._wires.items():
            module, rest = self.hierarchy.split(name)
            foreign = self.hierarchy.is_input(name)
            depth = module.count(".") + 1 if module else 0
            # Inputs: the outermost is nearest to the source.
            rank = (foreign, depth if foreign else -depth, rest.count("."), len(rest), rest)
            for index, bit in enumerate(wire):
                if isinstance(bit, int) and (bit not in best or rank < best[bit][0]):
                    best[bit] = rank, f"{name}[{index}]" if len(wire) > 1 else name
        return {bit: name for bit, (_, name) in best.items()}


def _cell(name: str, cell: dict[str, Any]) -> Cell:
    pins = cell["connections"]
    directions = cell["port_directions"]

    def side(wanted: str) -> dict[str, list[Any]]:
        return {port: values for port, values in pins.items() if directions[port] == wanted}

    sources = cell.get("attributes", {}).get("src", "").split("|")
    module = next((s.removeprefix(_MARK) for s in sources if s.startswith(_MARK)), None)
    return Cell(name, cell["type"], side("input"), side("output"), module)


def cell_types(cells: Iterable[Cell]) -> dict[str, int]:
    """Count the cells of each type."""
    counts: dict[str, int] = {}
    for cell in cells:
        counts[cell.type] = counts.get(cell.type, 0) + 1
    return dict(sorted(counts.items()))
