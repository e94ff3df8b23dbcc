"""What is measured, and the record that comes out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from demo.ceiling import Direction, ceiling, raw_gbps
from virtio_rtl.config import DeviceConfig

BATCH = 32
"""Frames per doorbell."""

RING_SIZE = 1024
"""Unless another is asked for. At 60 Mpps and a loop of 3 us some 200 frames are under way."""

HOST_READ_NS = 600.0


DIRECTIONS: tuple[Direction, ...] = ("transmit", "receive", "both")


@dataclass(frozen=True)
class Scenario:
    """One measurement: frames of one size at full rings.

    frame_bytes: the customary name, 64 with FCS or 1500 without; `length` goes through the port.
    warm_up, window: frames.
    """

    direction: Direction
    frame_bytes: int
    length: int
    warm_up: int
    window: int

    @property
    def title(self) -> str:
        """What people call it."""
        return f"{self.direction}, {self.frame_bytes} bytes"


def scenarios(quick: bool) -> list[Scenario]:
    """Return all measurements."""
    found = []
    for frame_bytes, length, window in (
        (64, 60, 2048 if quick else 6144),
        (1500, 1500, 384 if quick else 2048),
    ):
        for direction in DIRECTIONS:
            warm_up = min(1024, window // 2)
            found.append(Scenario(direction, frame_bytes, length, warm_up, window))
    return found


@dataclass(frozen=True)
class Window:
    """What was seen in steady state.

    frames: per direction. wire_up, wire_down: bytes of TLPs. gbps_up, gbps_down: with DLLPs.
    peak_reads: most reads that the host had to answer at a time, since reset.
    """

    frames: dict[str, int]
    time_ns: float
    wire_up: int
    wire_down: int
    gbps_up: float
    gbps_down: float
    doorbells: int
    peak_reads: int


def record(
    config: DeviceConfig, scenario: Scenario, window: Window, ring_size: int
) -> dict[str, Any]:
    """Return the line for results.json. For both ways, rates and bytes are per pair of frames,
    one each way; the slower way counts."""
    frames = min(window.frames.values())
    mpps = frames / window.time_ns * 1e3
    limit = ceiling(config, [scenario.length], scenario.direction)
    return {
        "config": config.name,
        "ring": "packed",
        "direction": scenario.direction,
        "frame_bytes": scenario.frame_bytes,
        "mpps": round(mpps, 4),
        "ceiling_mpps": round(limit.mpps, 4),
        "ratio": round(mpps / limit.mpps, 4),
        "cycles_per_frame": round(config.clock_mhz / mpps, 4),
        "wire_up": round(window.wire_up / frames, 3),
        "wire_down": round(window.wire_down / frames, 3),
        "ceiling_wire_up": round(limit.wire_up, 3),
        "ceiling_wire_down": round(limit.wire_down, 3),
        "gbps_up": round(window.gbps_up, 3),
        "gbps_down": round(window.gbps_down, 3),
        "link_gbps": round(raw_gbps(config), 3),
        "frames": window.frames,
        "window_ns": round(window.time_ns, 1),
        "ring_size": ring_size,
        "batch": BATCH,
        "host_read_ns": HOST_READ_NS,
        "doorbells": window.doorbells,
        "peak_reads_in_flight": window.peak_reads,
        "scenario": asdict(scenario),
    }
