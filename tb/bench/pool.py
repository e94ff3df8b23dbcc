"""Simulations in processes of their own, some at a time, with a bar for each."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Protocol, TypeVar

from rich.console import Console

from bench.progress import ProgressBoard
from demo.progress import PROGRESS
from lib.paths import BUILD
from lib.words import reason

__all__ = ["fresh_parts", "run_pool", "why_failed"]


class Named(Protocol):
    """A job with a name that no other one has."""

    @property
    def name(self) -> str: ...


J = TypeVar("J", bound=Named)
R = TypeVar("R")


def fresh_parts(folder: Path) -> Path:
    """An empty folder for what the simulations leave behind."""
    parts = (folder / "parts").resolve()
    shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir(parents=True)
    return parts


def run_pool(
    jobs: Sequence[J],
    run: Callable[[J, Path, Path, int], R],
    *,
    workers: int,
    seed: int,
    parts: Path,
    console: Console,
) -> Iterator[tuple[J, R]]:
    """Call `run(job, parts, file of its progress, seed)` for all; jobs and results as they end."""
    progress = {job.name: parts / f"{job.name}.progress" for job in jobs}
    context = multiprocessing.get_context("spawn")
    with ProgressBoard(console, progress), ProcessPoolExecutor(workers, context) as pool:
        futures = {pool.submit(run, job, parts, progress[job.name], seed): job for job in jobs}
        for future in as_completed(futures):
            yield futures[future], future.result()


def why_failed(dut: Any, name: str, progress: Path, **options: Any) -> str:
    """Simulate without a word, as `lib.sim.simulate`; why it failed, or nothing."""
    from lib.sim import SimulationFailed, simulate
    from lib.verilate import BuildError

    with contextlib.redirect_stdout(io.StringIO()):  # the console has its own
        try:
            simulate(dut, name=name, env={PROGRESS: str(progress)}, **options)
        except SimulationFailed as error:
            return f"{reason(str(error))}; log: {BUILD / 'sim' / name / 'sim.log'}"
        except BuildError as error:
            return str(error)
    return ""
