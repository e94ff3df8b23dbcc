"""Linking the elements of a buffer, in the descriptor table and in indirect tables."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from virtio_model.driver.queue import Segment
from virtio_model.rings.split import DescFlags, SplitDescriptor


class Element(NamedTuple):
    """A segment and the flags of its descriptor, NEXT excepted."""

    segment: Segment
    flags: int


def link(
    elements: Sequence[Element], places: Sequence[int], unread_next: Callable[[], int]
) -> Iterator[tuple[int, SplitDescriptor]]:
    """(place, descriptor) of a chain whose elements lie at the given places."""
    last = len(elements) - 1
    for at, (segment, flags) in enumerate(elements):
        if at < last:
            yield (
                places[at],
                SplitDescriptor(*segment, flags | int(DescFlags.NEXT), places[at + 1]),
            )
        else:
            yield places[at], SplitDescriptor(*segment, flags, unread_next())


class PlainTable:
    """Indirect tables as Linux writes them: in order, and no longer than need be."""

    def unread_next(self) -> int:
        """`next` of a descriptor without NEXT."""
        return 0

    def pointer_flags(self) -> int:
        """Flags besides INDIRECT of the descriptor that points at a table."""
        return 0

    def entries(self, elements: Sequence[Element], limit: int) -> list[SplitDescriptor]:
        """The entries of the table; at most `limit`."""
        del limit
        return [entry for _, entry in link(elements, range(len(elements)), self.unread_next)]


class DrawnTable(PlainTable):
    """Tables with all that a driver is free to choose drawn at random.

    Entries are linked in any order, the first excepted, and noise stands where nothing refers
    to. IN_ORDER wants them in order [virtio 1.4 §2.7.5.3.1].
    """

    def __init__(self, draw: random.Random, in_order: bool) -> None:
        self._draw = draw
        self._in_order = in_order

    def unread_next(self) -> int:
        return self._draw.randrange(1 << 16)

    def pointer_flags(self) -> int:
        # A device must disregard it [virtio 1.4 §2.7.5.3.2].
        return self._draw.choice([0, int(DescFlags.WRITE)])

    def entries(self, elements: Sequence[Element], limit: int) -> list[SplitDescriptor]:
        count = len(elements)
        total = self._draw.choice([count, min(count + self._draw.randint(0, 4), limit)])
        places = list(range(total))
        if not self._in_order:
            rest = places[1:]
            self._draw.shuffle(rest)
            places[1:] = rest
        table = [SplitDescriptor.decode(self._draw.randbytes(16)) for _ in range(total)]
        for place, entry in link(elements, places[:count], self.unread_next):
            table[place] = entry
        return table
