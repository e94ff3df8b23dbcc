"""The end of a request: given back when it was read and answered, once."""

from __future__ import annotations

from amaranth.hdl import Assert, Cover, Module, Signal

from formal.harness import before, implies, inside, plain, sink, source, steady, taken
from formal.proof import Mutant, proof
from virtio_rtl.virtqueue.request_done import RequestDone

_FILE = "virtqueue/request_done.py"
_AHEAD = 3


@proof(
    "RequestDone: a buffer is given back when all of it was read and answered, once",
    depth=2,
    cover=10,
    mutant_depth=10,
    sizes=f"{_AHEAD} buffers read and not answered",
    mutants=[
        Mutant(_FILE, "self.completion.valid.eq(self.written.valid & some)",
               "self.completion.valid.eq(self.written.valid)"),
        Mutant(_FILE, "self.completion.ready & some", "self.completion.ready"),
        Mutant(_FILE, "some.eq(count != 1)", "some.eq(1)"),
        Mutant(_FILE, "room.eq(count != self.ahead - 1)", "room.eq(1)"),
        Mutant(_FILE, "m.Elif(leaves & ~arrives)", "m.Elif(leaves)"),
        Mutant(_FILE, "some.eq(count != 1), room.eq(1)", "some.eq(count != 1)"),
    ],
)  # fmt: skip
def request_done(m: Module) -> None:
    """Both sides come when they like; `owed` are read to their end and not given back."""
    m.submodules.dut = dut = RequestDone(_AHEAD)
    rooms = inside(dut)
    source(m, dut.read)
    source(m, dut.written)
    sink(m, dut.completion)
    steady(m, dut.completion)
    owed = Signal(range(_AHEAD + 2))
    m.d.sync += owed.eq(owed + taken(dut.read) - taken(dut.completion))
    same = plain(dut.completion.payload) == plain(dut.written.payload)
    m.d.comb += [
        Assert(implies(dut.completion.valid, owed != 0), "not read to its end"),
        Assert(taken(dut.completion) == taken(dut.written), "lost or doubled"),
        Assert(implies(dut.completion.valid, dut.written.valid & same), "another one"),
        Assert(implies(dut.written.valid & (owed != 0), dut.completion.valid), "held for nothing"),
        Assert(dut.read.ready == (owed != _AHEAD)),
        Assert((owed <= _AHEAD) & (rooms["count"] == owed) & (rooms["some"] == (owed != 0))),
        Cover(owed == _AHEAD),
        Cover(taken(dut.read) & taken(dut.completion)),
        Cover(before(m, owed == _AHEAD) & (owed == _AHEAD - 1) & dut.written.valid),
    ]
