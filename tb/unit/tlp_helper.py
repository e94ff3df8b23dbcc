"""TLPs for the tests of the PCIe rooms: random ones, to beats, and back from beats."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from lib.streams import StreamSink, pack
from virtio_rtl.types.tlp import TLPHeader, TLPType, tlp_beat


@dataclass
class TLP:
    """A header as a dict of its fields, and the payload's dwords."""

    header: dict[str, Any]
    payload: list[int] = field(default_factory=list)

    def beats(self, width: int) -> list[int]:
        """Return the packed beats; what a receiver must ignore is random."""
        lanes = width // 32
        count = max(1, -(-len(self.payload) // lanes))
        items = []
        for index in range(count):
            dwords = self.payload[index * lanes : (index + 1) * lanes]
            value = sum(dword << 32 * lane for lane, dword in enumerate(dwords))
            value |= random.getrandbits(width) >> 32 * len(dwords) << 32 * len(dwords)
            header = pack(TLPHeader, self.header) if index == 0 else random.getrandbits(159)
            items.append(
                pack(
                    tlp_beat(width),
                    {
                        "data": value,
                        "header": header,
                        "first": index == 0,
                        "last": index == count - 1,
                    },
                )
            )
        return items


def random_dwords(count: int) -> list[int]:
    """Return random payload."""
    return [random.getrandbits(32) for _ in range(count)]


def random_header(kind: TLPType | int, length_dw: int, **fields: Any) -> dict[str, Any]:
    """Return a header with the given fields, the others random."""
    return {
        "type": kind,
        "traffic_class": random.getrandbits(3),
        "no_snoop": random.getrandbits(1),
        "relaxed_ordering": random.getrandbits(1),
        "length_dw": length_dw,
        "first_be": random.getrandbits(4),
        "last_be": random.getrandbits(4),
        "requester_id": random.getrandbits(16),
        "tag": random.getrandbits(10),
        "address": random.getrandbits(62) << 2,
        "completer_id": random.getrandbits(16),
        "byte_count": random.randint(1, 4096),
        "lower_address": random.getrandbits(7),
        "bar": random.randrange(6),
    } | fields


async def take_tlp(sink: StreamSink, width: int) -> tuple[Any, list[int]]:
    """Receive one TLP of beat records: its header, and all lanes of its beats as dwords."""
    header: Any = None
    dwords: list[int] = []
    while True:
        beat = await sink.receive()
        assert beat.first == (header is None), "first marks the first beat of a TLP, and no other"
        if beat.first:
            header = beat.header
        dwords += [beat.data >> 32 * lane & 0xFFFFFFFF for lane in range(width // 32)]
        if beat.last:
            return header, dwords
