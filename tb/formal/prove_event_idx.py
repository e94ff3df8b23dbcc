"""Event positions and used positions against the formulas of the specification, in full width."""

from __future__ import annotations

from amaranth.asserts import AnyConst
from amaranth.hdl import Assert, Assume, Cover, Module, Mux, Signal

from formal.harness import implies
from formal.proof import Mutant, proof
from virtio_rtl.virtqueue.event_idx import EventPassed
from virtio_rtl.virtqueue.used_position import UsedPosition

_BOTH = ("split", "packed")


def _number(m: Module, width: int, name: str) -> Signal:
    """Return any number."""
    result = Signal(width, name=name)
    m.d.comb += result.eq(AnyConst(width))
    return result


@proof(
    "EventPassed: vring_need_event of split virtqueues",
    depth=1,
    sizes="all indices, event positions and counts, 16 bits each",
    mutants=[
        Mutant("virtqueue/event_idx.py", "since < self.count", "since <= self.count"),
        Mutant("virtqueue/event_idx.py", "self.index[15] & ~packed", "0"),
    ],
)
def split_event_passed(m: Module) -> None:
    """(u16)(new - event - 1) < (u16)(new - old): the event is one of old ... new - 1."""
    m.submodules.dut = dut = EventPassed(_BOTH)
    new, event, old = (_number(m, 16, name) for name in ("new", "event", "old"))
    left, right, behind_old = Signal(16), Signal(16), Signal(16)
    m.d.comb += [
        dut.packed.eq(0),
        dut.size.eq(AnyConst(16)),
        dut.index.eq(new),
        dut.event.eq(event),
        dut.count.eq(new - old),
        left.eq(new - event - 1),
        right.eq(new - old),
        behind_old.eq(event - old),
        Assert(dut.passed == (left < right), "the formula of 2.7.10"),
        Assert(dut.passed == (behind_old < right), "one of the positions that were passed"),
        Cover(dut.passed & (new < old)),
        Cover(~dut.passed & (event == new)),
    ]


@proof(
    "EventPassed: event offset and wrap counter of packed virtqueues",
    depth=1,
    sizes="all ring sizes 1 to 32768, slots, wrap counters; counts up to the ring size, and by "
    "the kernel's formula any count",
    mutants=[
        Mutant("virtqueue/event_idx.py", "Mux(other_lap, self.size, 0)", "0"),
        Mutant("virtqueue/event_idx.py", "self.index[15] ^ self.event[15]", "self.event[15]"),
        Mutant("virtqueue/event_idx.py", "+ ~event)", "+ ~event + 1)"),
    ],
)
def packed_event_passed(m: Module) -> None:
    """Slots of two laps are a circle: the event is one of the `count` slots before `index`."""
    m.submodules.dut = dut = EventPassed(_BOTH)
    size, count = _number(m, 16, "size"), _number(m, 16, "count")
    slot, asked = _number(m, 15, "slot"), _number(m, 15, "asked")
    wrap, asked_wrap = _number(m, 1, "wrap"), _number(m, 1, "asked_wrap")
    place, asked_place, behind = Signal(18), Signal(18), Signal(18)
    m.d.comb += [
        Assume((size >= 1) & (size <= 1 << 15)),
        Assume((slot < size) & (asked < size)),
        dut.packed.eq(1),
        dut.size.eq(size),
        dut.index.eq(slot | (wrap << 15)),
        dut.event.eq(asked | (asked_wrap << 15)),
        dut.count.eq(count),
        # Slots counted over two laps, the one with wrap counter 0 first.
        place.eq(slot + Mux(wrap, size, 0)),
        asked_place.eq(asked + Mux(asked_wrap, size, 0)),
        behind.eq(place - 1 - asked_place + Mux(place > asked_place, 0, 2 * size)),
        Assert(implies(count <= size, dut.passed == (behind < count)), "the circle of slots"),
    ]
    # As vring_need_event is called for packed virtqueues, with numbers of 16 bits.
    event, old, left, right = Signal(16), Signal(16), Signal(16), Signal(16)
    m.d.comb += [
        event.eq(asked - Mux(wrap == asked_wrap, 0, size)),
        old.eq(slot - count),
        left.eq(slot - event - 1),
        right.eq(slot - old),
        Assert(dut.passed == (left < right), "the formula of 2.7.10, for slots"),
        Cover(dut.passed & (wrap != asked_wrap) & (size == 7)),
        Cover(~dut.passed & (wrap != asked_wrap) & (count == size)),
    ]


@proof(
    "UsedPosition: position plus slots, modulo two laps",
    depth=1,
    sizes="all ring sizes 1 to 32768 and the split index of 16 bits",
    variants=[{"packed": 1}, {"packed": 0}],
    mutants=[
        Mutant("virtqueue/used_position.py", "beyond >= 0", "beyond > 0"),
        Mutant("virtqueue/used_position.py", "self.wrapped ^ self.past_end", "self.wrapped"),
        Mutant(
            "virtqueue/used_position.py", "_SPLIT_LAP = 1 << 15", "_SPLIT_LAP = 1 << 14", variant=1
        ),
    ],
)
def used_position(m: Module, packed: int) -> None:
    """The slot and the wrap counter are one number, modulo twice the size."""
    m.submodules.dut = dut = UsedPosition(_BOTH)
    size, slots = _number(m, 16, "size"), _number(m, 16, "slots")
    index, wrapped = _number(m, 15, "index"), _number(m, 1, "wrapped")
    lap, then = Signal(17), Signal(18)
    m.d.comb += [
        Assume((size >= 1) & (size <= 1 << 15) & (slots <= size) & (index < lap)),
        dut.packed.eq(packed),
        dut.size.eq(size),
        dut.slots.eq(slots),
        dut.index.eq(index),
        dut.wrapped.eq(wrapped),
        lap.eq(size if packed else 1 << 15),
        then.eq((index + Mux(wrapped, lap, 0) + slots) % (2 * lap)),
        Assert(dut.next_index < lap),
        Assert(dut.next_index + Mux(dut.next_wrapped, lap, 0) == then),
        Assert(dut.past_end == (index + slots >= lap)),
        Cover(dut.past_end & (dut.next_index == 0) & wrapped),
    ]
