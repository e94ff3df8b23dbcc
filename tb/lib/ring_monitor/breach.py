"""What the ring monitor found: breaches, each with the requirement row that it breaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["DEVICE", "DRIVER", "Breach", "Report"]

DEVICE = "device"
DRIVER = "driver"

_KEPT = 1000
"""A broken loop must not fill the memory."""


@dataclass(frozen=True)
class Breach:
    """One broken rule."""

    time: float
    side: str
    queue: int | None
    row: str
    text: str

    def __str__(self) -> str:
        where = "" if self.queue is None else f" queue {self.queue}"
        return f"{self.time:g}{where} {self.side} [{self.row}] {self.text}"


class Report:
    """The breaches in the order of their finding.

    Parameters
    ----------
    now
        Gives the time, in any unit that the limits of the monitor use as well.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.breaches: list[Breach] = []
        self.count = 0

    def add(self, side: str, row: str, queue: int | None, text: str) -> None:
        """Note a breach."""
        self.count += 1
        if len(self.breaches) < _KEPT:
            self.breaches.append(Breach(self.now(), side, queue, row, text))

    def clear(self) -> None:
        """Forget all breaches."""
        self.breaches.clear()
        self.count = 0

    def of(self, side: str) -> list[Breach]:
        """The breaches of one side."""
        return [breach for breach in self.breaches if breach.side == side]

    @property
    def rows(self) -> set[str]:
        """Ids of all rows that were broken."""
        return {breach.row for breach in self.breaches}

    def check(self, side: str | None = None) -> None:
        """Assert that nobody, or that one side, broke a rule."""
        found = self.breaches if side is None else self.of(side)
        shown = "\n".join(map(str, found[:10]))
        assert not found, f"{len(found)} breaches:\n{shown}"
