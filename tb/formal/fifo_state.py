"""What is always true inside a `StreamFIFO`, and what it holds: for proofs of whatever has one."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Assert, Module, Mux, Signal, Value

from formal.harness import at, implies, inside, plain


class FIFOState:
    """The content of a StreamFIFO.

    It is taken before the FIFO's container is converted; what is asserted here lets the proof of
    the container be an induction.
    """

    def __init__(self, m: Module, fifo: Any) -> None:
        """Look into the FIFO and assert that its registers agree with each other."""
        self._m = m
        self._fifo = fifo
        self._rooms = inside(fifo)
        self.level = fifo.level
        if "head" in self._rooms:
            self._shallow()
        elif "first" in self._rooms:
            self._deep()

    def _shallow(self) -> None:
        rooms, ring = self._rooms, self._fifo.depth - 1
        count = rooms["count"]
        self._counts(rooms["write"].addr, rooms["read"].addr, ring)
        self._m.d.comb += Assert(implies(count, rooms["head_valid"]))

    def _deep(self) -> None:
        rooms, depth = self._rooms, self._fifo.depth
        first = rooms["first"]
        self._counts(rooms["write"].addr, first, depth)
        self._m.d.comb += [
            Assert(rooms["second"] == _behind(first, 1, depth)),
            Assert(implies(rooms["some"], rooms["read"].data == at(self._m, self._memory, first))),
        ]

    @property
    def _memory(self) -> Any:
        return self._rooms["memory"]

    def _counts(self, write: Value, read: Value, depth: int) -> None:
        """Assert that the addresses are as far apart as the count says."""
        count = self._rooms["count"]
        apart = Signal(range(2 * depth))
        self._m.d.comb += [
            apart.eq(Mux(write >= read, write - read, write + depth - read)),
            Assert(write < depth),
            Assert(read < depth),
            Assert(Mux(write == read, (count == 0) | (count == depth), apart == count)),
            Assert(count <= depth),
            Assert(self._rooms["some"] == (count != 0)),
            Assert(self._fifo.input.ready == (count != depth)),
        ]

    def entry(self, place: Any) -> Value:
        """Return the entry with `place` others ahead of it; it is there if `place < level`."""
        rooms, depth = self._rooms, self._fifo.depth
        if "entry" in rooms:
            return plain(rooms["entry"])
        if "first" in rooms:
            return at(self._m, self._memory, _behind(rooms["first"], place, depth))
        behind_head = _behind(rooms["read"].addr, Value.cast(place) - 1, depth - 1)
        stored = at(self._m, self._memory, behind_head)
        return Mux(Value.cast(place) == 0, rooms["head"], stored)

    def rows(self) -> list[tuple[Value, Value]]:
        """Return all places where an entry can be, each with whether one is; in no order."""
        rooms, ring = self._rooms, self._fifo.depth - 1
        read, count = rooms["read"].addr, rooms["count"]
        places = [(rooms["head_valid"], rooms["head"])]
        for row in range(ring):
            ahead = Mux(read > row, ring + row - read, row - read)
            places.append((ahead < count, at(self._m, self._memory, row)))
        return places


def _behind(address: Value, offset: Any, depth: int) -> Value:
    """Return the address `offset` further in a circular memory."""
    return Mux(address + offset >= depth, address + offset - depth, address + offset)
