"""What ``WalkRing`` hands to ``WalkFollow``, and that to ``WalkExpand``."""

from amaranth.lib import data

__all__ = ["TABLE_ROOM", "RingItem"]

TABLE_ROOM = 64
"""Indirect descriptors that may be on their way or wait in ``WalkLanding``."""


class RingItem(data.Struct):
    """One ring descriptor, or one chunk of the indirect table that it points at.

    ``table``: a chunk, whose descriptors come in a packet of their own, with the address and
    length of the whole table where split ones are built; else a direct descriptor.
    ``last`` closes the buffer; ``id`` and ``slots`` count on it. ``error``: the chain breaks a
    rule. ``absent``: not a descriptor at all, but the end of waiting for a buffer.
    """

    queue: 16
    address: 64
    length: 32
    writable: 1
    table: 1
    last: 1
    id: 16
    slots: 16
    error: 1
    absent: 1
