"""Records that travel between the stages of the split virtqueue's fetch."""

from amaranth.hdl import unsigned
from amaranth.lib import data, enum

__all__ = [
    "BLOCK",
    "WINDOWS",
    "RingReadKind",
    "SplitDescriptor",
    "WindowEntry",
    "available_state",
    "issue_state",
    "loaded_ticket",
    "resolve_state",
    "ring_read",
    "split_entry",
    "split_ticket",
]

BLOCK = 16
"""Descriptors of a block: 256 bytes, aligned in memory; a read of descriptors stays inside one.

A *place* is a descriptor's block (12 bits) and its offset inside it (4 bits): its index plus
bits 7 to 4 of the table's address.
"""


WINDOWS = 4
"""Blocks that are held at a time, some of them being loaded; more than two, for short ones and
long ones alternate."""


class SplitDescriptor(data.Struct):
    """Split virtqueue descriptor as it lies in memory. [virtio 1.4 §2.7.5]"""

    address: 64
    length: 32
    next: 1
    write: 1
    indirect: 1
    reserved: 13
    next_index: 16


class WindowEntry(data.Struct):
    """A descriptor in the window, with what is known of its ``next``.

    ``offset`` is that of the next descriptor in its block, ``block`` that block. ``inside``: the
    next descriptor is in the window as well; ``beyond``: it lies behind the table's end.
    """

    address: 64
    length: 32
    next: 1
    write: 1
    indirect: 1
    offset: 4
    block: 12
    inside: 1
    beyond: 1


class RingReadKind(enum.Enum, shape=unsigned(2)):
    """What ``SplitIssue`` asks for: ``avail.idx``, heads, or the rest of a chain (no ring read)."""

    INDEX = 0
    HEADS = 1
    CHAIN = 2


def ring_read(pointer_bits: int) -> data.StructLayout:
    """One look into the driver area in flight.

    ``limit``: where the read-ahead store was full when it was issued. ``estimate``: log2 of the
    length of the virtqueue's chains, 3 for anything longer than 4. ``place``: of the descriptor
    with which a chain goes on.
    """
    return data.StructLayout(
        {
            "queue": 16,
            "kind": RingReadKind,
            "epoch": 1,
            "limit": pointer_bits,
            "estimate": 2,
            "place": 16,
        }
    )


def split_entry(pointer_bits: int) -> data.StructLayout:
    """A head at ``place``, or a descriptor with which a ``chain`` goes on.

    The rest as of ``ring_read`` and ``split_ticket``; ``last`` of its ring read.
    """
    return data.StructLayout(
        {
            "queue": 16,
            "epoch": 1,
            "limit": pointer_bits,
            "estimate": 2,
            "place": 16,
            "size": 16,
            "descriptor_area": 64,
            "chain": 1,
            "bad": 1,
            "lost": 1,
            "last": 1,
        }
    )


def split_ticket(pointer_bits: int) -> data.StructLayout:
    """One read of descriptors in flight, inside one block.

    ``count`` descriptors from offset ``low`` of ``block`` on, among them ``heads`` heads at the
    offsets ``offsets``, in this order; no head: the rest of a chain. ``bad``: instead, the driver
    made a head available that is not in the table. ``lost``: the heads could not be read.
    ``area``: bits 7 to 4 of the table's address.
    """
    return data.StructLayout(
        {
            "queue": 16,
            "epoch": 1,
            "limit": pointer_bits,
            "block": 12,
            "low": 4,
            "count": 5,
            "heads": 5,
            "offsets": data.ArrayLayout(unsigned(4), BLOCK),
            "size": 16,
            "area": 4,
            "bad": 1,
            "lost": 1,
        }
    )


def loaded_ticket(pointer_bits: int) -> data.StructLayout:
    """A ticket whose descriptors are in ``window``; ``error``: they could not be read."""
    return data.StructLayout(
        {
            "ticket": split_ticket(pointer_bits),
            "window": unsigned((WINDOWS - 1).bit_length()),
            "error": 1,
        }
    )


def issue_state() -> data.StructLayout:
    """What ``SplitIssue`` knows of a virtqueue.

    ``position``: the next one to ask for, in ``epoch``. ``asked`` and ``chained`` change with every
    read of ``avail.idx`` and every rest of a chain asked for. ``doorbell``: one was not heard yet;
    ``moved``: heads were asked for behind the last read of ``avail.idx``; ``halted``: that was
    impossible.
    """
    return data.StructLayout(
        {
            "position": 16,
            "epoch": 1,
            "asked": 1,
            "doorbell": 1,
            "moved": 1,
            "chained": 1,
            "halted": 1,
        }
    )


def available_state() -> data.StructLayout:
    """What ``SplitAvailable`` knows of a virtqueue.

    ``known``: ``avail.idx`` as last read. ``answered`` changes with every answer to such a read,
    ``found``: the last one found new buffers; ``streak``: how often in a row it found many,
    saturated at 3.
    """
    return data.StructLayout({"known": 16, "answered": 1, "found": 1, "streak": 2})


def resolve_state(pointer_bits: int) -> data.StructLayout:
    """What ``SplitResolve`` knows of a virtqueue.

    ``position``: the next position of the available ring whose chain has not begun. ``pointer``
    and ``committed``: places in the read-ahead store. ``epoch`` changes with every rewind.
    ``open``: a chain has begun and not ended; it goes on at ``place``, its head is ``id``, it has
    ``slots`` descriptors so far; some of them are committed (``parted``). ``chained`` changes with
    every rest of a chain that came. ``estimate``: as in ``ring_read``. ``halted``: a chain broke a
    rule; nothing is read any more until a reset.
    """
    return data.StructLayout(
        {
            "position": 16,
            "pointer": pointer_bits,
            "committed": pointer_bits,
            "epoch": 1,
            "open": 1,
            "parted": 1,
            "place": 16,
            "id": 16,
            "slots": 16,
            "chained": 1,
            "estimate": 2,
            "halted": 1,
        }
    )
