"""An `MSIX` in any surroundings, and what is owed to one of its vectors."""

from __future__ import annotations

from typing import Any

from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Assert, Assume, Cat, Module, Mux, Signal, Value

from formal.harness import before, implies, sink, source, steady, taken
from formal.msix_state import VECTORS, MSIXState
from virtio_rtl.pcie.msix import MSIX

_SPACE = 0x8000


def _merged(old: Value, access: Any) -> Value:
    """Return a dword with the bytes that a write enables."""
    enables = Cat(enable.replicate(8) for enable in access.byte_enable)
    return (old & ~enables) | (access.data & enables)


class MSIXWatch:
    """The MSI-X of a function, used in any way, and one vector of it, either of them.

    What the driver and the device have said of the vector is kept here: operations are done one
    after the other, so it holds for all that is begun later.
    """

    def __init__(self, m: Module, content: bool = True) -> None:
        """Let accesses, requests, strobes, enables and stalls come as they like.

        `content`: what is in the entries and messages is looked at as well.
        """
        m.submodules.dut = self.dut = dut = MSIX(VECTORS, 64)
        self.vector = AnyConst(1)
        self.state = state = MSIXState(m, dut, self.vector)
        control = dut.control
        for port in (dut.clear, dut.forget, dut.stop, dut.hold):
            m.d.comb += port.eq(AnySeq(1))
        for output in (dut.tlp, dut.bus.response):
            sink(m, output)
        for name in ("msix_enable", "msix_function_mask", "bus_master_enable"):
            m.d.comb += getattr(control, name).eq(AnySeq(1))
        self.allowed = (
            control.msix_enable
            & ~control.msix_function_mask
            & control.bus_master_enable
            & ~dut.hold
        )
        source(m, dut.request)
        source(m, dut.bus.request)
        self.access = access = dut.bus.request.payload
        m.d.comb += [
            Assume(access.address[15:] == _SPACE >> 15),
            Assume(access.address[:2] == 0),
            Assume(dut.request.payload < 4),
        ]
        if content:
            steady(m, dut.tlp)
            steady(m, dut.bus.response)
        self.ends = dut.clear | dut.forget
        #: The vector is asked for; in the next cycle it is decided about its message.
        self.asked = taken(dut.request) & (dut.request.payload == self.vector) & control.msix_enable
        self.asking = before(m, self.asked)
        self.mine = state.deciding & state.mine
        self.sent = self.mine & state.rooms["message"].offer
        self._mask(m)
        if content:
            self._content(m)
        self._owed(m)

    def written(self, word: Value) -> Value:
        """Return whether a write to this dword of the vector's entry is accepted."""
        entry = self.access.address[2:15] == (self.vector << 2) + word
        return taken(self.dut.bus.request) & self.access.write & entry

    def writes(self, word: Value) -> tuple[Any, Value]:
        """Return the access under way, and whether it writes there: the memories lag."""
        doing = self.state.rooms["access"]
        entry = doing.address[2:15] == (self.vector << 2) + word
        return doing, self.state.register & doing.write & entry

    def _mask(self, m: Module) -> None:
        """Follow the mask bit."""
        state, access = self.state, self.access
        self.masked = Signal(init=1)
        with m.If(self.written(Value.cast(3)) & access.byte_enable[0]):
            m.d.sync += self.masked.eq(access.data[0])
        with m.If(self.dut.clear):
            m.d.sync += self.masked.eq(1)
        doing, writes = self.writes(Value.cast(3))
        stored = Mux(writes & doing.byte_enable[0], doing.data[0], state.masked)
        m.d.comb += [
            Assert(implies(~state.unswept, stored == self.masked), "not the mask that was written"),
            Assert(implies(state.unswept, self.masked), "unmasked meanwhile"),
        ]

    def _content(self, m: Module) -> None:
        """Follow one of the dwords that make the message."""
        state, access = self.state, self.access
        self.word = word = AnyConst(2)
        self.said = Signal(32)
        m.d.comb += Assume(word != 3)
        # Messages are dword writes: the low bits of their address are 0.
        kept = Mux(word == 0, 0xFFFFFFFC, 0xFFFFFFFF)
        with m.If(self.written(word)):
            m.d.sync += self.said.eq(_merged(self.said, access) & kept)
        with m.If(self.dut.clear):
            m.d.sync += self.said.eq(0)
        doing, writes = self.writes(word)
        entry = state.entry.word_select(word, 32)
        stored = Signal(32)
        m.d.comb += [
            stored.eq(Mux(writes, _merged(entry, doing) & kept, entry)),
            Assert(implies(~state.unswept, stored == self.said), "not what was written"),
            Assert(implies(~state.unswept, entry & ~kept == 0)),
            Assert(implies(state.unswept, self.said == 0), "written meanwhile"),
        ]

    def _owed(self, m: Module) -> None:
        """Follow what was asked for and not sent since."""
        state, dut = self.state, self.dut
        #: A message is owed: asked for, neither sent nor stopped nor forgotten since.
        self.owed = Signal()
        #: It was so when all was forgotten: one operation under way may still send it.
        self.late = Signal()
        may = self.allowed & ~self.masked
        remembered = self.owed | (self.asking & dut.control.msix_enable)
        with m.If(self.ends | dut.busy):
            m.d.sync += self.owed.eq(0)
        with m.Elif(self.mine):
            m.d.sync += self.owed.eq(remembered & ~may)
        with m.If(~dut.busy):
            m.d.sync += self.late.eq(self.ends & (self.owed | self.asked | self.asking))
        with m.Elif(self.sent):
            m.d.sync += self.late.eq(0)
        self.cleared = Signal(init=1)
        with m.If(dut.clear | ~dut.busy):
            m.d.sync += self.cleared.eq(dut.clear)
        swept = ~state.unswept & (state.rooms["forget_left"] == 0)
        chosen = self.mine & ~self.asking
        m.d.comb += [
            Assert(implies(swept, state.pending == self.owed), "the pending bit is wrong"),
            Assert(implies(~swept, dut.busy & ~self.owed)),
            Assert(implies(state.working & state.pending, self.owed | self.late)),
            Assert(implies(dut.busy & self.asking, self.late)),
            Assert(implies(chosen, state.pending & ~state.masked)),
            Assert(implies(state.unswept, self.cleared)),
        ]
