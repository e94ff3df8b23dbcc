"""How long the host takes to answer a read."""

from __future__ import annotations

import random


class ReadLatency:
    """Time from a read's arrival at the root port to the moment its data is ready.

    mean_ns: mean. range_ns: shortest and longest; None means always `mean_ns`. The draw is
    uniform on each side of the mean, weighted so that the mean comes out exactly.
    reorder: a later read may be answered before an earlier one; else answers keep the order of
    the requests (a late one holds up those behind it).
    """

    def __init__(
        self,
        mean_ns: float = 600.0,
        range_ns: tuple[float, float] | None = (400.0, 1000.0),
        *,
        reorder: bool = True,
        seed: int | None = None,
    ) -> None:
        low, high = range_ns if range_ns else (mean_ns, mean_ns)
        if not 0 <= low <= mean_ns <= high:
            raise ValueError(f"mean of {mean_ns} ns is not between {low} and {high} ns")
        self.mean_ns = mean_ns
        self.low_ns = low
        self.high_ns = high
        self.reorder = reorder
        self._random = random.Random(random.getrandbits(32) if seed is None else seed)
        self._last_ns = 0.0
        self._below = (high - mean_ns) / (high - low) if high > low else 1.0

    def answer_at(self, arrival_ns: float) -> float:
        """Return the time at which a read that arrives at `arrival_ns` is answered."""
        draw = self._random
        if self.low_ns == self.high_ns:
            delay = self.mean_ns
        elif draw.random() < self._below:
            delay = draw.uniform(self.low_ns, self.mean_ns)
        else:
            delay = draw.uniform(self.mean_ns, self.high_ns)
        answer = arrival_ns + delay
        if not self.reorder:
            answer = max(answer, self._last_ns)
        self._last_ns = answer
        return answer
