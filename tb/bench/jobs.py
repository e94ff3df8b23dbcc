"""Runs the simulations of a benchmark, several at a time, and collects their records."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.pool import fresh_parts, run_pool, why_failed
from bench.scenario import MANY_RING_SIZE, Scenario
from virtio_rtl.config import DeviceConfig, named_config

__all__ = ["Job", "Plan", "plan_jobs", "run_jobs"]

_LIMIT_S = 7200
_COST_OF_START = 60_000
"""Of a simulation, in units of `Scenario.cost`: what a second one must save to be worth it."""

Plan = list[tuple[DeviceConfig, list[Scenario]]]
"""All that is to be measured, in the order of the table."""


@dataclass(frozen=True)
class Job:
    """One simulation: some scenarios of a configuration, with their places in the whole plan."""

    name: str
    config: str
    ring_size: int
    numbers: tuple[int, ...]
    scenarios: tuple[Scenario, ...]

    @property
    def cost(self) -> float:
        """About how long it takes, in arbitrary units."""
        return sum(scenario.cost for scenario in self.scenarios)


def plan_jobs(plan: Plan, ring_size: int, workers: int) -> list[Job]:
    """Cut a plan into jobs; those to start first come first.

    A configuration is cut into as many as there are workers if that is worth it. The first jobs
    are of different configurations, for one that builds a model holds up others that want it.
    """
    rounds: list[list[Job]] = [[] for _ in range(workers)]
    number = 0
    for config, wanted in plan:
        numbered = list(enumerate(wanted, number))
        number += len(wanted)
        size = MANY_RING_SIZE if config.queue_pairs > 1 else ring_size
        whole = sum(scenario.cost for scenario in wanted)
        parts = min(workers, len(wanted), max(1, int(whole / _COST_OF_START)))
        groups: list[list[tuple[int, Scenario]]] = [[] for _ in range(parts)]
        for item in sorted(numbered, key=lambda item: -item[1].cost):
            min(groups, key=lambda group: sum(s.cost for _, s in group)).append(item)
        for part, group in enumerate(groups):
            numbers, scenarios = zip(*sorted(group, key=lambda item: item[0]), strict=True)
            name = f"bench_{config.name}" + (f"_{part}" if part else "")
            rounds[part].append(Job(name, config.name, size, numbers, scenarios))
    for jobs in rounds:
        jobs.sort(key=lambda job: -job.cost)
    return [job for jobs in rounds for job in jobs]


def run_jobs(
    jobs: Sequence[Job], *, workers: int, seed: int, folder: Path, console: Console
) -> tuple[list[dict[str, Any]], list[str]]:
    """Run all; return the records that came out, in the plan's order, and what failed."""
    parts = fresh_parts(folder)
    failures = [
        f"{job.name}: {failure}"
        for job, failure in run_pool(
            jobs, _run, workers=workers, seed=seed, parts=parts, console=console
        )
        if failure
    ]
    numbers = sorted(number for job in jobs for number in job.numbers)
    paths = [parts / f"{number}.json" for number in numbers]
    records = [json.loads(path.read_text()) for path in paths if path.exists()]
    shutil.rmtree(parts)
    return records, failures


def _run(job: Job, parts: Path, progress: Path, seed: int) -> str:
    """Simulate a job, in a process of its own; return why it failed, or nothing."""
    from bench.wrapper import BenchDevice
    from virtio_rtl.top import VirtioDevice

    config = named_config(job.config)
    return why_failed(
        BenchDevice(config) if config.device == "net" else VirtioDevice(config),
        job.name,
        progress,
        module="bench.measure",
        params={
            "config": job.config,
            "ring_size": job.ring_size,
            "scenarios": [asdict(scenario) for scenario in job.scenarios],
            "numbers": job.numbers,
            "folder": str(parts),
            "seed": seed,
        },
        seed=seed,
        limit_s=_LIMIT_S,
    )
