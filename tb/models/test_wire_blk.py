"""The wire formulas of block requests, worked out by hand."""

from __future__ import annotations

import pytest

from virtio_model.wire import GEN3_X8, Ring, ceiling_mpps
from virtio_model.wire_blk import BlkShape, Direction, blk_bytes_per_request

HEADER, STATUS, BELL = (24, 36), (28, 0), (0, 28 / 8)
DESCRIPTOR = (24 / 16, (256 + 20) / 16)
READ_512, WRITE_512 = (512 + 2 * 24, 0), (24, 512 + 2 * 20)
ENTRY = (2 * 24 / 16, (4 + 20 + 32 + 20) / 16)
"""avail.idx and 16 entries."""
SPLIT_USED = ((8 * 16 + 24 + 24 + 4) / 16, 0)


def added(*parts: tuple[float, float], chain: int = 0) -> list[float]:
    """Bytes up and down, with so many descriptors."""
    whole = [*parts, *[DESCRIPTOR] * chain]
    return [sum(part[way] for part in whole) for way in (0, 1)]


@pytest.mark.parametrize(
    ("direction", "ring", "indirect", "expected"),
    [
        ("read", "packed", False, added(HEADER, STATUS, BELL, READ_512, (40, 0), chain=3)),
        ("write", "packed", False, added(HEADER, STATUS, BELL, WRITE_512, (40, 0), chain=3)),
        ("read", "split", False, added(HEADER, STATUS, BELL, READ_512, ENTRY, SPLIT_USED, chain=3)),
        # A table of 48 bytes, used descriptors side by side.
        ("write", "packed", True,
         added(HEADER, STATUS, BELL, WRITE_512, (24, 68), (17.5, 0), chain=1)),
        ("write", "split", True,
         added(HEADER, STATUS, BELL, WRITE_512, (24, 68), ENTRY, SPLIT_USED, chain=1)),
    ],
)  # fmt: skip
def test_requests_of_a_sector(
    direction: Direction, ring: Ring, indirect: bool, expected: list[float]
) -> None:
    """Header, descriptors, data, status, used buffer and doorbell."""
    load = blk_bytes_per_request(direction, BlkShape(512, indirect=indirect), ring)
    assert list(load) == pytest.approx(expected)


def test_large_requests() -> None:
    """64 KiB are 16 pages; a table of 18 descriptors takes two completions."""
    shape = BlkShape(65536, indirect=True)
    assert (shape.segments, shape.slots, BlkShape(65536).slots) == (18, 1, 18)
    load = blk_bytes_per_request("read", shape, "packed")
    data, table = (65536 + 256 * 24, 0), (24, 288 + 2 * 20)
    assert list(load) == pytest.approx(added(HEADER, STATUS, BELL, data, table, (17.5, 0), chain=1))
    load = blk_bytes_per_request("write", BlkShape(65536), "packed", chunk=64, mrrs=256)
    data, header = (256 * 24, 65536 + 1024 * 20), (24, 36)
    parts = added(header, STATUS, BELL, data, (40, 0))
    parts = [parts[0] + 18 * 24 / 16, parts[1] + 18 * (256 + 4 * 20) / 16]
    assert list(load) == pytest.approx(parts)


def test_pieces_and_rates() -> None:
    """A rest has a segment of its own; larger requests come closer to the wire."""
    assert BlkShape(5000).pieces == (4096, 904)
    sizes = (512, 4096, 65536)
    for direction in ("read", "write"):
        rates = [
            size * ceiling_mpps(GEN3_X8, blk_bytes_per_request(direction, BlkShape(size), "packed"))
            for size in sizes
        ]
        assert rates == sorted(rates)
        assert rates[0] > 0.7 * GEN3_X8.gbps * 1e3 / 8
        assert rates[-1] < 0.95 * GEN3_X8.gbps * 1e3 / 8
