"""Addresses and lengths of what hostile descriptors point at."""

from __future__ import annotations

import random

from lib.hostile.arena import (
    ARENA,
    ARENA_BYTES,
    BUFFERS,
    MEMORY_BASE,
    MEMORY_BYTES,
    NEIGHBOUR,
    TABLES,
    Place,
)

__all__ = ["any_address", "any_length", "buffer_address", "table_address"]

_ODD_LENGTHS = (
    0, 0, 1, 11, 12, 13, 15, 16, 17, 63, 64, 4095, 4096, 4097, 65535, 65536, 1 << 20, 1 << 31,
    (1 << 32) - 1, (1 << 32) - 16,
)  # fmt: skip


def buffer_address(draw: random.Random) -> int:
    """An address that 2 KiB fit behind, in the arena."""
    return draw.randrange(BUFFERS, ARENA + ARENA_BYTES - 2048)


def table_address(draw: random.Random) -> int:
    """An address for a table; nothing says that it must be aligned."""
    return draw.randrange(TABLES, BUFFERS - 1024) & draw.choice((-16, -16, -16, -4, -1))


def any_address(draw: random.Random, places: list[Place]) -> int:
    """Mostly a good one; else on the rings, at an edge, not granted, not there at all."""
    kind = draw.randrange(12)
    if kind < 6:
        return buffer_address(draw)
    place = draw.choice(places)
    return (
        lambda: place.desc + draw.randrange(16 * place.size),
        lambda: place.device + draw.randrange(64),
        lambda: draw.choice((NEIGHBOUR - 0x8000, MEMORY_BASE)) + draw.randrange(4096),
        lambda: ARENA + ARENA_BYTES - draw.randrange(1, 64),
        lambda: MEMORY_BASE + MEMORY_BYTES - draw.randrange(1, 64) + draw.choice((0, 1 << 40)),
        lambda: draw.choice((0, 0xFFFF_F000, (1 << 64) - 64, (1 << 63) + 4096)) + draw.randrange(8),
    )[kind - 6]()


def any_length(draw: random.Random) -> int:
    """Mostly what fits; else an edge, or up to 4 GiB."""
    kind = draw.randrange(4)
    if kind == 0:
        return draw.choice(_ODD_LENGTHS)
    if kind == 1:
        return draw.getrandbits(draw.randrange(1, 33))
    return draw.randrange(1, 1600)
