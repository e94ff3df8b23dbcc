"""Records that travel between the rooms of the read engine; none of them leaves it."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, ShapeLike, Value, ValueLike, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import Out
from amaranth.utils import exact_log2

from virtio_rtl.types.dma import DMAError

__all__ = [
    "LOW_TAGS",
    "chunk_layout",
    "ended_layout",
    "flight_layout",
    "index_of",
    "launch_layout",
    "one_hot",
    "piece_layout",
    "read_error",
    "release_layout",
    "select",
    "share_layout",
    "slot_rows",
    "strobe",
    "tag_use",
]

LOW_TAGS = 32
"""Tags that a function may use without Extended Tag Field Enable. [PCIe 3.0 §2.2.6.2]"""


def strobe(shape: ShapeLike) -> wiring.Signature:
    """A value that has to be taken in the cycle in which it is valid."""
    return wiring.Signature({"payload": Out(shape), "valid": Out(1)})


def one_hot(index: Value, count: int) -> Value:
    """``count`` bits of which bit ``index`` is set."""
    return Cat(index == bit for bit in range(count))


def index_of(hot: Value) -> Value:
    """The number of the one bit that is set; 0 if none is."""
    return Cat(
        Cat(hot[bit] for bit in range(len(hot)) if bit >> place & 1).any()
        for place in range(max((len(hot) - 1).bit_length(), 1))
    )


def select(hot: Value, values: Sequence[ValueLike]) -> Value:
    """The value whose bit is set, of those that have one bit each; 0 if none is."""
    result: Value = Const(0)
    for bit, value in zip(hot, values, strict=True):
        plain = Value.cast(value)
        result = result | (plain & bit.replicate(len(plain)))
    return result


def slot_rows(width: int, slot_bytes: int) -> int:
    """Rows of ``width`` bits that one tag owns."""
    return slot_bytes * 8 // width


def read_error(clients: int) -> data.StructLayout:
    """A failed group: whose, and why (the first error of the group)."""
    return data.StructLayout({"client": range(max(clients, 2)), "code": DMAError})


def chunk_layout(width: int) -> data.StructLayout:
    """One memory read to be: at most MRRS and inside 4 KiB.

    ``dwords`` is how many dwords it touches, ``single`` says that it is one; ``last_byte`` is the
    place of its last byte in its dword. ``first_lane`` is the lane of its first byte in the packet,
    ``end`` the sum of that and ``length``; ``last`` ends the group.
    """
    return data.StructLayout(
        {
            "address": 64,
            "length": 13,
            "dwords": 11,
            "single": 1,
            "last_byte": 2,
            "first_lane": exact_log2(width // 8),
            "end": 13,
            "last": 1,
        }
    )


def tag_use(tags: int) -> data.StructLayout:
    """A tag and the generation bit of its use: it toggles from one use to the next."""
    return data.StructLayout({"tag": range(tags), "generation": 1})


def share_layout(width: int, tags: int, slot_bytes: int) -> data.StructLayout:
    """The share that one tag has in its client's packet, for the readout.

    ``rows`` rows are read; all of them become beats, but for the last one if ``carry`` is set:
    that one is not full and is continued by the client's next tag. ``beats`` counts the beats.
    ``end_count`` is the number of bytes in the last row, counted from lane 0.
    """
    lanes = width // 8
    rows = slot_rows(width, slot_bytes)
    return data.StructLayout(
        {
            "use": tag_use(tags),
            "first_lane": exact_log2(lanes),
            "rows": range(rows + 2),
            "beats": range(rows + 2),
            "end_count": unsigned(lanes.bit_length()),
            "carry": 1,
            "last": 1,
        }
    )


def flight_layout(slot_bytes: int) -> data.StructLayout:
    """What the reassembly has to know about a read that was sent.

    ``end_position`` is where the slot's position one past the last byte is, modulo the slot;
    ``end_address`` are the low bits of the address one past the last byte.
    """
    return data.StructLayout(
        {
            "generation": 1,
            "length": 13,
            "end_position": exact_log2(slot_bytes),
            "end_address": 7,
        }
    )


def launch_layout(width: int, tags: int, slot_bytes: int, clients: int) -> data.StructLayout:
    """A read that is sent in this cycle."""
    return data.StructLayout(
        {
            "client": range(max(clients, 2)),
            "share": share_layout(width, tags, slot_bytes),
            "flight": flight_layout(slot_bytes),
        }
    )


def ended_layout(tags: int) -> data.StructLayout:
    """A read has ended: all of its bytes are in the slot, or it failed."""
    return data.StructLayout({"use": tag_use(tags), "code": DMAError})


def release_layout(tags: int, clients: int) -> data.StructLayout:
    """A client gives a tag back: its slot has been read."""
    return data.StructLayout({"client": range(max(clients, 2)), "use": tag_use(tags)})


def piece_layout(width: int, tags: int, slot_bytes: int) -> data.StructLayout:
    """One beat of a completion on its way into a slot.

    Data lane k belongs into lane ``(k + shift) % lanes`` of ``row``, or of the row after it where
    that sum reaches the number of lanes. Only lanes with ``enable`` are written.
    """
    lanes = width // 8
    return data.StructLayout(
        {
            "tag": range(tags),
            "row": range(slot_rows(width, slot_bytes)),
            "shift": exact_log2(lanes),
            "data": width,
            "enable": lanes,
        }
    )
