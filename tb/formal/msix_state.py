"""What is always true inside an `MSIX` of two vectors: for proofs that are inductions."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Assert, Module, Mux, Signal, Value

from formal.harness import at, implies, in_state, inside

VECTORS = 2
ROWS = 2


class MSIXState:
    """The registers and memories of an MSIX, and what they say of one vector.

    It is taken before the top module is converted; what is asserted here lets the proof be an
    induction.
    """

    def __init__(self, m: Module, dut: Any, vector: Value) -> None:
        """Look into the MSIX and assert that its registers agree with each other."""
        self._dut = dut
        self.rooms = rooms = inside(dut)
        self.table: Any = rooms["table"]
        memories = inside(self.table)
        self._sweep, self._bit = memories["sweep"], memories["bit"]
        self.unswept = rooms["clear_waits"] | self.table.busy
        #: Mask and pending bits: of the row with the vectors, of the other, and where it looks.
        places = (0, 1, rooms["row_index"])
        self.rows = [Signal(64, name=f"row_{place}") for place in ("first", "second", "looked_at")]
        for row, place in zip(self.rows, places, strict=True):
            m.d.comb += row.eq(at(m, memories["rows"], place))
        self.masked = self.rows[0][:32].bit_select(vector, 1)
        self.pending = self.rows[0][32:].bit_select(vector, 1)
        self.entry = Signal(96)
        m.d.comb += self.entry.eq(at(m, memories["entries"], vector))

        lookup, kind = self.state("LOOKUP"), Value.cast(rooms["operation"])
        #: The four operations: a register access; a scan; a vector that a scan has found is looked
        #: up; it is decided about a message.
        self.register = (lookup & (kind == 0)) | (self.state("REGISTER") & (kind == 0))
        self.reads_row = lookup & (kind == 2)
        later = self.state("SCAN") | self.state("SCAN_FOUND") | self.state("SCAN_VECTOR")
        self.scanning = self.reads_row | (later & (kind == 2))
        self.found = lookup & (kind == 1)
        self.deciding = self.state("MESSAGE")
        self.working = self.register | self.found | self.scanning | self.deciding
        self.mine = rooms["vector"] == vector
        self._memories(m, vector)
        self._operations(m)

    def state(self, name: str) -> Value:
        """Return whether the controller is in a state."""
        return in_state(self.rooms, "operation_state", name)

    def _memories(self, m: Module, vector: Value) -> None:
        """Assert what holds during a sweep, and that what lies past the table is never pending."""
        busy, sweep = self.table.busy, self._sweep
        m.d.comb += [
            Assert(implies(~busy | (sweep > 0), self.rows[0][32 + VECTORS :] == 0)),
            Assert(implies(~busy | (sweep > 1), self.rows[1][32:] == 0)),
            Assert(implies(busy & (sweep > 0), self.rows[0] == 0xFFFFFFFF)),
            Assert(implies(busy & (sweep > vector), self.entry == 0)),
            Assert(implies(busy, self.state("IDLE"))),
            Assert(Mux(busy, sweep < VECTORS, sweep == 0)),
        ]

    def _operations(self, m: Module) -> None:
        """Assert what the controller knows of what it does."""
        rooms, access = self.rooms, self.rooms["access"]
        row_index, vector, forget_left = rooms["row_index"], rooms["vector"], rooms["forget_left"]
        forgets = self.state("FORGET_LOOKUP") | self.state("FORGET")
        looked_at = self.rows[2]
        waiting, candidates = Signal(32), rooms["candidates"]
        m.d.comb += waiting.eq(looked_at[32:] & ~looked_at[:32])
        writes = self.state("REGISTER") | self.deciding
        knows_row = writes | self.state("SCAN") | self.state("FORGET")
        in_table = self.register & ~access.address[14]
        lowest = candidates == waiting & (~waiting + 1)
        m.d.comb += [
            Assert(self.working | self.state("IDLE") | forgets),
            Assert(implies(knows_row, Value.cast(self.table.row) == looked_at)),
            Assert(implies(self.deciding & self.mine, Value.cast(self.table.entry) == self.entry)),
            Assert(implies(writes, self._bit == (1 << vector[:5]))),
            Assert(implies(self.register, (access.address[15:] == 1) & ~access.address[:2].any())),
            Assert(implies(in_table, vector == access.address[4:14])),
            Assert(implies(in_table, row_index == access.address[9:14][0])),
            Assert(implies(self.deciding | self.found, (vector < VECTORS) & (row_index == 0))),
            Assert(implies(self.scanning | self.found, row_index == rooms["scan_row"])),
            Assert(implies(self.state("SCAN_FOUND"), candidates == waiting)),
            Assert(implies(self.state("SCAN_VECTOR"), candidates.any() & lowest)),
            Assert(implies(self.found, waiting.bit_select(vector[:5], 1))),
            Assert(rooms["scan_row"] < ROWS),
            Assert(rooms["scan_left"] <= ROWS),
            Assert(implies(self.scanning, rooms["scan_left"])),
            # The last row to be forgotten is the first.
            Assert(forget_left <= ROWS),
            Assert(implies(forgets, forget_left)),
            Assert(implies(forgets & (forget_left == 1), row_index == 0)),
            # One message at a time; reads wait for it, and for the answer to the one before.
            Assert(implies(self.scanning | self.found | self.deciding, ~self._dut.tlp.valid)),
            Assert(implies(self.register & ~access.write, ~self._dut.tlp.valid)),
            Assert(implies(self.register & ~access.write, ~self._dut.bus.response.valid)),
        ]
