"""Which free entries of a descriptor table a driver takes next."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

FreePolicy = Literal["linux", "fifo", "random"]
"""linux: freed chains come back to the front, so that buffers used in order leave descending
runs; fifo: the table in order, round and round, as IN_ORDER demands; random: far chains."""


class FreeList:
    """Free entries of a split virtqueue's descriptor table."""

    def __init__(self, size: int, policy: FreePolicy, draw: random.Random) -> None:
        if policy not in get_args(FreePolicy):
            raise ValueError(f"free list policy {policy!r} is none of {get_args(FreePolicy)}")
        self.policy = policy
        self._draw = draw
        self._free: deque[int] = deque()
        self.refill(range(size))

    def __len__(self) -> int:
        return len(self._free)

    def refill(self, slots: Iterable[int]) -> None:
        """Start over with these entries."""
        order = list(slots)
        if self.policy == "random":
            self._draw.shuffle(order)
        self._free = deque(order)

    def take(self, count: int) -> list[int]:
        """Entries for a chain, in the chain's order."""
        return [self._free.popleft() for _ in range(count)]

    def give(self, slots: Sequence[int]) -> None:
        """Take the entries of a used chain back."""
        if self.policy == "linux":
            self._free.extendleft(reversed(slots))
        elif self.policy == "fifo":
            self._free.extend(slots)
        else:
            for slot in slots:
                self._free.insert(self._draw.randint(0, len(self._free)), slot)
