"""Command line of the proofs."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from formal.engine import FOLDER, Outcome, Task, run, tasks_of
from formal.proof import Proof, all_proofs
from formal.table import table, write

_WIDTH = 140

app = typer.Typer(add_completion=False)


def choose(proofs: dict[str, Proof], name: str) -> list[Proof]:
    """Return the proofs of that name, or else of that file, or else with that text in the name."""
    if not name:
        return list(proofs.values())
    if name in proofs:
        return [proofs[name]]
    of_file = [each for each in proofs.values() if each.file in (name, f"prove_{name}")]
    return of_file or [each for each in proofs.values() if name in each.name]


def run_all(tasks: list[Task], jobs: int, timeout: float, console: Console) -> list[Outcome]:
    """Run all tasks, `jobs` at a time, and tell of each as it ends; return them in order."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    outcomes: dict[str, Outcome] = {}
    live = console.is_terminal
    with (
        Progress(*columns, TimeElapsedColumn(), console=console, disable=not live) as progress,
        ThreadPoolExecutor(jobs) as pool,
    ):
        bar = progress.add_task("proving", total=len(tasks))
        waiting = [pool.submit(run, task, timeout) for task in tasks]
        for future in as_completed(waiting):
            outcome = future.result()
            outcomes[outcome.task.label] = outcome
            progress.advance(bar)
            if not outcome.good:
                _complain(console, outcome)
            elif not live:
                count = f"{len(outcomes)}/{len(tasks)}"
                line = f"{count} {outcome.task.label}: {outcome.status} ({outcome.seconds:.0f} s)"
                console.print(line, highlight=False)
    return [outcomes[task.label] for task in tasks]


def _complain(console: Console, outcome: Outcome) -> None:
    """Say what is wrong, and where to look."""
    task = outcome.task
    what = f"[bold red]{task.label}: {outcome.status}[/] instead of {task.wanted}"
    console.print(f"{what} ({FOLDER / task.label})", highlight=False, soft_wrap=True)
    if outcome.message:
        console.print(f"  {outcome.message}", highlight=False, markup=False, soft_wrap=True)
    if task.mutant is not None and outcome.status == "PASS":
        mutant = task.proof.mutants[task.mutant]
        text = f"  not caught: {mutant.file}: {mutant.old} -> {mutant.new}"
        console.print(text, highlight=False, markup=False, soft_wrap=True)


@app.command()
def formal(
    name: Annotated[str, typer.Argument(help="A proof, a file, or part of a name; all.")] = "",
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time.")] = 1,
    timeout: Annotated[float, typer.Option(help="Seconds that one run may take.")] = 600,
    mutants: Annotated[bool, typer.Option(help="Prove that the mutants fail.")] = True,
) -> None:
    """Prove, catch the mutants, reach the covers; write build/formal/results.json."""
    begun = time.monotonic()
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDTH)
    proofs = choose(all_proofs(), name)
    if not proofs:
        console.print(f"error: no proof {name}", highlight=False, markup=False)
        raise typer.Exit(2)
    tasks = [task for proof in proofs for task in tasks_of(proof)]
    if not mutants:
        tasks = [task for task in tasks if task.mutant is None]
    outcomes = run_all(tasks, jobs, timeout, console)
    write(FOLDER / "results.json", outcomes)
    console.print(table(proofs, outcomes))
    bad = [outcome for outcome in outcomes if not outcome.good]
    seconds = time.monotonic() - begun
    text = f"{len(proofs)} proofs, {len(outcomes)} runs, {len(bad)} wrong, {seconds:.0f} s"
    console.print(text, highlight=False)
    raise typer.Exit(1 if bad else 0)


def main() -> None:
    """Run the command line."""
    app(prog_name="make formal, or python -m formal")
