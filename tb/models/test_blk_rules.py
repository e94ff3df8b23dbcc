"""Rules for a block driver's requests: the driver keeps them, the golden device looks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from blk_rig import ALL, PACKED, SPLIT, BlkRig

from virtio_model.blk_request import Range, RequestHeader, encode_ranges
from virtio_model.driver.blk import BlkDriver
from virtio_model.errors import DriverBreach, DriverMisuse
from virtio_model.spec.blk import BlkFeature, RequestType
from virtio_model.spec.features import mask

T = RequestType
ONE, TWO = (encode_ranges([Range(0, 1)] * count) for count in (1, 2))
SECTOR = bytes(512)

Raw = tuple[int, int, bytes, int]
"""Type, sector, data, room for data."""

RULES: list[tuple[str, str, Raw, Raw]] = [
    # row, text, a request that breaks it, the next best that does not
    ("drv-blk-req-02", "capacity", (T.IN, 16, b"", 512), (T.IN, 15, b"", 512)),
    ("drv-blk-req-02", "capacity", (T.OUT, 15, SECTOR * 2, 0), (T.OUT, 14, SECTOR * 2, 0)),
    (
        "drv-blk-req-02",
        "capacity",
        (T.DISCARD, 0, encode_ranges([Range(8, 9)]), 0),
        (T.DISCARD, 0, encode_ranges([Range(7, 9)]), 0),
    ),
    ("drv-blk-req-04", "flush is not 0", (T.FLUSH, 1, b"", 0), (T.FLUSH, 0, b"", 0)),
    ("drv-blk-req-05", "flush with data", (T.FLUSH, 0, SECTOR, 0), (T.FLUSH, 0, b"", 0)),
    ("drv-blk-req-05", "flush with data", (T.FLUSH, 0, b"", 512), (T.FLUSH, 0, b"", 0)),
    ("drv-blk-req-06", "multiple of 512", (T.IN, 0, b"", 500), (T.IN, 0, b"", 1024)),
    ("drv-blk-req-06", "multiple of 512", (T.OUT, 0, b"x", 0), (T.OUT, 0, SECTOR, 0)),
    ("drv-blk-req-07", "whole ranges", (T.DISCARD, 0, ONE + b"x", 0), (T.DISCARD, 0, ONE, 0)),
    (
        "drv-blk-req-07",
        "whole ranges",
        (T.WRITE_ZEROES, 0, ONE[:8], 0),
        (T.WRITE_ZEROES, 0, ONE, 0),
    ),
    ("drv-blk-req-08", "not 20 bytes", (T.GET_ID, 0, b"", 19), (T.GET_ID, 0, b"", 20)),
    ("drv-blk-req-09", "too many", (T.DISCARD, 0, TWO + ONE, 0), (T.DISCARD, 0, TWO, 0)),
    (
        "drv-blk-req-11",
        "too many",
        (T.WRITE_ZEROES, 0, TWO + TWO, 0),
        (T.WRITE_ZEROES, 0, TWO + ONE, 0),
    ),
    (
        "drv-blk-req-14",
        "unmap",
        (T.DISCARD, 0, encode_ranges([Range(0, 1, 1)]), 0),
        (T.WRITE_ZEROES, 0, encode_ranges([Range(0, 1, 1)]), 0),
    ),
    (
        "",
        "reserved flags",
        (T.WRITE_ZEROES, 0, encode_ranges([Range(0, 1, 4)]), 0),
        (T.WRITE_ZEROES, 0, ONE, 0),
    ),
    (
        "",
        "longer than allowed",
        (T.WRITE_ZEROES, 0, encode_ranges([Range(0, 8)]), 0),
        (T.WRITE_ZEROES, 0, encode_ranges([Range(0, 7)]), 0),
    ),
    ("", "other direction", (T.IN, 0, b"x", 512), (T.IN, 0, b"", 512)),
    ("", "other direction", (T.OUT, 0, SECTOR, 512), (T.OUT, 0, SECTOR, 0)),
    ("", "other direction", (T.DISCARD, 0, ONE, 1), (T.DISCARD, 0, ONE, 0)),
]


def _send(rig: BlkRig, raw: Raw) -> None:
    kind, sector, data, room = raw
    rig.driver.send(RequestHeader(kind, sector).encode() + data, room + 1)


@pytest.mark.parametrize("ring", [SPLIT, PACKED])
@pytest.mark.parametrize(("row", "text", "wrong", "right"), RULES)
def test_device_refuses(row: str, text: str, wrong: Raw, right: Raw, ring: int) -> None:
    """The golden device names the rule and its row, and takes what just keeps it."""
    rig = BlkRig(ring=ring)
    before = bytes(rig.image)
    _send(rig, right)
    assert rig.device.process() == 1
    assert rig.driver.poll() is not None
    rig.image[:] = before
    _send(rig, wrong)
    with pytest.raises(DriverBreach, match=text) as breach:
        rig.device.process()
    assert f"[{row}]" in str(breach.value) if row else "[" not in str(breach.value)
    assert bytes(rig.image) == before


MISUSES: list[tuple[str, Callable[[BlkDriver], int]]] = [
    ("capacity", lambda driver: driver.read(16, 1)),
    ("capacity", lambda driver: driver.write(15, bytes(1024))),
    ("capacity", lambda driver: driver.write_zeroes([Range(15, 2)])),
    ("multiple of 512", lambda driver: driver.write(0, b"x")),
    ("too many", lambda driver: driver.discard([Range(0, 1)] * 3)),
    ("too many", lambda driver: driver.write_zeroes([Range(0, 1)] * 4)),
    ("whole ranges", lambda driver: driver.discard([])),
    ("unmap", lambda driver: driver.discard([Range(0, 1, 1)])),
    ("reserved", lambda driver: driver.write_zeroes([Range(0, 1, 2)])),
    ("longer", lambda driver: driver.discard([Range(0, 10)])),
]


@pytest.mark.parametrize(("text", "ask"), MISUSES)
def test_driver_does_not_ask(text: str, ask: Callable[[BlkDriver], int]) -> None:
    """The driver sends no such request."""
    rig = BlkRig()
    before = rig.allocator.outstanding
    with pytest.raises(DriverMisuse, match=text):
        ask(rig.driver)
    assert rig.driver.queues[0].outstanding == 0
    assert rig.allocator.outstanding == before


@pytest.mark.parametrize("kind", [T.FLUSH, T.DISCARD, T.WRITE_ZEROES])
def test_a_command_needs_its_feature(kind: RequestType) -> None:
    """Neither side takes a command that was not negotiated for good."""
    rig = BlkRig(features=ALL & ~mask([BlkFeature[kind.name]]))
    data = [] if kind == T.FLUSH else [[Range(0, 1)]]
    with pytest.raises(DriverMisuse, match=f"without {kind.name}"):
        getattr(rig.driver, kind.name.lower())(*data)
    _send(rig, (kind, 0, ONE if data else b"", 0))
    with pytest.raises(DriverBreach, match=f"without {kind.name}"):
        rig.device.process()


@pytest.mark.parametrize("kind", [T.OUT, T.DISCARD, T.WRITE_ZEROES])
def test_a_read_only_disk_is_not_written(kind: RequestType) -> None:
    """Neither side takes a write to a disk that is read-only."""
    rig = BlkRig(read_only=True)
    ways: dict[RequestType, Callable[[], int]] = {
        T.OUT: lambda: rig.driver.write(0, SECTOR),
        T.DISCARD: lambda: rig.driver.discard([Range(0, 1)]),
        T.WRITE_ZEROES: lambda: rig.driver.write_zeroes([Range(0, 1)]),
    }
    with pytest.raises(DriverMisuse, match="read-only"):
        ways[kind]()
    _send(rig, (kind, 0, SECTOR if kind == T.OUT else ONE, 0))
    with pytest.raises(DriverBreach, match="read-only"):
        rig.device.process()


@pytest.mark.parametrize(
    ("readable", "writable", "text"), [(bytes(15), 1, "header"), (bytes(16), 0, "status")]
)
def test_device_refuses_half_requests(readable: bytes, writable: int, text: str) -> None:
    """Without a whole header, or a byte for the status, it is no request."""
    rig = BlkRig()
    rig.driver.send(readable, writable)
    with pytest.raises(DriverBreach, match=text):
        rig.device.process()
