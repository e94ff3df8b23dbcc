"""Scheduler: no doorbell is lost, and a virtqueue stands on the list at most once."""

from __future__ import annotations

from typing import Any

from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Assert, Assume, Cover, Module, Mux, Signal

from formal.fifo_state import FIFOState
from formal.harness import at, before, implies, in_state, inside, sink, source, steady, taken
from formal.proof import Mutant, proof
from virtio_rtl.virtqueue.scheduler import Scheduler

_FILE = "virtqueue/scheduler.py"


class _Watch:
    """A scheduler in any surroundings, and what it owes to one virtqueue, any of them."""

    def __init__(self, m: Module, queues: int) -> None:
        """Drive two doorbell inputs and one rearm input."""
        m.submodules.dut = self.dut = dut = Scheduler(queues, 2, 1)
        self.queues = queues
        self.queue = AnyConst(2)
        doorbells = [dut.doorbell_0, dut.doorbell_1]
        m.d.comb += [dut.enable.eq(AnySeq(1)), dut.hold.eq(AnySeq(1))]
        m.d.comb += Assume(self.queue < queues)
        for each in (*doorbells, dut.rearm_0):
            source(m, each)
            m.d.comb += Assume(each.payload < queues)
        sink(m, dut.work)
        steady(m, dut.work)
        #: A work item that was not offered before; it covers what was accepted before this cycle.
        self.fresh = dut.work.valid & ~before(m, dut.work.valid & ~dut.work.ready)
        mine = dut.work.payload.queue == self.queue
        self.rung = Signal()
        self.asked = Signal()
        m.d.comb += [
            self.rung.eq(sum(taken(each) & (each.payload == self.queue) for each in doorbells)),
            self.asked.eq(taken(dut.rearm_0) & (dut.rearm_0.payload == self.queue)),
        ]
        self.owed = Signal()
        self.owed_any = Signal()
        self.told = told = Signal()
        m.d.comb += told.eq(self.fresh & mine & dut.work.payload.doorbell)
        m.d.sync += [
            self.owed.eq(self.rung | (self.owed & ~told)),
            self.owed_any.eq(self.rung | self.asked | (self.owed_any & ~(self.fresh & mine))),
        ]
        self.mine = mine


def _listing(m: Module, watch: _Watch) -> dict[str, Any]:
    """Assert what holds between the list and the bits that say who is on it."""
    dut = watch.dut
    rooms = inside(dut)
    order = FIFOState(m, rooms["order"])
    row = Signal(2)
    m.d.comb += row.eq(at(m, rooms["listings"], watch.queue))
    clearing = in_state(rooms, "scheduler", "CLEAR")
    entries = [order.entry(place) for place in range(watch.queues + 1)]
    for queue in range(watch.queues):
        listing, on_list = Signal(2), Signal(3)
        standing = [(order.level > k) & (entry == queue) for k, entry in enumerate(entries)]
        joins = rooms["new"] & (rooms["order"].input.payload == queue)
        m.d.comb += [
            listing.eq(at(m, rooms["listings"], queue)),
            on_list.eq(sum(standing) + joins),
            Assert(on_list <= 1, "twice on the list"),
            Assert(implies(~clearing, on_list == listing[0]), "listed, but not on the list"),
            Assert(implies(listing[1] & ~clearing, listing[0])),
            Assert(implies(clearing & (queue < rooms["sweep"]), listing == 0)),
        ]
    for place, entry in enumerate(entries):
        m.d.comb += Assert(implies(order.level > place, entry < watch.queues))
    m.d.comb += [
        Assert(order.level + rooms["new"] <= watch.queues, "the list is full"),
        Assert(implies(rooms["new"], rooms["order"].input.payload < watch.queues)),
        Assert(implies(rooms["entry_valid"], rooms["entry"].queue < watch.queues)),
        Assert(rooms["sweep"] < watch.queues),
        Assert(rooms["first"] < 3),
    ]
    empty = (order.level == 0) & ~rooms["new"] & ~rooms["entry_valid"] & ~dut.work.valid
    m.d.comb += Assert(implies(clearing, empty & ~watch.owed & ~watch.owed_any))
    return rooms | {"row": row, "clearing": clearing, "entries": entries}


@proof(
    "Scheduler: what was asked for is on its way, and stands on the list once",
    depth=2,
    cover=20,
    mutant_depth=14,
    sizes="3 and 2 virtqueues, any of them watched; 2 doorbell inputs, 1 rearm input",
    variants=[{"queues": 3}, {"queues": 2}],
    mutants=[
        Mutant(_FILE, "read.data.doorbell | (absorbed & entry.doorbell)", "read.data.doorbell"),
        Mutant(
            _FILE, "entry_ready.eq(entry_valid & (~pop | absorbed))", "entry_ready.eq(entry_valid)"
        ),
        Mutant(
            _FILE,
            "write.data.doorbell.eq(read.data.doorbell | entry.doorbell)",
            "write.data.doorbell.eq(entry.doorbell)",
        ),
        Mutant(_FILE, "m.d.sync += new.eq(~read.data.listed)", "m.d.sync += new.eq(1)"),
    ],
)
def scheduler_keeps(m: Module, queues: int) -> None:
    """A doorbell is in the work register, in the entry or on the list until a work item tells."""
    watch = _Watch(m, queues)
    rooms = _listing(m, watch)
    entry = rooms["entry_valid"] & (rooms["entry"].queue == watch.queue)
    offered = watch.fresh & watch.mine
    row = rooms["row"]
    kept = row[1] | (entry & rooms["entry"].doorbell) | (offered & watch.dut.work.payload.doorbell)
    m.d.comb += [
        Assert(implies(watch.owed, kept), "a doorbell is lost"),
        Assert(implies(watch.owed_any, row[0] | entry | offered), "a request is lost"),
        Cover(watch.owed & row[1]),
        Cover(watch.owed & before(m, watch.owed & offered) & ~watch.mine),
        Cover(watch.owed & rooms["absorbed"]),
    ]


@proof(
    "Scheduler: what it keeps is offered within 2 cycles a virtqueue and one more",
    depth=2,
    cover=14,
    mutant_depth=14,
    sizes="3 and 2 virtqueues, any of them watched; 2 doorbell inputs, 1 rearm input",
    variants=[{"queues": 3}, {"queues": 2}],
    mutants=[
        Mutant(_FILE, "pop_turn.eq(~pop)", "pop_turn.eq(0)"),
        Mutant(_FILE, "(pop_turn | ~entry_valid)", "~entry_valid"),
        Mutant(_FILE, "entry_valid & (~pop | absorbed)", "entry_valid & (pop_turn | absorbed)"),
    ],
)
def scheduler_offers(m: Module, queues: int) -> None:
    """Counted are the cycles in which a work item may be offered, whatever else is asked for."""
    watch = _Watch(m, queues)
    rooms = _listing(m, watch)
    dut, order = watch.dut, rooms["order"]
    bound = 2 * queues + 1
    offered = watch.fresh & watch.mine
    may_offer = dut.enable & ~dut.hold & (~dut.work.valid | dut.work.ready)
    waited = Signal(range(bound + 2))
    with m.If(offered | ~watch.owed_any):
        m.d.sync += waited.eq(0)
    with m.Elif(may_offer):
        m.d.sync += waited.eq(waited + 1)

    # How many more of these cycles it takes: from the entry to the list, through the list, which
    # lets one go every second cycle.
    standing = [
        (order.level > place) & (entry == watch.queue)
        for place, entry in enumerate(rooms["entries"])
    ]
    next_pop = Mux(rooms["pop_turn"] | ~rooms["entry_valid"], 1, 2)
    entry = rooms["entry_valid"] & (rooms["entry"].queue == watch.queue)
    left = Signal(range(2 * bound))
    with m.If(offered | ~watch.owed_any):
        m.d.comb += left.eq(0)
    with m.Elif(sum(standing)):
        ahead = sum(Mux(here, place, 0) for place, here in enumerate(standing))
        m.d.comb += left.eq(2 * ahead + next_pop)
    with m.Elif(rooms["new"] & (order.input.payload == watch.queue)):
        m.d.comb += left.eq(2 * order.level + next_pop + 1)
    with m.Else():
        m.d.comb += [left.eq(2 * (order.level + rooms["new"]) + 3)]
        m.d.comb += Assert(entry, "a request is lost")
    m.d.comb += [
        Assert(waited <= bound, "it is not offered in time"),
        Assert(waited + left <= bound),
        Cover(offered & (waited > queues)),
    ]
