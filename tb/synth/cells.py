"""What each cell of a mapped Xilinx netlist is: its cost, and how its pins depend on each other.

`arcs` turns a combinational cell into edges with a price in LUT levels:

- LUT1 to LUT6: one level.
- CARRY4, CARRY8: entering a chain (S, DI, CYINIT, or CI from elsewhere than a carry) costs one
  level, moving along it nothing: a chain is one level, however long. The LUT in front of S is a
  level of its own, although it sits in the same slice.
- MUXF7, MUXF8, MUXF9: nothing beyond the LUTs they join. INV: nothing, it goes into a LUT.
- LUTRAM and shift registers: the read is one level, from the address as from the content.

Flip-flops, block RAM and UltraRAM are registers: their outputs start a path, their inputs end one.
Anything else is refused, so that no new kind of cell is counted as free.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

Node = int | tuple[str, int | str]
"""A bit of the netlist, or (cell, what) for a point inside of a cell."""

CLOCKS = frozenset(
    ("C", "CLK", "WCLK", "CLKARDCLK", "CLKBWRCLK", "CLKA", "CLKB", "CLK0", "CLK1", "G")
)

LUTRAM_LUTS = {
    "RAM32X1S": 1,
    "RAM32X1D": 2,
    "RAM64X1S": 1,
    "RAM64X1D": 2,
    "RAM128X1S": 2,
    "RAM128X1D": 4,
    "RAM256X1S": 4,
    "RAM256X1D": 8,
    "RAM512X1S": 8,
    "RAM32M": 4,
    "RAM64M": 4,
    "RAM32M16": 8,
    "RAM64M8": 8,
    "RAM32X16DR8": 8,
    "RAM64X8SW": 8,
    "SRL16E": 1,
    "SRLC16E": 1,
    "SRLC32E": 1,
}
"""LUTs that a cell of distributed memory occupies."""

BRAM36 = {"RAMB18E1": 0.5, "RAMB18E2": 0.5, "RAMB36E1": 1.0, "RAMB36E2": 1.0}
"""Block RAM in units of 36 Kib."""

_LUT = re.compile(r"LUT([1-6])$")
_FF = frozenset(("FDRE", "FDSE", "FDCE", "FDPE", "LDCE", "LDPE"))
_CARRY = {"CARRY4": 4, "CARRY8": 8}
_MUX = frozenset(("MUXF7", "MUXF8", "MUXF9"))
_FREE = frozenset(("INV", "BUF", "BUFG"))
_NOTHING = frozenset(("$scopeinfo", "VCC", "GND"))
# A shared-address RAM reads each output at its own address: DOA at ADDRA, DPO at DPRA, SPO at A.
_READ_ADDRESS = {"DPO": "DPRA", "SPO": "A", "O": "A", "Q": "A", "Q31": ""}


@dataclass(frozen=True)
class Cell:
    """One cell: its pins as port -> bits, constants left in as text.

    `module` is where the cell came from, None if mapping has forgotten that.
    """

    name: str
    type: str
    inputs: dict[str, list[Any]]
    outputs: dict[str, list[Any]]
    module: str | None = None


@dataclass(frozen=True)
class Arc:
    """A node that depends on others, each over a number of levels."""

    node: Node
    sources: list[tuple[Node, int]]


def kind(type_: str) -> str:
    """Return lut, ff, lutram, bram, uram, carry, mux, free, or empty for what does not count."""
    if _LUT.match(type_):
        return "lut"
    if type_ in _FF:
        return "ff"
    for members, name in (
        (LUTRAM_LUTS, "lutram"),
        (BRAM36, "bram"),
        (_CARRY, "carry"),
        (_MUX, "mux"),
        (_FREE, "free"),
        (_NOTHING, ""),
    ):
        if type_ in members:
            return name
    if type_.startswith("URAM288"):
        return "uram"
    raise ValueError(f"cell type {type_}: unknown to the path analysis")


def bits(values: Iterable[Any]) -> Iterator[int]:
    """Yield the bits that are nets, not constants."""
    return (bit for bit in values if isinstance(bit, int))


def arcs(cell: Cell, carry_outputs: set[int]) -> Iterator[Arc]:
    """Yield the arcs of a combinational cell; `carry_outputs` are the CO bits of all chains."""
    kind_ = kind(cell.type)
    if kind_ in ("lut", "mux", "free"):
        cost = int(kind_ == "lut")
        sources: list[tuple[Node, int]] = [
            (bit, cost) for pin in cell.inputs.values() for bit in bits(pin)
        ]
        for pin in cell.outputs.values():
            for bit in bits(pin):
                yield Arc(bit, sources)
    elif kind_ == "carry":
        yield from _carry_arcs(cell, carry_outputs)
    elif kind_ == "lutram":
        for port, pin in cell.outputs.items():
            address = _READ_ADDRESS.get(port)
            if address is None:
                address = f"ADDR{port[2:]}" if port.startswith("DO") else f"A{port[1:]}"
            read: list[tuple[Node, int]] = [((cell.name, "content"), 1)]
            for name, values in cell.inputs.items():
                # RAM32X1D and its like number the address pins: A0, A1, ... DPRA0, ...
                if address and (name == address or re.fullmatch(rf"{address}\d+", name)):
                    read += [(bit, 1) for bit in bits(values)]
            for bit in bits(pin):
                yield Arc(bit, read)


def _carry_arcs(cell: Cell, carry_outputs: set[int]) -> Iterator[Arc]:
    """Yield the arcs of a carry cell; (cell, i) is the carry out of position i."""
    size = _CARRY[cell.type]

    def at(port: str, index: int) -> list[int]:
        return list(bits(cell.inputs.get(port, [])[index : index + 1]))

    for i in range(size):
        into: list[tuple[Node, int]] = []
        if i:
            into.append(((cell.name, i - 1), 0))
        else:
            into += [(bit, int(bit not in carry_outputs)) for bit in at("CI", 0)]
            into += [(bit, 1) for bit in at("CYINIT", 0)]
        if i == 4:
            into += [(bit, int(bit not in carry_outputs)) for bit in at("CI_TOP", 0)]
        chosen: list[tuple[Node, int]] = [(bit, 1) for bit in at("S", i)]
        yield Arc((cell.name, i), into + chosen + [(bit, 1) for bit in at("DI", i)])
        for bit in bits(cell.outputs.get("O", [])[i : i + 1]):
            yield Arc(bit, into + chosen)
        for bit in bits(cell.outputs.get("CO", [])[i : i + 1]):
            yield Arc(bit, [((cell.name, i), 0)])


def starts(cell: Cell) -> list[Node]:
    """Return the nodes of a cell at which paths start."""
    if kind(cell.type) in ("ff", "bram", "uram"):
        return [bit for pin in cell.outputs.values() for bit in bits(pin)]
    if kind(cell.type) == "lutram":
        return [(cell.name, "content")]
    return []


def ends(cell: Cell) -> Iterator[tuple[str, int]]:
    """Yield the (port, bit) of a cell at which paths end: what a clock edge samples."""
    kind_ = kind(cell.type)
    if kind_ in ("ff", "bram", "uram", "lutram"):
        for port, pin in cell.inputs.items():
            if port in CLOCKS or (kind_ == "lutram" and not _sampled(cell, port)):
                continue
            for bit in bits(pin):
                yield port, bit


def _sampled(cell: Cell, port: str) -> bool:
    """Say whether a pin of a distributed memory is on its write side."""
    if cell.type.startswith("SRL"):
        return port in ("D", "CE")
    if port.startswith("ADDR"):
        # Of several addresses, the last is where the memory writes.
        return port == max(name for name in cell.inputs if name.startswith("ADDR"))
    return not port.startswith("DPRA")
