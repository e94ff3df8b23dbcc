"""The write engine: `done` tells of a group when all its TLPs are accepted, and once."""

from __future__ import annotations

from amaranth.asserts import AnySeq
from amaranth.hdl import Assert, Assume, Cat, Const, Cover, Module, Signal

from formal.harness import before, free, implies, inside, plain, sink, steady, taken
from formal.proof import Mutant, proof
from virtio_rtl.dma.write_direct import WriteDirect
from virtio_rtl.dma.write_done import WriteDone

_DIRECT = "dma/write_direct.py"
_FILE = "dma/write_done.py"
_CLIENTS = 2
_TOKENS = 3
_OPEN = 2
"""Groups that a client of `write_done` may have open."""


@proof(
    "WriteDone: one token per finished group; groups in bounds, and allowed again after the taking",
    depth=2,
    cover=12,
    mutant_depth=14,
    sizes="2 clients, 3 groups each",
    mutants=[
        Mutant(_FILE, "offered & ~(taken & (tokens == 1))", "offered & ~taken"),
        Mutant(_FILE, "tokens.eq(tokens + ends - taken)", "tokens.eq(tokens + ends)"),
        Mutant(_FILE, "self.finished & (self.finished_client == i)", "self.finished"),
        Mutant(_FILE, "returned | (allowed & ~(granted & (free == 1)))", "returned | allowed"),
        Mutant(_FILE, "returned | (allowed & ~(granted & (free == 1)))", "allowed & (free != 1)"),
    ],
)
def write_tokens(m: Module) -> None:
    """Groups begin while it is allowed and end in any order; tokens wait or are taken at once."""
    m.submodules.dut = dut = WriteDone(_CLIENTS, _TOKENS)
    # Of all clients, the last one is looked at.
    client = _CLIENTS - 1
    rooms = inside(dut)
    done, allowed = getattr(dut, f"done_{client}"), dut.allowed[client]
    for port in (dut.granted, dut.finished, dut.finished_client):
        free(m, port)
    for index in range(_CLIENTS):
        sink(m, getattr(dut, f"done_{index}"))
    steady(m, done)
    begun, owed = Signal(range(_TOKENS + 2)), Signal(range(_TOKENS + 2))
    begins = dut.granted[client]
    ends = dut.finished & (dut.finished_client == client)
    m.d.comb += [
        Assume(implies(begins, allowed)),
        Assume(implies(ends, begun)),
        Assume(dut.finished_client < _CLIENTS),
    ]
    m.d.sync += [begun.eq(begun + begins - ends), owed.eq(owed + ends - taken(done))]
    room = (begun + owed) < _TOKENS
    was_room = before(m, room & ~begins, init=1)
    m.d.comb += [
        Assert(done.valid == (owed != 0), "a token too many, or one that is not offered"),
        Assert(implies(allowed, room), "too many groups"),
        Assert(implies(was_room, allowed), "not allowed, though there is room"),
        Assert(begun + owed <= _TOKENS),
        Assert(rooms["tokens"] == owed),
        Assert(rooms["free"] + rooms["returned"] + begun + owed == _TOKENS),
        Assert(allowed == (rooms["free"] != 0)),
        Cover(owed == _TOKENS),
        Cover(before(m, before(m, begun + owed == _TOKENS)) & allowed),
        Cover(begins & ends & taken(done)),
    ]


_GROUPS = 8
"""Groups that can be told from each other; more than begin in the cycles that are looked at."""


class _Exit:
    """The end of the write engine: where both ways to the link meet, and the tokens.

    Groups are granted while their client is allowed one. Each has a number, which its TLPs carry
    in the address, and a bit beside it that says which is the last.
    """

    def __init__(self, m: Module) -> None:
        """Connect the modules as `WriteEngine` does, and drive them as its first half may."""
        m.submodules.direct = direct = WriteDirect(64, _CLIENTS, _CLIENTS * _OPEN)
        m.submodules.done = self.done = done = WriteDone(_CLIENTS, _OPEN)
        may_start, grant, client, around = AnySeq(1), AnySeq(1), AnySeq(1), AnySeq(1)
        m.d.comb += [
            direct.enable.eq(may_start),
            done.finished.eq(direct.finished),
            done.finished_client.eq(direct.finished_client),
            done.granted.eq(grant << client),
            Assume(implies(grant, done.allowed.bit_select(client, 1))),
            Assume(implies(around, grant & direct.open)),
            direct.load.eq(around),
            direct.other_begins.eq(grant & ~around),
            direct.client.eq(client),
        ]
        sink(m, direct.tlp)
        self.tlp = direct.tlp
        #: Groups granted so far, and whose they are; which of them go through the aligner.
        self.granted = Signal(range(_GROUPS))
        self.owners = Signal(_GROUPS)
        aligned = Signal(_GROUPS)
        with m.If(grant):
            m.d.sync += [
                self.granted.eq(self.granted + 1),
                self.owners.bit_select(self.granted, 1).eq(client),
                aligned.bit_select(self.granted, 1).eq(~around),
            ]
        m.d.comb += [
            Assume(self.granted != _GROUPS - 1),
            direct.request.length.eq(4),
            direct.request.last.eq(1),
            direct.request.address.eq(Cat(Const(0, 2), self.granted, Const(1, 1))),
        ]
        # The groups that take the other way come out of it in their order: any number of beats.
        number, last, ends = Signal(range(_GROUPS)), AnySeq(1), AnySeq(1)
        other = direct.aligned
        mine = aligned.bit_select(number, 1)
        due = (number != self.granted) & mine
        inside_tlp = Signal()
        m.d.comb += [
            other.valid.eq(AnySeq(1) & due),
            other.payload.first.eq(~inside_tlp),
            other.payload.last.eq(last),
            other.payload.header.address.eq(Cat(Const(0, 2), number, ends)),
            direct.aligned_finished.eq(taken(other) & last & ends),
            direct.aligned_client.eq(self.owners.bit_select(number, 1)),
        ]
        waiting = before(m, other.valid & ~other.ready)
        kept = before(m, other.payload)
        m.d.comb += Assume(implies(waiting, other.valid & (plain(other.payload) == kept)))
        with m.If(taken(other)):
            m.d.sync += inside_tlp.eq(~last)
        with m.If((number != self.granted) & (~mine | direct.aligned_finished)):
            m.d.sync += number.eq(number + 1)


@proof(
    "WriteDirect, WriteDone: done when the last TLP of a group is accepted, and once; in order",
    mode="bmc",
    depth=8,
    cover=10,
    mutant_depth=9,
    sizes="2 clients of 2 groups; any TLPs out of the aligner",
    mutants=[
        Mutant(
            _DIRECT,
            "self.finished.eq((self.waits & self.tlp.ready) | self.aligned_finished)",
            "self.finished.eq(self.waits | self.aligned_finished)",
        ),
        Mutant(
            _DIRECT,
            "Mux(self.waits, direct.payload.client, self.aligned_client)",
            "self.aligned_client",
        ),
        Mutant(
            _DIRECT,
            "self.open.eq(alone & queue.input.ready & self.enable)",
            "self.open.eq(queue.input.ready & self.enable)",
        ),
        Mutant(_DIRECT, "self.tlp.ready & ~self.waits", "self.tlp.ready"),
    ],
)
def write_done(m: Module) -> None:
    """Groups of both clients, by both ways, whatever the stalls. [PCIe 3.0 §2.4.1]"""
    exits = _Exit(m)
    tlp = exits.tlp
    beat = tlp.payload
    number, final = beat.header.address[2:5], beat.header.address[5]
    left, inside_tlp = Signal(range(_GROUPS)), Signal()
    ends = taken(tlp) & beat.last & final
    m.d.sync += left.eq(left + ends)
    with m.If(taken(tlp)):
        m.d.sync += inside_tlp.eq(~beat.last)
    owner = exits.owners.bit_select(left, 1)
    with m.If(tlp.valid):
        m.d.comb += [
            Assert((number == left) & (left != exits.granted), "not in the order of the grants"),
            Assert(beat.first == ~inside_tlp, "a TLP in pieces"),
        ]
    for client in range(_CLIENTS):
        done = getattr(exits.done, f"done_{client}")
        sink(m, done)
        ended, told = Signal(range(_GROUPS)), Signal(range(_GROUPS))
        m.d.sync += [ended.eq(ended + (ends & (owner == client))), told.eq(told + taken(done))]
        m.d.comb += Assert(done.valid == (ended != told), "told too early, too late, or twice")
        if client == 0:
            m.d.comb += [Cover(told == 2), Cover(taken(done) & ends & (owner == 1))]
    m.d.comb += [
        Cover(ends & before(m, ends) & (owner != before(m, owner))),
        Cover(ends & inside_tlp),
        Cover(taken(tlp) & beat.last & ~final),
    ]
