"""Runs the simulations of a soak, several at a time, and collects their records."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.progress import ProgressBoard
from demo.progress import PROGRESS
from lib.paths import BUILD
from lib.words import reason

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
    parts = (folder / "parts").resolve()
    shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir(parents=True)
    progress = {job.name: parts / f"{job.name}.progress" for job in jobs}
    broken = []
    records: list[dict[str, Any]] = []
    context = multiprocessing.get_context("spawn")
    with ProgressBoard(console, progress), ProcessPoolExecutor(workers, context) as pool:
        futures = {pool.submit(_run, job, parts, progress[job.name], seed): job for job in jobs}
        for future in as_completed(futures):
            job = futures[future]
            found, failure = future.result()
            records += [record | {"config": job.config, "module": job.module} for record in found]
            missing = len(job.cases) - len(found)
            if failure and (missing or not any("failed" in record for record in found)):
                broken.append(f"{job.name}: {missing} cases were not run: {failure}")
    shutil.rmtree(parts)
    return sorted(records, key=lambda record: record["number"]), broken


def _run(job: Job, parts: Path, progress: Path, seed: int) -> tuple[list[dict[str, Any]], str]:
    """Simulate a job, in a process of its own; its records, and why it failed."""
    from lib.sim import SimulationFailed, simulate
    from lib.verilate import BuildError
    from soak.configs import soak_config
    from virtio_rtl.top import VirtioDevice

    cases, records = parts / f"{job.name}.cases", parts / f"{job.name}.records"
    listed = [(at, asdict(case) if is_dataclass(case) else case) for at, case in job.cases]  # type: ignore[arg-type]
    cases.write_text(json.dumps(listed))
    failure = ""
    with contextlib.redirect_stdout(io.StringIO()):  # the console has its own
        try:
            simulate(
                VirtioDevice(soak_config(job.config)),
                module=job.module,
                name=job.name,
                params={"config": job.config, "cases": str(cases), "records": str(records)},
                env={PROGRESS: str(progress)},
                seed=seed,
                limit_s=_LIMIT_S,
            )
        except SimulationFailed as error:
            failure = f"{reason(str(error))}; log: {BUILD / 'sim' / job.name / 'sim.log'}"
        except BuildError as error:
            failure = str(error)
    lines = records.read_text().splitlines() if records.exists() else []
    return [json.loads(line) for line in lines], failure
