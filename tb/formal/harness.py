"""What proofs are built from: free inputs, the stream rule, the inside of a module."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from amaranth.asserts import AnySeq
from amaranth.hdl import Assert, Assume, Module, Signal, Value


def inside(component: Any) -> dict[str, Any]:
    """Elaborate a component now, and return the local names of its `elaborate` and helpers.

    An induction needs them: what is not said about registers inside may be anything. To be called
    before the module that contains the component is converted; of a submodule of a component,
    after `inside` of that.
    """
    names: dict[str, Any] = {}

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        if event == "return" and frame.f_locals.get("self") is component:
            names.update(frame.f_locals)

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        elaborated = component.elaborate(None)
    finally:
        sys.setprofile(before)
    component.elaborate = lambda platform: elaborated
    return names


def plain(value: Any) -> Value:
    """Return any payload as bits."""
    return Value.cast(value)


def implies(cause: Any, effect: Any) -> Value:
    """Return whether `effect` holds, if `cause` does."""
    return ~Value.cast(cause).any() | Value.cast(effect).any()


def free(m: Module, target: Any) -> None:
    """Let a signal or record be anything in every cycle."""
    bits = plain(target)
    m.d.comb += bits.eq(AnySeq(len(bits)))


def before(m: Module, value: Any, init: int = 0) -> Signal:
    """Return the value of the cycle before; `init` in the first."""
    bits = plain(value)
    kept = Signal(len(bits), init=init)
    m.d.sync += kept.eq(bits)
    return kept


def source(m: Module, stream: Any, *, when: Any = 1) -> None:
    """Drive an input stream with anything that obeys the stream rule; `when` may hold it back."""
    free(m, stream.payload)
    valid = AnySeq(1)
    m.d.comb += stream.valid.eq(valid)
    waiting = before(m, stream.valid & ~stream.ready)
    m.d.comb += Assume(implies(waiting, stream.valid))
    m.d.comb += Assume(implies(stream.valid & ~waiting, when))
    kept = before(m, stream.payload)
    m.d.comb += Assume(implies(waiting, plain(stream.payload) == kept))


def sink(m: Module, stream: Any) -> None:
    """Take from an output stream whenever one likes."""
    m.d.comb += stream.ready.eq(AnySeq(1))


def steady(m: Module, stream: Any, *, unless: Any = 0) -> None:
    """Assert the stream rule: what is offered stays as it is until it is taken.

    It may be withdrawn in a cycle of `unless`.
    """
    waiting = before(m, stream.valid & ~stream.ready) & ~plain(unless).any()
    kept = before(m, stream.payload)
    m.d.comb += Assert(implies(waiting, stream.valid), "valid fell")
    m.d.comb += Assert(implies(waiting, plain(stream.payload) == kept), "payload changed")


def taken(stream: Any) -> Value:
    """Whether an element passes in this cycle."""
    return stream.valid & stream.ready


class Tracked:
    """An element that is watched from its way in to its way out of a queue.

    Which one is left open, so that what holds for it holds for all. `count` elements are inside;
    `ahead` of them stand before the tracked one, which is `value`. It `leaves` with its pop; an
    element that comes and goes in one cycle `passes`, and is not tracked.
    """

    def __init__(self, m: Module, push: Any, data: Any, pop: Any, capacity: int) -> None:
        """Watch a queue: `push` and `pop` are strobes, `data` what goes in."""
        bits = plain(data)
        self.count = Signal(range(capacity + 2))
        self.inside = Signal()
        self.ahead = Signal(range(capacity + 2))
        self.value = Signal(len(bits))
        m.d.sync += self.count.eq(self.count + push - pop)
        leaves = Signal()
        passes = Signal()
        m.d.comb += [
            leaves.eq(self.inside & pop & (self.ahead == 0)),
            passes.eq(push & pop & (self.count == 0)),
        ]
        self.leaves, self.passes = leaves, passes
        with m.If(push & ~passes & (~self.inside | leaves) & AnySeq(1)):
            m.d.sync += [
                self.inside.eq(1),
                self.ahead.eq(self.count - pop),
                self.value.eq(bits),
            ]
        with m.Elif(self.inside & pop):
            m.d.sync += [self.ahead.eq(self.ahead - 1), self.inside.eq(~leaves)]

    def follow(self, m: Module) -> None:
        """Assert what is true of the bookkeeping itself, which an induction has to be told."""
        m.d.comb += Assert(implies(self.inside, self.ahead < self.count))


def in_state(rooms: dict[str, Any], machine: str, state: str) -> Value:
    """Return whether a state machine is in a state; `rooms` are from `inside`."""
    return rooms["m"]._generated[machine].ongoing(state)


def at(m: Module, memory: Any, address: Any) -> Value:
    """Return the content of a memory's row, through a read port of its own."""
    port = memory.read_port(domain="comb")
    m.d.comb += port.addr.eq(address)
    return Value.cast(port.data)


__all__ = [
    "Tracked",
    "at",
    "before",
    "free",
    "implies",
    "in_state",
    "inside",
    "plain",
    "sink",
    "source",
    "steady",
    "taken",
]
