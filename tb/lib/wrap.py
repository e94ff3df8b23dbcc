"""Components that wrap another one and pass its ports through."""

from collections.abc import Iterable
from typing import Any

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In

__all__ = ["pass_ports"]


def pass_ports(m: Module, wrapper: Any, inner: Any, names: Iterable[str]) -> None:
    """Connect ports of a component one to one with those of the same names of its wrapper."""
    for name in names:
        member = inner.signature.members[name]
        ours, theirs = getattr(wrapper, name), getattr(inner, name)
        if member.is_signature:
            wiring.connect(m, wiring.flipped(ours), theirs)
        elif member.flow is In:
            m.d.comb += theirs.eq(ours)
        else:
            m.d.comb += ours.eq(theirs)
