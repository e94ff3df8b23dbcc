"""Tags: none is given twice, none is lost, and none leaves quarantine early."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Assert, Assume, Cat, Const, Cover, Module, ResetSignal, Signal, Value

from formal.fifo_state import FIFOState
from formal.harness import at, implies, inside, plain, sink, taken
from formal.proof import Mutant, proof
from virtio_rtl.dma import tags as tag_file
from virtio_rtl.dma.tags import TagPool

_FILE = "dma/tags.py"
_TAGS = 8
_ALL = (1 << _TAGS) - 1
_TIMEOUT = 5
"""Epochs that begin while a tag is in quarantine: the first was short, four have passed."""


def _hot(tag: Any, valid: Any) -> Value:
    """Return one bit for each tag, of which `tag`'s is set if `valid`."""
    return (Value.cast(valid) << Value.cast(tag))[:_TAGS]


def _has(tags: Value, tag: Any) -> Value:
    return tags.bit_select(Value.cast(tag), 1)


def _count(tags: Value) -> Value:
    return Value.cast(sum(tags[tag] for tag in range(_TAGS)))


def _tag(entry: Any) -> Value:
    return plain(entry)[:3]


def _generation(entry: Any) -> Value:
    return plain(entry)[3]


class _Watch:
    """A pool in any surroundings that use tags as the read engine does; resets come at any time.

    Of each tag it is known whether it is `out`, and whether its read ended in quarantine (`late`).
    One of them, any, is `mine`: `held` until it may be given again, for `age` epochs now; `last` is
    the generation of its last use.
    """

    def __init__(self, m: Module, low: int) -> None:
        """Build a pool of which `low` tags may be given without Extended Tag Field Enable."""
        limit = tag_file.LOW_TAGS
        tag_file.LOW_TAGS = low
        try:
            m.submodules.dut = self.dut = dut = TagPool(_TAGS)
            self.rooms = inside(dut)
        finally:
            tag_file.LOW_TAGS = limit
        self.mine = AnyConst(3)
        self.reset, self.step = AnySeq(1), AnySeq(1)
        self.epoch = Signal(3, reset_less=True)
        m.d.sync += self.epoch.eq(self.epoch + self.step)
        m.d.comb += [
            ResetSignal("sync").eq(self.reset),
            dut.epoch.eq(self.epoch),
            dut.extended_tag.eq(AnySeq(1)),
            Assume(implies(dut.preparing, ~dut.free.ready)),
        ]
        sink(m, dut.free)
        self.given = taken(dut.free)
        self.gives_mine = self.given & (dut.free.payload.tag == self.mine)
        # A reset forgets what is out, but not what is held.
        self.out, self.late = Signal(_TAGS), Signal(_TAGS)
        self.held = Signal(reset_less=True)
        self.age = Signal(range(_TIMEOUT + 1), reset_less=True)
        self.last = Signal(reset_less=True)
        self._use(m)
        self._hold(m)

    def _use(self, m: Module) -> None:
        """Give back what is out, in any order; the read may end in quarantine before."""
        dut = self.dut
        given = _hot(dut.free.payload.tag, self.given)
        released, late = self._strobe(m, dut.release), self._strobe(m, dut.quarantine)
        m.d.comb += [
            Assume((released & ~self.out) == 0),
            Assume((late & ~self.out) == 0),
            Assume((late & (self.late | released)) == 0),
        ]
        m.d.sync += [
            self.out.eq((self.out & ~released) | given),
            self.late.eq((self.late & ~released) | late),
        ]

    def _strobe(self, m: Module, port: Any) -> Signal:
        """Name any tag, with the generation that it was given with; return its bit."""
        valid, tag, generation = AnySeq(1), AnySeq(3), AnySeq(1)
        hot = Signal(_TAGS)
        m.d.comb += [
            port.valid.eq(valid),
            port.payload.tag.eq(tag),
            port.payload.generation.eq(generation),
            Assume(implies(valid & (tag == self.mine), generation == self.last)),
            hot.eq(_hot(tag, valid)),
        ]
        return hot

    def _hold(self, m: Module) -> None:
        dut, older = self.dut, self.age + self.step
        with m.If(dut.quarantine.valid & (dut.quarantine.payload.tag == self.mine)):
            m.d.sync += [self.held.eq(1), self.age.eq(self.step)]
        with m.Elif(self.held):
            m.d.sync += [self.age.eq(older), self.held.eq(older != _TIMEOUT)]
        with m.If(self.gives_mine):
            m.d.sync += self.last.eq(dut.free.payload.generation)
        with m.Elif(dut.clear.valid & (dut.clear.payload == self.mine)):
            m.d.sync += self.last.eq(0)


class _Places:
    """Where tags are: free, not swept yet, about to be cleared, given out, in quarantine."""

    def __init__(self, m: Module, watch: _Watch) -> None:
        """Look into the pool, and assert how its registers agree with each other.

        The solver follows bits and entries better than sums: `free` are all tags that are nowhere
        else, and the entries of the stores are that many, different, and among them.
        """
        self.m, self.watch = m, watch
        rooms, dut = watch.rooms, watch.dut
        sweeping, sweep_tag = rooms["sweeping"], rooms["sweep_tag"]
        quarantined, out, clear = rooms["quarantined"], watch.out, dut.clear
        unswept, cleared = Signal(_TAGS), Signal(_TAGS)
        self.free = Signal(_TAGS)
        self.entries: list[tuple[Value, Value]] = []
        to_come = (Const(_ALL) << sweep_tag)[:_TAGS] & sweeping.replicate(_TAGS)
        m.d.comb += [
            unswept.eq(to_come & ~quarantined),
            cleared.eq(_hot(clear.payload, clear.valid)),
            self.free.eq(~(unswept | cleared | out | quarantined)),
            Assert(implies(clear.valid, rooms["clearing"])),
            Assert(implies(clear.valid, (clear.payload + 1)[:3] == sweep_tag)),
            Assert(implies(sweeping, rooms["clearing"] == (sweep_tag != 0))),
            Assert((cleared & quarantined) == 0),
            Assert(implies(dut.preparing, out == 0)),
            Assert(rooms["undelivered"] == watch.late),
            Assert((watch.late & ~out) == 0),
            Assert((quarantined & out & ~watch.late) == 0),
        ]

    def add_store(self, name: str, which: int) -> None:
        """Take a store's entries in; assert that it is for `which` tags, and has room for them."""
        m, watch, rooms = self.m, self.watch, self.watch.rooms
        submodules = rooms["m"]._named_submodules
        fifo = submodules[name][0]
        state, skid = FIFOState(m, fifo), inside(submodules[f"{name}_next"][0])
        head, spare = skid["head_valid"], skid["spare_valid"]
        returned = rooms["returned"]
        mask = Const(which, _TAGS)
        enters = Signal(name=f"enters_{name}")
        m.d.comb += enters.eq(rooms["returns"] & _has(mask, returned.tag))
        entries = [*state.rows(), (head, skid["head"]), (spare, skid["spare"])]
        entries.append((enters, plain(returned)))
        self.entries += entries
        m.d.comb += [
            Assert(implies(spare, head)),
            Assert(implies(enters, fifo.input.ready), "no room for a tag"),
            Assert(state.level + head + spare + enters == _count(self.free & mask)),
            *_distinct(entries),
        ]
        for there, entry in entries:
            fresh = _generation(entry) != watch.last
            m.d.comb += [
                Assert(implies(there, _has(self.free & mask, _tag(entry)))),
                Assert(implies(there & (_tag(entry) == watch.mine), fresh)),
            ]

    def none_lost(self) -> None:
        """Assert that the watched tag is in a store if it is nowhere else."""
        mine = self.watch.mine
        stands = [there & (_tag(entry) == mine) for there, entry in self.entries]
        self.m.d.comb += Assert(implies(_has(self.free, mine), Cat(stands).any()), "a tag is lost")


def _distinct(entries: list[tuple[Value, Value]]) -> list[Any]:
    """Return the assertions that no two entries are of the same tag."""
    return [
        Assert(~(there & other_there & (_tag(entry) == _tag(other))))
        for (there, entry), (other_there, other) in combinations(entries, 2)
    ]


def _queue_agrees(m: Module, watch: _Watch) -> None:
    """Assert that each tag in quarantine stands in the queue once, with its time."""
    rooms, mine, held = watch.rooms, watch.mine, watch.held
    quarantined, read = rooms["quarantined"], rooms["read_index"]
    level = Signal(range(2 * _TAGS))
    m.d.comb += [
        level.eq(rooms["write_index"] - read),
        Assert(level == _count(quarantined)),
        Assert(implies(held, _has(quarantined, mine) & (watch.age < _TIMEOUT))),
    ]
    rows = []
    for place in range(_TAGS):
        there = Signal(name=f"there_{place}")
        m.d.comb += there.eq((place - read)[:3] < level)
        rows.append((there, at(m, rooms["queue"], place)))
    m.d.comb += _distinct(rows)
    stands = [there & (_tag(row) == mine) for there, row in rows]
    m.d.comb += Assert(implies(_has(quarantined, mine), Cat(stands).any()))
    for (there, row), stand in zip(rows, stands, strict=True):
        m.d.comb += [
            Assert(implies(there, _has(quarantined, _tag(row)))),
            Assert(implies(stand & held, (watch.epoch - row[4:7])[:3] == watch.age)),
            Assert(implies(stand, _generation(row) == watch.last)),
        ]
    oldest, valid, expired = plain(rooms["oldest"]), rooms["oldest_valid"], rooms["expired"]
    m.d.comb += [
        Assert(implies(valid, (level != 0) & (oldest == at(m, rooms["queue"], read[:3])))),
        Assert(implies(expired, valid & ~(held & (_tag(oldest) == mine)))),
    ]


@proof(
    "TagPool: no tag is given twice, none is lost, none leaves quarantine early",
    depth=1,
    solver="sat",
    cover=32,
    mutant_depth=22,
    sizes="8 tags, of which 8 or 4 are low; one of them, any, watched for time and generation",
    variants=[{"low": 32}, {"low": 4}],
    mutants=[
        Mutant(_FILE, "~quarantined.bit_select(self.release.payload.tag, 1)", "1"),
        Mutant(_FILE, "oldest_valid & expired &", "oldest_valid &", variant=1),
        Mutant(_FILE, "queue_write.data.stamp.eq(self.epoch)", "queue_write.data.stamp.eq(0)"),
        Mutant(_FILE, "quarantined = Signal(tags, reset_less=True)", "quarantined = Signal(tags)"),
        Mutant(_FILE, "sweeping & ~quarantined.bit_select(sweep_tag, 1)", "sweeping", variant=1),
        Mutant(_FILE, "clearing.eq(sweeping)", "clearing.eq(sweeping & (sweep_tag != tags - 1))"),
        Mutant(_FILE, "leaves & ~undelivered.bit_select(oldest.use.tag, 1)", "leaves"),
        Mutant(_FILE, "& ~self.preparing & ~self.release.valid", "& ~self.preparing"),
        Mutant(_FILE, "~self.release.payload.generation", "self.release.payload.generation"),
        Mutant(_FILE, "self.extended_tag & high.valid", "high.valid", variant=1),
        Mutant(_FILE, "returned.tag >= LOW_TAGS", "returned.tag > LOW_TAGS", variant=1),
    ],
)
def tags_kept(m: Module, low: int) -> None:
    """Given tags come back in any order, with quarantine or without. [PCIe 3.0 §2.3.2, §2.8]"""
    watch = _Watch(m, low)
    dut, given, mine = watch.dut, watch.given, watch.gives_mine
    tag, generation = dut.free.payload.tag, dut.free.payload.generation
    m.d.comb += [
        Assert(implies(given, ~_has(watch.out, tag)), "given twice"),
        Assert(implies(mine, ~watch.held), "given before its quarantine is over"),
        Assert(implies(given & ~dut.extended_tag, tag < low), "not a low tag"),
        Assert(implies(mine, generation != watch.last), "the same generation again"),
    ]
    places = _Places(m, watch)
    places.add_store("low", _ALL if low > _TAGS else (1 << low) - 1)
    if low < _TAGS:
        places.add_store("high", _ALL & -(1 << low))
    places.none_lost()
    _queue_agrees(m, watch)

    spent, survived = Signal(reset_less=True), Signal(reset_less=True)
    m.d.sync += [
        spent.eq(spent | watch.held),
        survived.eq(survived | (watch.held & watch.reset)),
    ]
    if low > _TAGS:
        # Not for the other variant as well, since it takes long: there, mutants of expiry and of
        # quarantine over a reset show that both happen.
        m.d.comb += [
            Cover(mine & spent),
            Cover(mine & survived),
            Cover(watch.held & _has(watch.out, watch.mine) & (_count(watch.out) == 4)),
        ]
