"""The longest paths of a netlist, in LUT levels.

Every node gets two levels: the longest path to it that starts at a register, and the longest that
starts at a port of the top module. `synth.cells` says what costs how much.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from synth.cells import Cell, Node, arcs, bits, ends, kind, starts
from synth.netlist import Netlist

_UNREACHED = -1


class CombinationalLoop(Exception):
    """Logic that depends on itself; the message names the nets."""


@dataclass(frozen=True)
class Step:
    """A cell on a path: its type, the net it drives, and the level reached there."""

    type: str
    net: str
    level: int


@dataclass(frozen=True)
class Path:
    """One path: where it starts, what it passes, where it ends, and how many levels that is."""

    levels: int
    start: str
    steps: list[Step]
    end: str
    start_module: str
    end_module: str

    @property
    def muxes(self) -> int:
        """MUXF7 to MUXF9 on the path, which count nothing."""
        return sum(kind(step.type) == "mux" for step in self.steps)

    def text(self) -> str:
        """Return the path, one line a cell."""
        muxes = f", {self.muxes} MUXF" if self.muxes else ""
        lines = [f"{self.levels} levels{muxes}: {self.start} -> {self.end}"]
        lines += [f"    {step.level:3} {step.type:8} {step.net}" for step in self.steps]
        return "\n".join(lines)


@dataclass(frozen=True)
class _End:
    """A place where paths end."""

    levels: int
    bit: int
    name: str
    module: str


class Levels:
    """Levels of all nodes of a netlist, and its paths by length."""

    def __init__(self, netlist: Netlist) -> None:
        self._netlist = netlist
        self._driver: dict[Node, Cell] = {}
        self._sources: dict[Node, list[tuple[Node, int]]] = {}
        self._registers: dict[Node, Cell] = {}
        self._ports: set[Node] = set()
        carries = {
            bit
            for cell in netlist.cells
            if kind(cell.type) == "carry"
            for bit in bits(cell.outputs.get("CO", []))
        }
        for cell in netlist.cells:
            for arc in arcs(cell, carries):
                self._driver[arc.node] = cell
                self._sources[arc.node] = arc.sources
            for node in starts(cell):
                self._registers[node] = cell
        for direction, pins in netlist.ports.values():
            if direction == "input":
                self._ports |= set(bits(pins))
        self._order = self._sorted()
        self.from_register = self._longest(self._registers)
        self.from_port = self._longest(self._ports)
        self._ends = self._all_ends()

    def histogram(self) -> dict[int, int]:
        """Return levels -> number of register bits and memory pins that so long a path reaches."""
        return dict(sorted(Counter(end.levels for end in self._ends).items()))

    @property
    def worst(self) -> int:
        """Levels of the longest path from register to register."""
        return max((end.levels for end in self._ends), default=0)

    def paths(self, limit: int) -> list[Path]:
        """Return the longest path of each register bit, worst first; at most `limit`."""
        ordered = sorted(self._ends, key=lambda end: (-end.levels, end.name))
        return [self._path(end) for end in ordered[:limit]]

    def rooms(self) -> dict[str, tuple[int, int]]:
        """Return room -> (levels of its worst end, number of ends with that many)."""
        found: dict[str, Counter[int]] = {}
        for end in self._ends:
            room = ".".join(end.module.split(".")[:2]) or "(top)"
            found.setdefault(room, Counter())[end.levels] += 1
        worst = {room: max(counts.items()) for room, counts in found.items()}
        return dict(sorted(worst.items(), key=lambda item: (-item[1][0], item[0])))

    def pairs(self, above: int) -> list[tuple[Path, int]]:
        """Return one path for each pair of modules (start, end) above a limit, and how many ends.

        Only the longest path of each end counts: a shorter one from elsewhere does not appear.
        """
        found: dict[tuple[str, str], tuple[Path, int]] = {}
        for end in sorted(self._ends, key=lambda end: (-end.levels, end.name)):
            if end.levels <= above:
                break
            path = self._path(end)
            key = path.start_module, path.end_module
            first, count = found.get(key, (path, 0))
            found[key] = first, count + 1
        return sorted(found.values(), key=lambda item: -item[0].levels)

    def port_levels(self) -> dict[str, int]:
        """Return the longest paths that start or end at a port of the top module."""
        outputs = {
            bit
            for direction, pins in self._netlist.ports.values()
            if direction == "output"
            for bit in bits(pins)
        }
        inner = {bit for cell in self._netlist.cells for _, bit in ends(cell)}

        def worst(levels: dict[Node, int], nodes: set[int]) -> int:
            return max((levels.get(node, _UNREACHED) for node in nodes), default=_UNREACHED)

        return {
            "port to register": max(0, worst(self.from_port, inner)),
            "register to port": max(0, worst(self.from_register, outputs)),
            "port to port": max(0, worst(self.from_port, outputs)),
        }

    def _sorted(self) -> list[Node]:
        """Return the combinational nodes, each behind those that it depends on."""
        waiting: dict[Node, int] = {}
        users: dict[Node, list[Node]] = {}
        for node, sources in self._sources.items():
            inside = [source for source, _ in sources if source in self._sources]
            waiting[node] = len(inside)
            for source in inside:
                users.setdefault(source, []).append(node)
        ready = [node for node, count in waiting.items() if not count]
        order = []
        while ready:
            node = ready.pop()
            order.append(node)
            for user in users.get(node, ()):
                waiting[user] -= 1
                if not waiting[user]:
                    ready.append(user)
        if len(order) < len(self._sources):
            nets = {self._label(node) for node, count in waiting.items() if count}
            raise CombinationalLoop(", ".join(sorted(nets)[:20]))
        return order

    def _longest(self, begin: dict[Node, Cell] | set[Node]) -> dict[Node, int]:
        levels: dict[Node, int] = dict.fromkeys(begin, 0)
        for node in self._order:
            best = _UNREACHED
            for source, cost in self._sources[node]:
                level = levels.get(source, _UNREACHED)
                if level != _UNREACHED and level + cost > best:
                    best = level + cost
            if best != _UNREACHED:
                levels[node] = best
        return levels

    def _all_ends(self) -> list[_End]:
        """Return one end for each flip-flop (its worst pin) and one for each pin of a memory."""
        found = []
        for cell in self._netlist.cells:
            reached = [
                (self.from_register[bit], port, bit)
                for port, bit in ends(cell)
                if bit in self.from_register
            ]
            if not reached:
                continue
            own, module = self._place(cell)
            if kind(cell.type) == "ff":
                reached = [max(reached)]
            found += [_End(level, bit, f"{own}.{port}", module) for level, port, bit in reached]
        return found

    def _path(self, end: _End) -> Path:
        steps: list[Step] = []
        node: Node = end.bit
        while node not in self._registers:
            level = self.from_register[node]
            cell = self._driver[node]
            if not steps or isinstance(node, int):
                where = f"(in {cell.module})" if cell.module else ""
                steps.append(Step(cell.type, self._label(node) or where, level))
            node = next(
                source
                for source, cost in self._sources[node]
                if self.from_register.get(source, _UNREACHED) == level - cost
            )
        cell = self._registers[node]
        start, module = self._place(cell)
        if kind(cell.type) != "ff":
            start += f" ({cell.type})"
        return Path(end.levels, start, steps[::-1], end.name, module, end.module)

    def _place(self, cell: Cell) -> tuple[str, str]:
        """Name a register after what it drives, a memory after itself; and say where it is."""
        name = cell.name
        if kind(cell.type) == "ff":
            name = self._netlist.name(next(bits(cell.outputs["Q"]))) or name
        module = self._netlist.hierarchy.split(name)[0]
        if kind(cell.type) == "ff" and cell.module is not None and cell.module != module:
            # The net is called after one of the modules that it passes.
            return f"{name} (in {cell.module or 'top'})", cell.module
        return name, module

    def _label(self, node: Node) -> str:
        return self._netlist.name(node) if isinstance(node, int) else str(node[0])
