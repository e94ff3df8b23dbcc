"""Runs the simulations of a soak, several at a time, and collects their records."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.pool import fresh_parts, run_pool, why_failed

__all__ = ["Job", "deal", "run_jobs"]

_LIMIT_S = 7200


@dataclass(frozen=True)
class Job:
    """One simulation: some cases of a device, with their numbers in the whole soak.

    `module` holds the cocotb test. It finds in `lib.sim.params()` the device's name `config` and
    two files: `cases`, a JSON list of [number, case], and `records`, into which it writes a line
    of JSON for each case: its number, its figures, and if it failed, why (``failed``).
    """

    name: str
    module: str
    config: str
    cases: tuple[tuple[int, Any], ...]


def deal(kind: str, config: str, cases: Sequence[tuple[int, Any]], parts: int) -> list[Job]:
    """Deal the cases of a device out to so many simulations of the module soak.<kind>."""
    dealt = [tuple(cases[part::parts]) for part in range(parts)]
    return [
        Job(f"soak_{kind}_{config}_{part}", f"soak.{kind}", config, some)
        for part, some in enumerate(dealt)
        if some
    ]


def run_jobs(
    jobs: Sequence[Job], *, workers: int, seed: int, folder: Path, console: Console
) -> tuple[list[dict[str, Any]], list[str]]:
    """Run all; return the records of all cases, and why simulations broke off."""
    parts = fresh_parts(folder)
    broken = []
    records: list[dict[str, Any]] = []
    results = run_pool(jobs, _run, workers=workers, seed=seed, parts=parts, console=console)
    for job, (found, failure) in results:
        records += [record | {"config": job.config, "module": job.module} for record in found]
        missing = len(job.cases) - len(found)
        if failure and (missing or not any("failed" in record for record in found)):
            broken.append(f"{job.name}: {missing} cases were not run: {failure}")
    shutil.rmtree(parts)
    return sorted(records, key=lambda record: record["number"]), broken


def _run(job: Job, parts: Path, progress: Path, seed: int) -> tuple[list[dict[str, Any]], str]:
    """Simulate a job, in a process of its own; its records, and why it failed."""
    from soak.configs import soak_config, soak_device

    cases, records = parts / f"{job.name}.cases", parts / f"{job.name}.records"
    listed = [(at, asdict(case) if is_dataclass(case) else case) for at, case in job.cases]  # type: ignore[arg-type]
    cases.write_text(json.dumps(listed))
    failure = why_failed(
        soak_device(soak_config(job.config)),
        job.name,
        progress,
        module=job.module,
        params={"config": job.config, "cases": str(cases), "records": str(records)},
        seed=seed,
        limit_s=_LIMIT_S,
    )
    lines = records.read_text().splitlines() if records.exists() else []
    return [json.loads(line) for line in lines], failure
