"""How long a virtqueue's chains are, from what was seen lately."""

from amaranth.hdl import Mux, Value

__all__ = ["chain_class", "next_estimate"]


def chain_class(length: Value) -> Value:
    """Log2 of a chain's length, rounded up: 0 to 2, and 3 for anything longer than 4."""
    return Mux(length > 4, 3, Mux(length > 2, 2, length > 1))


def next_estimate(
    estimate: Value, most: int, *, longest: Value, ended: Value, overflows: Value
) -> Value:
    """Estimate after a ticket: up at once to the longest chain, down step by step.

    ``overflows``: there was less room in the store than the estimate had promised. ``most``: a
    chain may not ask for more room than the walker is sure to give.
    """
    capped = Mux(longest > most, most, longest)
    rises = (longest > estimate) & (estimate < most)
    falls = ended & (longest < estimate)
    return Mux(
        rises,
        capped,
        Mux(overflows & (estimate < most), estimate + 1, Mux(falls, estimate - 1, estimate)),
    )
