"""What is measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from demo.ceiling import CHUNK
from demo.ceiling import Direction as NetDirection
from virtio_model.spec.blk import SECTOR_SIZE
from virtio_model.wire import Ring
from virtio_model.wire_blk import BlkShape
from virtio_rtl.config import DeviceConfig

Direction = NetDirection | Literal["read", "write"]
Case = Literal["flood", "pieces64", "framing", "pairs128", "lone", "chain", "indirect"]

BATCH = 32
"""Frames per doorbell."""

RING_SIZE = 1024
"""Unless another is asked for. At 60 Mpps and a loop of 3 us some 200 frames are under way."""

MANY_RING_SIZE = 64
"""With many queue pairs."""

HOST_READ_NS = 600.0

DIRECTIONS: tuple[Direction, ...] = ("transmit", "receive", "both")

BLK_DIRECTIONS: tuple[Direction, ...] = ("read", "write")

BLK_SIZES = (512, 4096, 65536)
"""Bytes of data of a block request."""

SMALL, LARGE = (64, 60), (1500, 1500)
"""The customary sizes, and what goes through the port: 64 counts the FCS, 1500 does not."""

SWEEP = ((128, 124), (256, 252), (512, 508), (1024, 1020), (4096, 4096), (9000, 9000))
"""Sizes between and beyond, for the picture."""

FRAMING_BYTES = "60-9000"


@dataclass(frozen=True)
class Scenario:
    """One measurement.

    frame_bytes: the customary name, 64 with FCS or 1500 without; `length` goes through the port
    (0: lengths are drawn). warm_up, window: frames. piece: bytes of a completion. ring: the
    virtqueues' format.

    Of a block device: requests are what frames are elsewhere, and both sizes are those of the data.
    case: a request is a "chain" of the ring, or "indirect", a table of its own.
    """

    direction: Direction
    frame_bytes: int | str
    length: int
    warm_up: int
    window: int
    case: Case = "flood"
    piece: int = CHUNK
    ring: Ring = "packed"

    @property
    def title(self) -> str:
        """What people call it."""
        extra = "" if self.case == "flood" else f", {self.case}"
        extra += "" if self.ring == "packed" else f", {self.ring}"
        return f"{self.direction}, {self.frame_bytes} bytes{extra}"

    @property
    def of_blk(self) -> bool:
        """Whether it is one of a block device."""
        return self.direction in BLK_DIRECTIONS

    @property
    def cost(self) -> float:
        """How long its simulation takes, in arbitrary units: about the TLPs that it moves."""
        size = self.length or 4500
        frames = (self.warm_up + self.window) * (2 if self.direction == "both" else 1)
        return frames * (30 if self.case == "lone" else 3 + size / self.piece)


def _floods(sizes: Iterable[tuple[int, int]], most: int, wire_bytes: int) -> list[Scenario]:
    """Return floods of at most `most` frames and about `wire_bytes` each, all directions.

    Used descriptors arrive in bursts of a few batches: a window of n frames is right to about
    50 / n.
    """
    found = []
    for name, length in sizes:
        frames = max(256, min(most, wire_bytes // length))
        warm_up = min(1024, max(frames // 2, 256))
        found += [Scenario(way, name, length, warm_up, frames) for way in DIRECTIONS]
    return found


def scenarios(config: DeviceConfig, quick: bool) -> list[Scenario]:
    """Return all measurements of a configuration: the packed ring's, then the split ring's.

    The sweep over frame sizes is the packed ring's alone.
    """
    if config.device == "blk":
        return _blk(config, quick)
    found: list[Scenario] = []
    for ring in ("packed", "split"):
        if ring in config.rings:
            sweep = not quick and ring == "packed"
            found += [replace(one, ring=ring) for one in _one_ring(config, quick, sweep)]
    return found


def _one_ring(config: DeviceConfig, quick: bool, sweep: bool) -> list[Scenario]:
    each_way = DIRECTIONS[:2]
    if config.queue_pairs > 1:
        # Every ring must have gone round before the window begins.
        warm_up, window = config.queue_pairs * MANY_RING_SIZE, 4096 if quick else 16384
        return [Scenario(way, *SMALL, warm_up, window, "pairs128") for way in each_way]
    small = 3072 if quick else 16384
    found = _floods((SMALL,), small, small * SMALL[1])
    found += _floods((LARGE,), 768 if quick else 2048, 1 << 30)
    if sweep:
        found += _floods(SWEEP, 8192, 3_000_000)
    if not quick or config.lanes == 8:
        found += [Scenario(way, *SMALL, 1024, small, "pieces64", 64) for way in DIRECTIONS]
    for way in each_way:
        found.append(Scenario(way, FRAMING_BYTES, 0, 256, 256 if quick else 1024, "framing"))
        found.append(Scenario(way, *SMALL, 2, 16 if quick else 64, "lone"))
    return found


def blk_shape(scenario: Scenario) -> BlkShape:
    """Return how the requests of a block device are laid out."""
    return BlkShape(scenario.length, indirect=scenario.case == "indirect")


def _blk(config: DeviceConfig, quick: bool) -> list[Scenario]:
    """Return reads and writes; before either, requests of the same size fill the disk."""
    if quick:
        return [_requests(config, way, 512, 512, "chain", "packed") for way in BLK_DIRECTIONS]
    cases: tuple[Case, ...] = ("chain", "indirect")
    rings: tuple[Ring, ...] = ("packed", "split")
    return [
        _requests(config, way, size, window, case, ring)
        for ring in rings
        if ring in config.rings
        for case in cases
        for size, window in zip(BLK_SIZES, (2048, 512, 96), strict=True)
        for way in BLK_DIRECTIONS
    ]


def _requests(
    config: DeviceConfig, way: Direction, size: int, window: int, case: Case, ring: Ring
) -> Scenario:
    fill = config.blk.capacity_sectors * SECTOR_SIZE // size
    warm_up = fill + min(256, max(window // 2, 64))
    return Scenario(way, size, size, warm_up, window, case, ring=ring)
