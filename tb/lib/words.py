"""Numbers and nouns for people."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return "1 frame", "2,000 frames"."""
    return f"{number:,} {noun}" + "s" * (number != 1)


def reason(message: str) -> str:
    """Return in one line why a simulation failed, of `lib.sim.SimulationFailed`'s long message."""
    head, _, rest = message.partition("\nfailed:\n")
    what = (rest.partition("\n--- log:\n")[0] or head).strip().splitlines()
    return what[0] if what else "no reason given"
