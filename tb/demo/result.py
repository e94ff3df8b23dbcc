"""What a run of the demo measured: plain records that travel as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lib.golden import Check

HOST_LATENCY = "host read latency"
"""Key of `Result.device`."""


@dataclass(frozen=True)
class Hop:
    """A moment on a packet's way: `at_ns` since its start."""

    name: str
    at_ns: float


@dataclass(frozen=True)
class Crossing:
    """A TLP of a lone packet as the root port saw it."""

    at_ns: float
    direction: str
    purpose: str
    wire_bytes: int


_HOST_WORDS = ("decoded", "received", "delivered", "root port")


def waits_for_host(hop: str) -> bool:
    """Tell whether the time before a hop is mostly the link's and the host's."""
    return any(words in hop for words in _HOST_WORDS)


@dataclass(frozen=True)
class Journey:
    """One lone packet through the device."""

    title: str
    frame_bytes: int
    hops: list[Hop]
    crossings: list[Crossing]

    @property
    def total_ns(self) -> float:
        """From the first moment to the last."""
        return self.hops[-1].at_ns - self.hops[0].at_ns

    @property
    def inside_ns(self) -> float:
        """The part of it in which neither link nor host had to do something."""
        return sum(end - start for name, start, end in self.steps() if not waits_for_host(name))

    def steps(self) -> list[tuple[str, float, float]]:
        """Give (hop, start, end) in ns for each hop but the first, which starts the clock."""
        return [
            (hop.name, before.at_ns, hop.at_ns)
            for before, hop in zip(self.hops, self.hops[1:], strict=False)
        ]


@dataclass(frozen=True)
class WireLine:
    """TLPs of one purpose in one direction during the flood."""

    direction: str
    purpose: str
    tlps: int
    wire_bytes: int


@dataclass(frozen=True)
class Steady:
    """The middle of the flood, with as much under way at its start as at its end.

    model_mpps: the wire model's ceiling for the frames of this window. busy_up, busy_down: share
    of the link's raw rate that is used, DLLPs included.
    """

    frames: int
    frame_bytes: int
    time_ns: float
    model_mpps: float
    busy_up: float
    busy_down: float

    @property
    def mpps(self) -> float:
        """Million frames per second."""
        return self.frames / self.time_ns * 1e3


@dataclass(frozen=True)
class Flood:
    """All frames of the capture at full rings; times are since its first doorbell.

    steady: None if there are too few frames for a rate.
    """

    frames: int
    frame_bytes: int
    time_ns: float
    steady: Steady | None
    ring_size: int
    doorbells: int
    interrupts: int
    wire: list[WireLine]

    def wire_per_frame(self, direction: str) -> float:
        """Bytes on the wire per frame."""
        total = sum(line.wire_bytes for line in self.wire if line.direction == direction)
        return total / self.frames

    @property
    def mpps(self) -> float:
        """Million frames per second."""
        return self.frames / self.time_ns * 1e3


@dataclass(frozen=True)
class Ceiling:
    """What the wire model says that the link allows for these frames, both ways at once."""

    link: str
    gbps: float
    wire_up: float
    wire_down: float
    mpps: float


@dataclass(frozen=True)
class Result:
    """Everything that the table and the report show."""

    config: dict[str, Any]
    capture: str
    seed: int
    device: dict[str, str]
    flood: Flood
    ceiling: Ceiling
    journeys: list[Journey]
    checks: list[Check]
    files: dict[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether all comparisons passed."""
        return all(check.passed for check in self.checks)

    @property
    def clock_mhz(self) -> float:
        """The device's clock."""
        return float(self.config["clock_mhz"])

    @property
    def cycles(self) -> float:
        """Length of the flood in cycles."""
        return self.flood.time_ns * self.clock_mhz / 1e3

    def save(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")


def load_result(path: Path) -> Result:
    """Read what `Result.save` wrote."""
    content = json.loads(path.read_text())
    flood = content.pop("flood")
    journeys = [
        Journey(
            item["title"],
            item["frame_bytes"],
            [Hop(**hop) for hop in item["hops"]],
            [Crossing(**crossing) for crossing in item["crossings"]],
        )
        for item in content.pop("journeys")
    ]
    steady = flood.pop("steady")
    wire = [WireLine(**line) for line in flood.pop("wire")]
    return Result(
        flood=Flood(**flood, steady=Steady(**steady) if steady else None, wire=wire),
        ceiling=Ceiling(**content.pop("ceiling")),
        journeys=journeys,
        checks=[Check(**check) for check in content.pop("checks")],
        **content,
    )
