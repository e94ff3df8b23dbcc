"""MSI-X: masks, pending bits, and no message lost or made up."""

from __future__ import annotations

from typing import Any

from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Assert, Assume, Cover, Module, Signal

from formal.harness import at, before, implies, in_state, inside, source, steady, taken
from formal.proof import Mutant, proof
from virtio_rtl.pcie.msix import MSIX

_FILE = "pcie/msix.py"
_VECTORS = 2
_TABLE = 0x8000
_CONTROL = 12


class _Watch:
    """The MSI-X of a function, and one vector of it, either of them."""

    def __init__(self, m: Module) -> None:
        """Use it in any way, but neither `clear` nor `forget` nor `stop`."""
        m.submodules.dut = self.dut = dut = MSIX(_VECTORS, 64)
        self.rooms = rooms = inside(dut)
        self.vector = AnyConst(1)
        control = dut.control
        for name in ("msix_enable", "msix_function_mask", "bus_master_enable"):
            m.d.comb += getattr(control, name).eq(AnySeq(1))
        self.allowed = control.msix_enable & ~control.msix_function_mask & control.bus_master_enable
        source(m, dut.request)
        source(m, dut.bus.request)
        access = dut.bus.request.payload
        m.d.comb += [
            Assume(access.address[14:] == _TABLE >> 14),
            Assume(access.address[:2] == 0),
            Assume(dut.request.payload < 4),
            dut.tlp.ready.eq(AnySeq(1)),
            dut.bus.response.ready.eq(AnySeq(1)),
        ]
        steady(m, dut.tlp)
        steady(m, dut.bus.response)
        # What the driver has said; operations are done one after the other, so it holds for all
        # that is begun later.
        self.masked = Signal(init=1)
        mine = access.address == (_TABLE | _CONTROL | (self.vector << 4))
        written = taken(dut.bus.request) & access.write & mine & access.byte_enable[0]
        with m.If(written):
            m.d.sync += self.masked.eq(access.data[0])
        self.deciding = in_state(rooms, "operation_state", "MESSAGE")
        self.mine = self.deciding & (rooms["vector"] == self.vector)
        self.sent = self.mine & rooms["message"].offer
        self.asked = taken(dut.request) & (dut.request.payload == self.vector) & control.msix_enable
        #: A message is owed: asked for, and not offered since.
        self.owed = Signal()
        forgotten = self.mine & ~control.msix_enable
        with m.If(self.asked):
            m.d.sync += self.owed.eq(1)
        with m.Elif(self.sent | forgotten):
            m.d.sync += self.owed.eq(0)

    def row(self, m: Module, kind: str) -> Any:
        """Return the vector's bit in the memory."""
        rows = inside_once(self.rooms["table"])["rows"]
        content = at(m, rows, 0)
        return content.bit_select(self.vector + (32 if kind == "pending" else 0), 1)


_ROOMS: dict[int, dict[str, Any]] = {}


def inside_once(component: Any) -> dict[str, Any]:
    """Return the rooms of a component that may have been looked into before."""
    if id(component) not in _ROOMS:
        _ROOMS[id(component)] = inside(component)
    return _ROOMS[id(component)]


@proof(
    "MSIX: masked or disabled, nothing is sent; what is sent was asked for; what was asked is kept",
    mode="bmc",
    depth=14,
    cover=20,
    mutant_depth=14,
    sizes="2 vectors, either of them; any accesses, masks and enables",
    mutants=[
        Mutant(_FILE, "with m.If(allowed & ~table.masked):", "with m.If(allowed):"),
        Mutant(_FILE, "with m.If(allowed & ~table.masked):", "with m.If(~table.masked):"),
        Mutant(_FILE, "table.set_pending.eq(self.control.msix_enable)", "table.set_pending.eq(0)"),
    ],
)
def msix_keeps(m: Module) -> None:
    """Whatever the driver, the device and the link do. [PCI 3.0 §6.8.2]"""
    watch = _Watch(m)
    dut = watch.dut
    kept = watch.row(m, "pending") | (
        (watch.rooms["vector"] == watch.vector) & ~in_state(watch.rooms, "operation_state", "IDLE")
    )
    begins = dut.tlp.valid & ~before(m, dut.tlp.valid & ~dut.tlp.ready)
    m.d.comb += [
        Assert(implies(begins, before(m, watch.allowed)), "sent though the function may not"),
        Assert(implies(watch.sent, ~watch.masked), "sent though masked"),
        Assert(implies(watch.sent, watch.owed), "nobody asked for it"),
        Assert(implies(watch.owed, kept), "lost"),
        Assert(implies(watch.sent, ~dut.tlp.valid), "an offer is overwritten"),
        Cover(watch.sent),
        Cover(watch.owed & watch.row(m, "pending") & watch.masked),
        Cover(watch.sent & before(m, before(m, before(m, watch.owed)))),
    ]
