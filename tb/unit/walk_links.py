"""Split rings around a walker: indirect tables whose descriptors are linked, and what they mean."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from walk_bench import Case
from walk_rig import Rig

from lib.dma_model import ReadClientModel
from lib.sim import params

__all__ = ["Entry", "SplitRig", "chain_of", "follow"]

NEXT, WRITE, INDIRECT = 1, 2, 4
Segment = tuple[int, int, int]
NOTHING: Segment = (0, 0, 0)


@dataclass
class Entry:
    """A split descriptor. [virtio 1.4 §2.7.5]"""

    segment: Segment
    next: int | None = None
    indirect: bool = False

    def to_bytes(self) -> bytes:
        """Sixteen bytes; flags that have no meaning, and a link that does not count, are random."""
        address, length, write = self.segment
        flags = (random.getrandbits(16) & ~7) | (NEXT if self.next is not None else 0)
        flags |= (WRITE if write else 0) | (INDIRECT if self.indirect else 0)
        link = random.getrandbits(16) if self.next is None else self.next
        fields = ((address, 8), (length, 4), (flags, 2), (link, 2))
        return b"".join(value.to_bytes(size, "little") for value, size in fields)


def follow(table: list[Entry], size: int) -> tuple[list[Segment], int | None]:
    """The segments of a table's chain, and the index of the first that breaks a rule.

    A chain that cannot go on ends in a segment of no length.
    """
    segments: list[Segment] = []
    at: int | None = 0
    while at is not None:
        if at >= len(table) or len(segments) == min(len(table), size):
            return [*segments, NOTHING], len(segments)
        entry = table[at]
        segments.append(entry.segment)
        if entry.indirect:
            end = [] if entry.next is None else [NOTHING]
            return segments + end, len(segments) - 1
        at = entry.next
    return segments, None


def chain_of(count: int, order: list[int], segments: list[Segment]) -> list[Entry]:
    """A table of `count` entries, with a chain through some of them, and rubbish in the others."""
    table = [
        Entry((random.getrandbits(64), random.getrandbits(32), random.getrandbits(1)),
              next=random.randrange(count), indirect=random.random() < 0.5)
        for _ in range(count)
    ]  # fmt: skip
    for place, segment, following in zip(order, segments, [*order[1:], None], strict=True):
        table[place] = Entry(segment, following)
    return table


class SplitRig(Rig):
    """A rig whose virtqueues are split."""

    def __init__(self, dut: Any, *, stall: float, **options: Any):
        super().__init__(dut, stall=stall, **options)
        dut.packed.value = 0
        self.jumps = ReadClientModel(
            dut, "jump_request", "jump_packet", self.memory, params().width,
            latency=options.get("latency", (3, 60)), stall=stall,
        )  # fmt: skip

    def store(self, table: list[Entry], *, at: int | None = None) -> int:
        """Put a table into memory; its address."""
        address = self.next_table if at is None else at
        self.next_table = address + 16 * len(table) + 4096
        for index, entry in enumerate(table):
            self.memory.set(address + 16 * index, entry.to_bytes())
        return address

    def linked(
        self, table: list[Entry], *, direct: list[Segment] | None = None, length: int | None = None
    ) -> Case:
        """Direct descriptors, if any, and an indirect one behind."""
        ring = [
            {"address": a, "length": n, "write": w, "next": 1, "id": random.getrandbits(16)}
            for a, n, w in direct or []
        ]
        address = self.store(table)
        ring.append(
            {"address": address, "length": 16 * len(table) if length is None else length,
             "indirect": 1, "write": random.getrandbits(1), "next": 0,
             "id": random.getrandbits(16)}
        )  # fmt: skip
        segments, bad = follow(table, self.size)
        before = [] if direct is None else direct
        case = Case(ring, before + segments)
        if bad is not None:
            case.error, case.bad_from = 1, len(before) + bad
        if len(ring) > self.size:
            case.bad_from = min(case.bad_from, self.size) if case.error else self.size
            case.error = 1
        return case

    def table(self, segments: list[Segment], *, poison: bool = False) -> Case:
        """A chain in entry order, as drivers write it."""
        assert not poison
        return self.linked(chain_of(len(segments), list(range(len(segments))), segments))

    def random_table(self) -> list[Entry]:
        """Any chain: in order, with gaps, to and fro, with one thing wrong now and then."""
        segments = self.random_segments(min(self.size, 40))
        count = len(segments) + random.choice([0, 0, 1, 5, 40])
        order = [0, *random.sample(range(1, count), len(segments) - 1)]
        choice = random.random()
        if choice < 0.3:
            order = list(range(len(segments)))
        elif choice < 0.7:
            order.sort()
        table = chain_of(count, order, segments)
        spot = table[random.choice(order)]
        fault = random.random()
        if fault < 0.1:
            spot.next = random.choice(order)  # back to where the chain was: a loop
        elif fault < 0.2:
            spot.next = random.choice([count, count + 1, 0xFFFF])
        elif fault < 0.3:
            spot.indirect = True
        elif fault < 0.4:
            spot.next = random.randrange(count)  # into the rubbish, perhaps
        return table

    def bad_table(self) -> Case:
        """A table that breaks a rule from outside: nothing of it is read."""
        length = random.choice([0, 8, 17, 0xFFFF_FFFF, 16])
        ring = [
            {"address": 64, "length": length, "indirect": 1, "next": int(length == 16), "id": 9,
             "write": 1}
        ]  # fmt: skip
        segments = [NOTHING]
        if random.random() < 0.5 and self.size > 1:
            ring.insert(0, {"address": 5, "length": 6, "next": 1, "id": 9, "write": 0})
            segments.insert(0, (5, 6, 0))
        return Case(ring, segments, 1, len(segments) - 1)

    def random_case(self) -> Case:
        choice = random.random()
        if choice < 0.3:
            return self.direct(self.random_segments(min(self.size + 2, 40)))
        if choice < 0.9:
            direct = None
            if random.random() < 0.4:
                direct = self.random_segments(min(self.size + 1, 10))
            return self.linked(self.random_table(), direct=direct)
        return self.bad_table()
