"""Requests for the tests of a block device: random ones, good and bad, and segments refused."""

from __future__ import annotations

import random

from blk_device_rig import header, segment

from virtio_model.spec.blk import RequestStatus, RequestType
from virtio_rtl.config_blk import BlkConfig

__all__ = ["CAPACITY", "SMALL", "UNKNOWN", "random_request", "refused_segments"]

IN, OUT, FLUSH, GET_ID = RequestType.IN, RequestType.OUT, RequestType.FLUSH, RequestType.GET_ID
DISCARD, WRITE_ZEROES = RequestType.DISCARD, RequestType.WRITE_ZEROES
IOERR, UNSUPP = RequestStatus.IOERR, RequestStatus.UNSUPP
UNKNOWN = (2, 3, 5, 6, 7, 9, 10, 12, 14, 15, 16, 18, 20, 22, 24, 26, 0x100, 1 << 31, 0x10001)
CAPACITY = 37
SMALL = {
    "capacity_sectors": CAPACITY,
    "max_discard_sectors": 5,
    "max_discard_seg": 3,
    "max_write_zeroes_sectors": 9,
    "max_write_zeroes_seg": 4,
    "identity": "0123456789abcdefghij",
}


def far_sector() -> int:
    """A sector from where something does not fit; sums that overflow are among them."""
    return random.choice(
        [
            CAPACITY,
            CAPACITY + 1,
            1 << random.randrange(6, 64),
            (1 << 64) - random.randint(1, 20),
            (1 << 32) + random.randrange(CAPACITY),
            (random.getrandbits(58) << 6) | random.randrange(CAPACITY),
        ]
    )


def random_run(longest: int) -> tuple[int, int]:
    """First sector and number of a run inside the disk."""
    sectors = random.choice([0, 1, 1, 1, 2, random.randint(0, longest)])
    return random.randint(0, CAPACITY - sectors), sectors


def random_segments(kind: int) -> bytes:
    """Mostly good ones."""
    config = BlkConfig(**SMALL)  # type: ignore[arg-type]
    most, longest = (
        (config.max_discard_seg, config.max_discard_sectors)
        if kind == DISCARD
        else (config.max_write_zeroes_seg, config.max_write_zeroes_sectors)
    )
    body = b""
    for _ in range(random.choice([0, 1, 1, 2, most, most, most + 1, most + 9])):
        sector, sectors = random_run(longest)
        flags = random.choice([0, 0, 0, 0, 1 if kind == WRITE_ZEROES else 0])
        match random.randrange(24):
            case 0:
                flags = 1 << random.randrange(32)
            case 1:
                sector = far_sector()
            case 2:
                sector, sectors = CAPACITY - sectors + 1, max(sectors, 1)
            case 3:
                sectors = longest + 1
            case 4:
                sectors = 1 << random.randrange(32)
        body += segment(sector, sectors, flags)
    if random.random() < 0.1:
        body += random.randbytes(random.randint(1, 15))
    return body


def random_request() -> tuple[bytes, int]:
    """Readable bytes, and the length of the writable part."""
    writable = random.choice([1, 1, 1, 1, 2, 9, 21, 513])
    match random.randrange(16):
        case 0 | 1 | 2 | 3 | 4:
            sector, sectors = random_run(6)
            extra = random.randbytes(random.randint(1, 50)) if random.random() < 0.1 else b""
            return header(IN, sector, random.getrandbits(32)) + extra, 512 * sectors + 1
        case 5 | 6 | 7 | 8 | 9:
            sector, sectors = random_run(6)
            return header(OUT, sector) + random.randbytes(512 * sectors), writable
        case 10:
            kind = random.choice([DISCARD, WRITE_ZEROES])
            return header(kind) + random_segments(kind), writable
        case 11:
            return header(FLUSH), random.choice([1, 1, 40])
        case 12:
            return header(GET_ID), random.choice([21, 21, 1, 2, 8, 9, 17, 20, 22, 90, 600])
        case 13:
            return header(random.choice(UNKNOWN)) + random.randbytes(
                random.randint(0, 99)
            ), writable
        case 14:
            sectors = random.randint(0, 2)
            sector = random.choice([far_sector(), CAPACITY - sectors + 1])
            if random.random() < 0.5:
                return header(IN, sector), 512 * sectors + 1
            return header(OUT, sector) + random.randbytes(512 * sectors), writable
    match random.randrange(4):
        case 0:
            return header(IN, 1), 1 + random.choice([1, 100, 511, 513, 1000])
        case 1:
            return header(OUT, 1) + random.randbytes(random.choice([1, 511, 513])), writable
        case 2:
            return header(random.choice([IN, OUT, DISCARD]))[: random.randrange(16)], writable
    return header(OUT, 0) + random.randbytes(512), 0


def mixed_segments(bad: list[tuple[int, int, int]], count: int) -> bytes:
    """So many segments, all good but for those; in any order."""
    runs = bad + [(random.randrange(CAPACITY), 1, 0) for _ in range(count - len(bad))]
    random.shuffle(runs)
    return b"".join(segment(*run) for run in runs)


def refused_segments() -> list[tuple[int, bytes, RequestStatus]]:
    """(Type, segments, status) of requests that are refused; all without room for doubt."""
    config = BlkConfig(**SMALL)  # type: ignore[arg-type]
    most = {DISCARD: config.max_discard_seg, WRITE_ZEROES: config.max_write_zeroes_seg}
    outside = [(CAPACITY, 1, 0), (CAPACITY - 1, 2, 0), (1 << 63, 1, 0), (0, 10, 0)]
    unknown = {
        DISCARD: [(0, 1, 1), (4, 1, 1 << 31), (0, 0, 1), (CAPACITY, 1, 1)],
        WRITE_ZEROES: [(0, 1, 2), (4, 1, 1 << 31), (0, 0, 3), (CAPACITY, 1, 6)],
    }
    found: list[tuple[int, bytes, RequestStatus]] = []
    for kind, flags in unknown.items():
        limit = most[kind]
        for far in outside:
            found.append((kind, mixed_segments([far], limit), IOERR))
            found += [(kind, mixed_segments([far, flag], limit), UNSUPP) for flag in flags]
        for flag in flags:
            bodies = [mixed_segments([flag], limit + more) for more in (0, 1, 20)]
            bodies.append(mixed_segments([flag, outside[0]], limit + 3) + bytes(5))
            bodies.append(mixed_segments([flag], 1) + bytes(random.randint(1, 15)))
            found += [(kind, body, UNSUPP) for body in bodies]
        for count, rest in ((limit + 1, 0), (limit + 20, 0), (1, 1), (limit, 15), (0, 15)):
            found.append((kind, mixed_segments([], count) + bytes(rest), IOERR))
        # A segment that lacks its last byte is not looked at.
        found.append((kind, segment(3, 1) + segment(4, 1, 0xFF_FFFF)[:-1], IOERR))
    random.shuffle(found)
    return found
