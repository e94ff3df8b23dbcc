"""What a run with a block device measured: plain records that travel as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lib.golden import Check

__all__ = ["Answer", "DiskResult", "Phase", "Sample", "load_disk_result"]


@dataclass(frozen=True)
class Answer:
    """A request of a phase; times are since the first doorbell of the run."""

    sent_ns: float
    done_ns: float

    @property
    def latency_ns(self) -> float:
        """From the driver's ring entry to the driver's look at the answer."""
        return self.done_ns - self.sent_ns


@dataclass(frozen=True)
class Sample:
    """A moment of a run: bytes of data that have crossed the link so far, requests in flight."""

    at_ns: float
    down_bytes: int
    up_bytes: int
    in_flight: int


@dataclass(frozen=True)
class Phase:
    """The image written, or read back; or the flush between.

    wire_up, wire_down: bytes on the wire in TLPs; busy_up, busy_down: share of the link's raw
    rate, DLLPs included.
    """

    name: str
    data_bytes: int
    start_ns: float
    time_ns: float
    doorbells: int
    interrupts: int
    tlps_up: int
    tlps_down: int
    wire_up: int
    wire_down: int
    busy_up: float
    busy_down: float
    answers: list[Answer]

    @property
    def requests(self) -> int:
        """How many there were."""
        return len(self.answers)

    @property
    def gigabytes(self) -> float:
        """Data per second of simulated time, in 1e9 bytes."""
        return self.data_bytes / self.time_ns

    def latency(self, share: float) -> float:
        """A quantile of the latencies, in ns."""
        ordered = sorted(answer.latency_ns for answer in self.answers)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


@dataclass(frozen=True)
class DiskResult:
    """Everything that table and report show."""

    config: dict[str, Any]
    image: str
    image_bytes: int
    seed: int
    device: dict[str, str]
    phases: list[Phase]
    samples: list[Sample]
    checks: list[Check]
    notes: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether all checks passed."""
        return all(check.passed for check in self.checks)

    @property
    def clock_mhz(self) -> float:
        """The device's clock."""
        return float(self.config["clock_mhz"])

    def save(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")


def load_disk_result(path: Path) -> DiskResult:
    """Read what `DiskResult.save` wrote."""
    content = json.loads(path.read_text())
    phases = [
        Phase(**item | {"answers": [Answer(**answer) for answer in item["answers"]]})
        for item in content.pop("phases")
    ]
    samples = [Sample(**item) for item in content.pop("samples")]
    checks = [Check(**item) for item in content.pop("checks")]
    return DiskResult(phases=phases, samples=samples, checks=checks, **content)
