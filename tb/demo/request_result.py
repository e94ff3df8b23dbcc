"""What a run of requests measured: plain records that travel as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lib.golden import Check

__all__ = ["Answer", "Phase", "RequestResult", "Sample", "Words", "load_request_result"]


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
    """A part of a run: requests of one kind.

    data_bytes: what they moved, without headers. wire_up, wire_down: bytes on the wire in TLPs.
    busy_up, busy_down: share of the link's raw rate, DLLPs included.
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
class Words:
    """How table and report speak of a run.

    data: what was moved. outcome: what it means that all checks passed. reference: what the checks
    hold the run against. behind: where the device has its data from, a sentence.
    """

    data: str
    outcome: str
    reference: str
    behind: str


@dataclass(frozen=True)
class RequestResult:
    """Everything that table and report show."""

    config: dict[str, Any]
    words: Words
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


def load_request_result(path: Path) -> RequestResult:
    """Read what `RequestResult.save` wrote."""
    content = json.loads(path.read_text())
    phases = [
        Phase(**item | {"answers": [Answer(**answer) for answer in item["answers"]]})
        for item in content.pop("phases")
    ]
    samples = [Sample(**item) for item in content.pop("samples")]
    checks = [Check(**item) for item in content.pop("checks")]
    words = Words(**content.pop("words"))
    return RequestResult(words=words, phases=phases, samples=samples, checks=checks, **content)
