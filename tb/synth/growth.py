"""What grows with the number of virtqueues."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from synth.memories import MappedMemory
from synth.run import Figures

_ROOMS = 20


@dataclass(frozen=True)
class Growth:
    """Two sizes of one configuration: (name, before, after) of what differs."""

    config: str
    queues: tuple[int, int]
    totals: list[tuple[str, float, float]]
    rooms: list[tuple[str, float, float]]
    memories: list[tuple[str, str, str]]

    @property
    def logic(self) -> dict[str, float]:
        """Growth of LUTs as logic and of flip-flops, as a share."""
        return {name: after / before - 1 for name, before, after in self.totals[:2]}

    def record(self) -> dict[str, Any]:
        """Return the growth as plain data."""
        return asdict(self) | {"logic": self.logic}


def _memory(memory: MappedMemory | None) -> str:
    return f"{memory.depth} x {memory.width}: {memory.mapping}" if memory else "none"


def compare(small: Figures, large: Figures) -> Growth:
    """Compare two sizes of a configuration."""
    rooms: list[tuple[str, float, float]] = []
    for index, what in enumerate(("LUT", "FF")):
        for room in sorted(set(small.room_usage) | set(large.room_usage)):
            before = small.room_usage.get(room, (0, 0))[index]
            after = large.room_usage.get(room, (0, 0))[index]
            if before != after:
                rooms.append((f"{what} {room}", before, after))
    rooms.sort(key=lambda line: line[1] - line[2])
    old = {memory.name: memory for memory in small.memories}
    new = {memory.name: memory for memory in large.memories}
    return Growth(
        config=small.config,
        queues=(small.queues, large.queues),
        totals=[
            ("LUT as logic", small.lut, large.lut),
            ("FF", small.ff, large.ff),
            ("LUT as memory", small.lutram, large.lutram),
            ("BRAM36", small.bram36, large.bram36),
            ("levels", small.levels, large.levels),
        ],
        rooms=rooms[:_ROOMS],
        memories=[
            (name, _memory(old.get(name)), _memory(new.get(name)))
            for name in sorted(set(old) | set(new))
            if _memory(old.get(name)) != _memory(new.get(name))
        ],
    )
