"""MSI-X: masks, pending bits, no message lost or made up, and none that waits forever."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Assert, Cover, Module, Mux, Signal, Value

from formal.harness import before, implies, taken
from formal.msix_watch import MSIXWatch
from formal.proof import Mutant, proof

_FILE = "pcie/msix.py"
_TABLE_FILE = "pcie/msix_table.py"


@proof(
    "MSIX: masked, disabled or held, nothing is sent; what is sent was asked for; what was "
    "asked is kept, but for what is cleared, forgotten or stopped",
    depth=2,
    cover=20,
    mutant_depth=16,
    sizes="2 vectors, either of them; any accesses, masks, enables, strobes and stalls",
    mutants=[
        Mutant(_FILE, "with m.If(allowed & ~table.masked):", "with m.If(allowed):"),
        Mutant(_FILE, "with m.If(allowed & ~table.masked):", "with m.If(~table.masked):"),
        Mutant(_FILE, "table.set_pending.eq(self.control.msix_enable)", "table.set_pending.eq(0)"),
        Mutant(_FILE, "            & ~self.hold\n", ""),
        Mutant(_FILE, "message.offer.eq(~self.stop)", "message.offer.eq(1)"),
        Mutant(_FILE, "forget_left.eq(forget_left - 1)", "forget_left.eq(0)"),
        Mutant(_FILE, "with m.If(self.forget):", "with m.If(self.forget & idle):"),
        Mutant(_FILE, "with m.If(self.clear):", "with m.If(self.clear & idle):"),
        Mutant(
            _FILE,
            "self.busy.eq(clear_waits | table.busy | (forget_left != 0))",
            "self.busy.eq(clear_waits | table.busy)",
        ),
        Mutant(
            _TABLE_FILE,
            "Mux(self.clear_pending, self.row.pending & ~bit, self.row.pending)",
            "Mux(self.clear_pending, 0, self.row.pending)",
        ),
        Mutant(_TABLE_FILE, "row_write.data.pending.eq(0)", "row_write.data.masked.eq(0)"),
        Mutant(_TABLE_FILE, "row_write.data.masked.eq(~0)", "row_write.data.masked.eq(0)"),
        Mutant(_TABLE_FILE, "entry_write.en.eq(~0)", "entry_write.en.eq(0)"),
    ],
)
def msix_keeps(m: Module) -> None:
    """Whatever the driver, the device, the link and the resets do. [PCI 3.0 §6.8.2]"""
    watch = MSIXWatch(m)
    dut, busy = watch.dut, watch.dut.busy
    begins = dut.tlp.valid & ~before(m, dut.tlp.valid & ~dut.tlp.ready)
    was_sent = before(m, watch.sent & ~busy)
    header = dut.tlp.payload.header
    message = Mux(
        watch.word == 2, dut.tlp.payload.data[:32], header.address.word_select(watch.word[0], 32)
    )
    answers = dut.bus.response.valid & ~before(m, dut.bus.response.valid)
    decided = watch.mine & watch.allowed & ~watch.masked & (watch.asking | watch.owed)
    m.d.comb += [
        Assert(implies(begins, before(m, watch.allowed)), "sent though the function may not"),
        Assert(implies(begins, ~before(m, dut.stop)), "sent though stopped"),
        Assert(implies(watch.sent, ~watch.masked | (busy & watch.cleared)), "sent though masked"),
        Assert(
            implies(watch.sent, Mux(busy, watch.late, watch.owed | watch.asking)),
            "nobody asked for it, or it was forgotten",
        ),
        Assert(implies(decided, watch.sent | dut.stop), "not sent"),
        Assert(implies(before(m, watch.sent), begins), "not offered"),
        Assert(implies(was_sent, message == before(m, watch.said)), "another message"),
        Assert(implies(watch.sent, ~dut.tlp.valid), "an offer is overwritten"),
        Assert(implies(answers, ~dut.tlp.valid), "a read does not wait for the message"),
        Assert(implies(busy, ~dut.request.ready & ~dut.bus.request.ready), "begun too early"),
        Cover(watch.sent),
        Cover(watch.owed & watch.state.pending & watch.masked),
        Cover(watch.sent & before(m, before(m, before(m, watch.owed)))),
        Cover(before(m, busy & watch.state.pending & ~watch.masked) & ~busy),
        Cover(watch.sent & busy),
        Cover(decided & dut.stop),
    ]


_REGISTER, _REQUEST, _EMPTY, _FOUND = 3, 2, 4, 7
"""Cycles of the operations: an access, a request, a scan in vain, one that ends in a message."""

_SEND = 1
"""A cycle in which the next operation may wait for a message that is taken."""

_BOUND = 52


def _left(m: Module, watch: MSIXWatch) -> Signal:
    """Return how many cycles it takes at most until a pending and unmasked vector is decided.

    Between two scans there are an access, a request and another access at most. A scan is in vain
    in the row without vectors, or ends with the message of a vector of a lower number.
    """
    state, rooms = watch.state, watch.state.rooms
    row = state.rows[0]
    elsewhere = rooms["scan_row"] != 0
    ahead = (watch.vector == 1) & row[32] & ~row[0]
    request = Mux(rooms["request_turn"], _REQUEST + _SEND + _REGISTER, 0)

    def idle(message: Any, scans: Any) -> Value:
        """Return the same for a controller that has nothing begun."""
        access = Mux(rooms["bus_turn"] | message, _REGISTER, 0) + Mux(message, _SEND, 0)
        again = _REGISTER + _SEND + _REQUEST + _SEND + _REGISTER + _FOUND
        first = Value.cast(scans)
        return access + request + _FOUND + Mux(first > 1, again, 0) + Mux(first > 2, again, 0)

    doing = rooms["access"]
    unmasks = doing.write & ~doing.address[14] & (doing.address[2:4] == 3)
    left = Signal(range(2 * _BOUND))
    with m.If(state.register):
        rest = idle(0, Mux(unmasks, 3, 1 + elsewhere + ahead))
        m.d.comb += left.eq(rest + Mux(state.state("REGISTER"), 1, 2))
    with m.Elif(state.scanning):
        gone = Mux(state.reads_row, 0, Mux(state.state("SCAN"), 1, 2))
        gone = Mux(state.state("SCAN_VECTOR"), 3, gone)
        vain = _EMPTY - 1 - gone + idle(0, 1 + ahead)
        m.d.comb += left.eq(Mux(elsewhere, vain, _FOUND - 1 - gone + Mux(ahead, idle(1, 1), 0)))
    with m.Elif(state.found | state.deciding):
        rest = Mux(state.mine, 0, idle(1, 1 + elsewhere))
        m.d.comb += left.eq(rest + Mux(state.found, 2, 1))
    with m.Else():
        m.d.comb += left.eq(idle(watch.dut.tlp.valid, 1 + elsewhere + ahead))
    return left


@proof(
    f"MSIX: what is pending and unmasked is sent within {_BOUND} cycles in which it may be",
    depth=2,
    cover=24,
    mutant_depth=16,
    sizes="2 vectors, either of them; any accesses but to the masks, any requests",
    mutants=[
        Mutant(_FILE, "with m.If(allowed & ~allowed_before):", "with m.If(0):"),
        Mutant(_FILE, "eq(table.clear_masked & table.pending)", "eq(0)"),
        Mutant(_FILE, "request_turn.eq(0),", "request_turn.eq(1),"),
        Mutant(_FILE, "bus_turn.eq(0),", "bus_turn.eq(1),"),
    ],
)
def msix_sends(m: Module) -> None:
    """The link takes what is offered; the driver leaves all masks alone. [PCI 3.0 §6.8.2]

    Vectors of lower numbers go first: one that is masked, asked for and unmasked again between two
    scans may keep the others waiting.
    """
    watch = MSIXWatch(m, content=False)
    dut, state, rooms = watch.dut, watch.state, watch.state.rooms
    masks = watch.access.write & ~watch.access.address[14] & (watch.access.address[2:4] == 3)
    may = Signal()
    m.d.comb += may.eq(
        watch.owed
        & ~watch.masked
        & watch.allowed
        & ~dut.busy
        & ~watch.ends
        & ~(dut.tlp.valid & ~dut.tlp.ready)
        & ~(taken(dut.bus.request) & masks)
    )
    waited = Signal(range(_BOUND + 2))
    with m.If(may):
        m.d.sync += waited.eq(waited + 1)
    with m.Else():
        m.d.sync += waited.eq(0)

    was_allowed = rooms["allowed_before"]
    covered = rooms["scan_left"] > (rooms["scan_row"] != 0)
    waits = state.pending & ~state.masked & ~state.table.busy
    counts, left = may & was_allowed, _left(m, watch)
    m.d.comb += [
        Assert(waited <= _BOUND, "it waits for too long"),
        Assert(implies(waits & was_allowed, covered), "no scan will find it"),
        Assert(implies(counts, waited + left <= _BOUND)),
        Assert(implies(counts & before(m, counts), left < before(m, left)), "no progress"),
        Assert(implies(may & ~was_allowed, waited == 0)),
        Cover(watch.sent & (waited == 6)),
        Cover(watch.sent & (waited == 10)),
    ]
