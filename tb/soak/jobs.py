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
from soak.records import Records, read_records

__all__ = ["Job", "deal", "run_jobs"]

_LIMIT_S = 7200


@dataclass(frozen=True)
class Job:
    """One simulation: some cases of a device, with their numbers in the whole soak.

    `module` holds the cocotb test. It finds in `lib.sim.params()` the device's name `config` and
    two files: `cases`, a JSON list of [number, case], and `records`, into which a `RecordWriter`
    writes each case, and then what is wrong at the end.
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
    """Run all; return the records of all cases, and what went wrong beside those that failed."""
    parts = fresh_parts(folder)
    broken: list[str] = []
    records: list[dict[str, Any]] = []
    results = run_pool(jobs, _run, workers=workers, seed=seed, parts=parts, console=console)
    for job, (found, failure) in results:
        records += [record | {"config": job.config, "module": job.module} for record in found.cases]
        broken += [f"{job.name}: {text}" for text in _beside(job, found, failure)]
    shutil.rmtree(parts)
    return sorted(records, key=lambda record: record["number"]), broken


def _beside(job: Job, found: Records, failure: str) -> list[str]:
    """What is wrong with a simulation that its failed cases do not tell."""
    if found.end is None:
        missing = len(job.cases) - len(found.cases)
        where = f"{missing} cases were not run" if missing else "broke off behind the last case"
        return [f"{where}: {failure or 'no reason given'}"]
    if found.end:
        return [f"after the last case: {text}" for text in found.end]
    return [failure] if failure and not any("failed" in record for record in found.cases) else []


def _run(job: Job, parts: Path, progress: Path, seed: int) -> tuple[Records, str]:
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
    return read_records(records), failure
