"""Random requests through a `BlkSystem`, good ones and bad ones, every answer compared."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from lib.streams import cycles
from virtio_model.blk_request import Range, RequestHeader, encode_ranges
from virtio_model.spec.blk import ID_BYTES, SECTOR_SIZE, RequestType

if TYPE_CHECKING:
    from lib.blk_system import BlkSystem

__all__ = ["exchange", "random_request"]

_T = RequestType
_LONGEST = 6
"""Sectors of a read or a write."""


def random_request(
    system: BlkSystem, index: int, hostile: float = 0.0, longest: int = _LONGEST
) -> tuple[bytes, int]:
    """The readable bytes of a request, and the number of writable ones; in the queue's part.

    hostile: the chance of one that a good driver would not send. longest: sectors of a read or a
    write.
    """
    if random.random() < hostile:
        return _bad_request(system, index)
    part = system.part(index)
    kind = random.choice([_T.IN] * 6 + [_T.OUT] * 6 + [_T.FLUSH, _T.GET_ID, 11, 13])
    data, room, sector = b"", 0, 0
    if kind in (_T.IN, _T.OUT):
        sector = random.choice(part)
        length = SECTOR_SIZE * min(random.randint(0, longest), part.stop - sector)
        data, room = (b"", length) if kind == _T.IN else (random.randbytes(length), 0)
    elif kind == _T.GET_ID:
        room = ID_BYTES
    elif kind in (_T.DISCARD, _T.WRITE_ZEROES):
        _, most = system.limits.ranges(kind)
        ranges = [_range(system, index) for _ in range(random.randint(1, most))]
        data = encode_ranges(ranges)
    return RequestHeader(kind, sector, random.getrandbits(32)).encode() + data, room + 1


def _range(system: BlkSystem, index: int) -> Range:
    part = system.part(index)
    sector = random.choice(part)
    return Range(sector, min(random.randint(0, 9), part.stop - sector))


def _bad_request(system: BlkSystem, index: int) -> tuple[bytes, int]:
    """Something that breaks a rule, or that the device does not know."""
    end = system.limits.capacity
    sector = random.choice([end, end - 1, end + 1, (1 << 64) - 1, 1 << 63, 1 << 55, 1 << 32])
    good = random.choice(system.part(index))
    wrong = [Range(sector, 2), Range(good, 1, random.choice([2, 1 << 31])), Range(0, 1 << 31)]
    ranges = [_range(system, index), random.choice(wrong)]
    random.shuffle(ranges)
    header = RequestHeader
    # The device knows what to answer long before it has read all of a long one.
    rest = random.randbytes(random.choice([0, 512, 8192]))
    return random.choice(
        [
            (header(random.choice([2, 3, 5, 10, 14, 15, 26, 1 << 31])).encode() + rest, 9),
            (header(_T.IN, sector).encode(), 1025),
            (header(_T.OUT, sector).encode() + random.randbytes(1024) + rest, 1),
            (header(_T.IN, good).encode(), random.choice([2, 512, 514, 700])),
            (header(_T.OUT, good).encode() + random.randbytes(random.choice([1, 511, 600])), 1),
            (header(_T.OUT, good).encode() + random.randbytes(512), 0),
            (header(_T.OUT, good).encode() + random.randbytes(512), 77),
            (header(_T.IN, good).encode() + random.randbytes(40), 513),
            (header(_T.IN, good).encode(), 0),
            (header(_T.OUT, good).encode()[: random.randint(1, 15)], random.randint(1, 40)),
            (b"", random.randint(1, 40)),
            (header(_T.GET_ID).encode(), random.randint(1, 64)),
            (header(_T.FLUSH, 7).encode() + b"more", 30),
            (header(_T.WRITE_ZEROES).encode() + encode_ranges(ranges), 1),
            (header(_T.DISCARD).encode() + encode_ranges(ranges), 5),
            (header(_T.DISCARD).encode() + encode_ranges([Range(good, 1, 1)]), 1),
            (header(_T.DISCARD).encode() + encode_ranges([Range(good, 0)] * 9), 1),
            (header(_T.WRITE_ZEROES).encode() + encode_ranges([Range(good, 1)])[:-1], 1),
        ]
    )


async def exchange(system: BlkSystem, count: int, *, hostile: float = 0.0) -> None:
    """Have `count` random requests answered, spread over all virtqueues."""
    left = count
    while left:
        for index in range(len(system.queues)):
            for _ in range(random.randint(0, 12)):
                if not left or not system.ask(index, *random_request(system, index, hostile)):
                    break
                left -= 1
            await system.kick(index)
        await cycles(system.dut, random.choice([10, 100, 400]))
        system.poll()
        for queue in system.queues:
            queue.audit()
    await system.finish()
    system.host.check()
    assert not system.memory.faults
