"""A buffer that the device may hold, as the monitor read it from the ring."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate

from lib.ring_monitor.regions import Kind

__all__ = ["Buffer", "Element"]


@dataclass(frozen=True)
class Element:
    """One stretch of a buffer."""

    address: int
    length: int
    writable: bool


@dataclass
class Buffer:
    """A buffer: its elements, its descriptors, and what the device has written of it.

    `id` names it in a used entry. `slots` are the places in the descriptor area that it holds.
    """

    id: int
    slots: list[int]
    elements: list[Element] = field(default_factory=list)
    tables: list[tuple[int, int]] = field(default_factory=list)
    ring_slot: int = 0
    written: list[tuple[int, int]] = field(default_factory=list)

    @property
    def capacity(self) -> int:
        """Writable bytes."""
        return sum(element.length for element in self.elements if element.writable)

    @property
    def misordered(self) -> bool:
        """Whether a readable element follows a writable one."""
        flags = [element.writable for element in self.elements]
        return flags != sorted(flags)

    def stretches(self) -> Iterator[tuple[int, int, Kind, int]]:
        """(start, end, kind, offset among the writable bytes) of all memory of the buffer."""
        for address, length in self.tables:
            yield address, address + length, Kind.TABLE, 0
        lengths = [element.length if element.writable else 0 for element in self.elements]
        offsets = accumulate([0, *lengths])
        for element, offset in zip(self.elements, offsets):
            kind = Kind.WRITABLE if element.writable else Kind.READABLE
            yield element.address, element.address + element.length, kind, offset

    def wrote(self, start: int, end: int) -> None:
        """The device has written [start, end) of the writable bytes."""
        if self.written and self.written[-1][1] == start:
            start = self.written.pop()[0]
        self.written.append((start, end))

    @property
    def prefix(self) -> int:
        """Bytes written from the first writable one on, without a gap."""
        reach = 0
        for start, end in sorted(self.written):
            if start > reach:
                break
            reach = max(reach, end)
        return reach
