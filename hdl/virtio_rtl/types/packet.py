"""Packets of bytes: what passes the door between the virtqueue engine and a device."""

from amaranth.hdl import unsigned
from amaranth.lib import data, stream

__all__ = ["packet_beat", "packet_stream"]


def packet_beat(width: int, dest_bits: int = 0) -> data.StructLayout:
    """One beat of a packed packet: byte k of the packet in lane ``k % (width // 8)``.

    Every beat but the last is full. ``count`` is the number of bytes in this beat, 1 to
    ``width // 8``; lanes past it are undefined. ``error`` counts on the last beat only: the
    packet's bytes are not to be trusted. ``dest``, if ``dest_bits`` is not 0, is the queue pair
    of the packet, the same on all of its beats.
    """
    return data.StructLayout(
        {
            "data": width,
            "count": unsigned((width // 8).bit_length()),
            "last": unsigned(1),
            "error": unsigned(1),
        }
        | ({"dest": unsigned(dest_bits)} if dest_bits else {})
    )


def packet_stream(width: int, dest_bits: int = 0) -> stream.Signature:
    """Stream of packet beats; may stall at any beat."""
    return stream.Signature(packet_beat(width, dest_bits))
