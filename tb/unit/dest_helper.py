"""Packets that belong to a queue pair: beats that carry `dest`, if the run has any bits of it."""

from __future__ import annotations

import random
from typing import Any

from lib.dma_model import packet_beats
from lib.sim import params
from lib.streams import StreamSink

__all__ = ["random_dest", "steered_beats", "steered_packet"]


def random_dest() -> int:
    """Any value of `dest` that this run (`params().dest_bits`) has."""
    return random.getrandbits(params().dest_bits)


def steered_beats(
    data: bytes, width: int, dest: int, *, error: bool = False
) -> list[dict[str, Any]]:
    """Beats of a packed packet, `dest` on all of them."""
    field = {"dest": dest} if params().dest_bits else {}
    return [beat | field for beat in packet_beats(data, width, error=error)]


async def steered_packet(sink: StreamSink) -> tuple[bytes, bool, int]:
    """Wait for a whole packet; its bytes, its error flag, and `dest`, the same on all beats."""
    data, dests = b"", set()
    while True:
        beat = await sink.receive()
        data += int(beat.data).to_bytes(64, "little")[: beat.count]
        dests.add(beat.get("dest", 0))
        if beat.last:
            assert len(dests) == 1, "dest changed within a packet"
            return data, bool(beat.error), dests.pop()
