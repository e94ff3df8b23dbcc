"""The path analysis of `make synth`, on netlists made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from synth.growth import compare
from synth.levels import CombinationalLoop, Levels
from synth.netlist import Hierarchy, Netlist, mark_modules
from synth.run import analyse
from synth.yosys import TOP

RTLIL = f"""\
module \\{TOP}
  wire width 2 input 0 \\data
  wire width 2 \\fetched
end
module \\{TOP}.fetch
  wire input 0 \\go
  wire width 2 output 1 \\result
  memory width 8 size 64 \\store
  memory width 3 size 4 \\small
  cell $dff $1
  end
end
module \\{TOP}.fetch.issue
  wire width 2 \\count
end
"""


class Design:
    """A netlist in the making: bits are named, cells are added one by one."""

    def __init__(self) -> None:
        self._bits: dict[str, int] = {}
        self._cells: dict[str, Any] = {}
        self._ports: dict[str, Any] = {}
        self._names: dict[str, Any] = {}

    def bit(self, name: str) -> int | str:
        """Return the number of a bit; constants stay as they are."""
        return name if name in "01x" else self._bits.setdefault(name, len(self._bits) + 2)

    def cell(self, type_: str, name: str = "", src: str = "", **pins: str) -> None:
        """Add a cell; a pin is a list of bits, the least first, and outputs are O, Q, CO, DO..."""
        self._cells[name or f"${len(self._cells)}"] = {
            "type": type_,
            "attributes": {"src": src} if src else {},
            "connections": {
                port: [self.bit(bit) for bit in bits.split()] for port, bits in pins.items()
            },
            "port_directions": {
                port: "output" if port[0] in "OQ" or port[:2] in ("CO", "DO") else "input"
                for port in pins
            },
        }

    def ff(self, q: str, d: str, **pins: str) -> None:
        """Add a flip-flop."""
        self.cell("FDRE", C="clk", D=d, Q=q, **{"CE": "1", "R": "0", **pins})

    def lut(self, out: str, *inputs: str) -> None:
        """Add a LUT."""
        pins = {f"I{index}": name for index, name in enumerate(inputs)}
        self.cell(f"LUT{len(inputs)}", O=out, **pins)

    def port(self, name: str, direction: str, bits: str) -> None:
        """Add a port of the top module."""
        numbers = [self.bit(bit) for bit in bits.split()]
        self._ports[name] = {"direction": direction, "bits": numbers}

    def net(self, name: str, bits: str) -> None:
        """Give a name to bits."""
        numbers = [self.bit(bit) for bit in bits.split()]
        self._names[name] = {"hide_name": 0, "bits": numbers, "attributes": {}}

    def json(self) -> dict[str, Any]:
        """Return what Yosys would write."""
        module = {"ports": self._ports, "cells": self._cells, "netnames": self._names}
        return {"modules": {TOP: module}}

    def levels(self) -> Levels:
        """Analyse the design."""
        return Levels(Netlist(self.json(), Hierarchy(RTLIL, TOP), TOP))


def test_luts_in_a_row() -> None:
    design = Design()
    design.ff("a", "0")
    design.lut("b", "a")
    design.lut("c", "b", "a")
    design.lut("d", "c", "a", "0", "b", "1", "a")
    design.ff("e", "d")
    design.ff("f", "a")
    levels = design.levels()
    assert levels.worst == 3
    assert levels.histogram() == {0: 1, 3: 1}
    [path, _] = levels.paths(5)
    assert [(step.type, step.level) for step in path.steps] == [
        ("LUT1", 1),
        ("LUT2", 2),
        ("LUT6", 3),
    ]
    assert path.muxes == 0


@pytest.mark.parametrize("pin", ["CE", "R"])
def test_clock_enable_is_an_end(pin: str) -> None:
    design = Design()
    design.ff("a", "0")
    design.lut("b", "a")
    design.lut("c", "b")
    design.ff("d", "b", **{pin: "c"})
    levels = design.levels()
    assert levels.histogram() == {2: 1}  # one register bit, with its worst pin
    assert levels.paths(1)[0].end.endswith(f".{pin}")


def _chain(design: Design, cells: int, name: str = "s", entry: str = "a") -> str:
    """Add an adder of 4 bits a cell whose lowest bit comes from `entry`; return its top sum."""
    into = "0"
    for index in range(cells):
        select = " ".join([entry if index == 0 else "0", "0", "0", "0"])
        sums = " ".join(f"{name}{4 * index + i}" for i in range(4))
        carries = " ".join(f"{name}c{4 * index + i}" for i in range(4))
        design.cell("CARRY4", CI=into, CYINIT="0", S=select, DI="0 0 0 0", O=sums, CO=carries)
        into = f"{name}c{4 * index + 3}"
    return f"{name}{4 * cells - 1}"


@pytest.mark.parametrize("cells", [1, 2, 16])
def test_a_carry_chain_is_one_level(cells: int) -> None:
    design = Design()
    design.ff("r", "0")
    design.lut("a", "r")
    design.ff("q", _chain(design, cells))
    levels = design.levels()
    assert levels.worst == 2  # the LUT in front of S, and the chain
    [path] = levels.paths(5)
    assert [step.type for step in path.steps] == ["LUT1"] + cells * ["CARRY4"]


def test_two_carry_chains_are_two_levels() -> None:
    design = Design()
    design.ff("a", "0")
    first = _chain(design, 3)
    second = _chain(design, 2, "t", first)
    design.lut("u", second)
    design.ff("q", "u")
    assert design.levels().worst == 3

    design = Design()
    design.ff("a", "0")
    design.lut("b", "a")
    # A chain that begins with a carry in from a LUT is entered there.
    design.cell("CARRY8", CI="b", S="0 0 0 0 0 0 0 0", DI="0 0 0 0 0 0 0 0", CO="x x x x x x x c")
    design.ff("q", "c")
    assert design.levels().worst == 2


def test_carry_sum_does_not_depend_on_its_own_generate() -> None:
    design = Design()
    design.ff("a", "0")
    design.lut("b", "a")
    design.lut("c", "b")
    design.cell("CARRY4", CI="0", S="a 0 0 0", DI="c 0 0 0", O="s x x x", CO="d x x x")
    design.ff("sum", "s")
    design.ff("carry", "d")
    assert design.levels().histogram() == {1: 1, 3: 1}


def test_wide_muxes_and_inverters_are_free() -> None:
    design = Design()
    design.ff("a", "0")
    design.cell("INV", I="a", O="n")
    design.lut("b", "n")
    design.lut("c", "a")
    design.cell("MUXF7", I0="b", I1="c", S="a", O="m")
    design.cell("MUXF8", I0="m", I1="0", S="n", O="w")
    design.ff("q", "w")
    levels = design.levels()
    assert levels.worst == 1
    assert levels.paths(1)[0].muxes == 2
    assert "2 MUXF" in levels.paths(1)[0].text()


def test_distributed_ram() -> None:
    design = Design()
    design.ff("r", "0")
    design.lut("read", "r")
    design.lut("w1", "r")
    design.lut("w2", "w1")
    design.lut("w3", "w2")
    design.cell(
        "RAM64M8", "fetch.store.0.0", ADDRA="read", ADDRH="w3", DIA="w1", DOA="x0", WE="r",
        WCLK="clk", ADDRB="0", DOB="x1",
    )  # fmt: skip
    design.lut("y", "x0")
    design.ff("q", "y")
    design.ff("p", "x1")
    levels = design.levels()
    # Read: LUT, memory, LUT. The content is a register: what is read at a constant is one level.
    # Ends: q, p, write address, data and enable, each pin for itself.
    assert levels.histogram() == {0: 1, 1: 2, 3: 2}
    assert [p.end_module for p in levels.paths(9) if p.end.startswith("fetch.store")] == [
        "fetch"
    ] * 3

    design = Design()
    design.ff("r", "0")
    design.lut("read", "r")
    design.cell("RAM32X1D", A0="r", A1="0", DPRA0="read", DPRA1="0", D="r", WE="1", WCLK="clk",
                O="x0")  # fmt: skip
    design.cell("SRLC32E", A="read", D="read", CE="1", CLK="clk", Q="x1", Q31="x2")
    for name in ("x0", "x1", "x2"):
        design.ff(f"q{name}", name)
    # A0 and D of the memory 0, D of the shift register 1; x0 is the read at A0, x2 has no address.
    assert design.levels().histogram() == {0: 2, 1: 3, 2: 1}


def test_block_ram() -> None:
    design = Design()
    design.ff("r", "0")
    design.lut("a", "r")
    design.cell("RAMB18E2", "fetch.store.0.0", ADDRARDADDR="a r", DINADIN="r 1", CLKARDCLK="clk",
                DOUTADOUT="d e")  # fmt: skip
    design.lut("b", "d")
    design.lut("c", "b")
    design.ff("q", "c")
    levels = design.levels()
    assert levels.histogram() == {0: 2, 1: 1, 2: 1}
    path = levels.paths(1)[0]
    assert path.start == "fetch.store.0.0 (RAMB18E2)"
    assert path.start_module == "fetch"


def test_ports_are_apart() -> None:
    design = Design()
    design.port("clk", "input", "clk")
    design.port("i", "input", "i")
    design.port("o", "output", "o p")
    design.lut("a", "i")
    design.lut("b", "a")
    design.ff("q", "b")
    design.lut("c", "q")
    design.lut("o", "c", "a")
    design.lut("d", "a")
    design.lut("e", "d")
    design.lut("p", "e")
    levels = design.levels()
    assert levels.worst == 0
    assert levels.histogram() == {}
    assert levels.port_levels() == {
        "port to register": 2,
        "register to port": 2,
        "port to port": 4,
    }


def test_loops_are_refused() -> None:
    design = Design()
    design.lut("a", "b")
    design.lut("b", "a")
    design.net("fetch.round", "a")
    with pytest.raises(CombinationalLoop, match=r"fetch\.round"):
        design.levels()


def test_unknown_cells_are_refused() -> None:
    design = Design()
    design.cell("DSP48E2", A="a", O="p")
    with pytest.raises(ValueError, match="DSP48E2"):
        design.levels()


def test_names_and_rooms() -> None:
    design = Design()
    design.ff("a", "0")
    design.lut("b", "a")
    design.ff("c0", "b")
    design.ff("c1", "b")
    design.ff("t", "b")
    # A net has a name wherever it passes: the source is neither an input nor the parent's.
    design.net("fetched", "c0 c1")
    design.net("fetch.result", "c0 c1")
    design.net("fetch.issue.count", "c0 c1")
    design.net("fetch.go", "t")
    design.net("fetch.go.part", "t")
    design.net("data", "t")
    levels = design.levels()
    assert {path.end: path.end_module for path in levels.paths(9)} == {
        "fetch.issue.count[0].D": "fetch.issue",
        "fetch.issue.count[1].D": "fetch.issue",
        "data.D": "",
    }
    assert levels.rooms() == {"(top)": (1, 1), "fetch.issue": (1, 2)}
    [(first, two), (top, one)] = levels.pairs(0)
    assert (first.end_module, two, top.end_module, one) in (
        ("fetch.issue", 2, "", 1),
        ("", 1, "fetch.issue", 2),
    )
    assert levels.pairs(1) == []


def test_marks_survive() -> None:
    marked = mark_modules(RTLIL, TOP)
    assert '  attribute \\src "module:fetch"\n  cell $dff $1\n' in marked
    design = Design()
    design.ff("a", "0")
    design.cell("FDRE", src="/share/ff_map.v:1|module:fetch.issue", C="clk", D="a", Q="b")
    design.net("fetched", "b")
    [path] = design.levels().paths(9)
    assert path.end == "fetched (in fetch.issue).D"
    assert path.end_module == "fetch.issue"


def _design(luts: int, blocks: int) -> Design:
    design = Design()
    design.ff("a", "0")
    for index in range(luts):
        design.lut(f"l{index}", "a")
        design.ff(f"f{index}", f"l{index}")
        design.net(f"fetch.f{index}", f"f{index}")
    for index in range(blocks):
        design.cell("RAMB18E2", f"fetch.store.0.{index}", DINADIN="a", DOUTADOUT=f"d{index}")
    design.cell("RAM64M8", "fetch.issue.other.0.0", ADDRA="a", ADDRH="a", DIA="a", DOA="o")
    return design


def test_figures_and_memories() -> None:
    design = _design(3, 3)
    design.net("fetch.small[0]", "f0")
    figures = analyse(design.json(), RTLIL, "tiny", queues=2)
    assert (figures.lut, figures.ff, figures.lutram, figures.bram36) == (3, 4, 8, 1.5)
    assert (figures.levels, figures.queues, figures.config) == (1, 2, "tiny")
    assert figures.room_usage == {"fetch": (3, 3), "(unknown)": (0, 1)}
    store = next(memory for memory in figures.memories if memory.name == "fetch.store")
    assert (store.depth, store.width, store.mapping, store.bram36) == (64, 8, "3 RAMB18E2", 1.5)
    small = next(memory for memory in figures.memories if memory.name == "fetch.small")
    assert (small.mapping, small.luts) == ("flip-flops", 0)


def test_growth() -> None:
    small = analyse(_design(4, 1).json(), RTLIL, "tiny", queues=2)
    large = analyse(_design(5, 3).json(), RTLIL, "tiny, 256 queues", queues=256)
    growth = compare(small, large)
    assert growth.logic == pytest.approx({"LUT as logic": 0.25, "FF": 0.2})
    assert growth.queues == (2, 256)
    assert ("LUT fetch", 4, 5) in growth.rooms
    assert growth.memories == [("fetch.store", "64 x 8: 1 RAMB18E2", "64 x 8: 3 RAMB18E2")]
