"""Command line of the long runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from demo.cli import fail, parse_seed, say
from lib.paths import BUILD
from soak.case import Case, draw_cases
from soak.configs import PAIRS
from soak.jobs import Job, golden_jobs, run_jobs
from soak.table import golden_table

FOLDER = BUILD / "soak"
SHARES = {"net-x8": 0.7, PAIRS: 0.3}
"""Devices of the golden comparison, with their share of the buffers."""

_WIDTH = 110

app = typer.Typer(add_completion=False)


def golden_cases(seed: int, buffers: int) -> dict[str, list[tuple[int, Case]]]:
    """The cases of each device, numbered through."""
    found: dict[str, list[tuple[int, Case]]] = {}
    number = 0
    for at, (config, share) in enumerate(SHARES.items()):
        drawn = draw_cases(seed + at, round(buffers * share))
        found[config] = list(enumerate(drawn, number))
        number += len(drawn)
    return found


def _golden(seed: int, buffers: int, case: int | None, parts: int) -> list[Job]:
    made: list[list[Job]] = []
    for config, cases in golden_cases(seed, buffers).items():
        chosen = [item for item in cases if case in (None, item[0])]
        made.append(golden_jobs(config, chosen, parts))
    # Of different devices in turn, for two that build the same model would wait for each other.
    return [jobs[part] for part in range(parts) for jobs in made if part < len(jobs)]


@app.command()
def soak(
    buffers: Annotated[int, typer.Option(min=1, help="Of the golden comparison.")] = 100_000,
    seed: Annotated[str, typer.Option(envvar="SEED", help="A number, or random.")] = "",
    jobs: Annotated[int, typer.Option(envvar="JOBS", min=1, help="Simulations at a time.")] = 2,
    case: Annotated[int, typer.Option(help="Only the case of this number.")] = -1,
    output: Annotated[str, typer.Option(help="Folder for the results; build/soak.")] = "",
) -> None:
    """Run random traffic against the golden device; write build/soak/results.json."""
    from lib.sim import choose_seed

    number = choose_seed("soak", parse_seed(seed))
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDTH)
    folder = Path(output) if output else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    say(console, f"seed: {number}")
    todo = _golden(number, buffers, None if case < 0 else case, jobs)
    if not todo:
        fail(f"--case {case}: there is none", 2)
    records, broken = run_jobs(todo, workers=jobs, seed=number, folder=folder, console=console)
    _save(folder / "results.json", number, records, broken)
    console.print(golden_table(records, number))
    say(console, f"results: {folder / 'results.json'}")
    failed = [record for record in records if "failed" in record]
    for record in failed:
        say(console, f"case {record['number']} ({record['config']}): {record['failed'][:400]}")
        say(
            console,
            f"  alone: make soak ARGS='--seed {number} --buffers {buffers} "
            f"--case {record['number']}'",
        )
    for text in broken:
        say(console, text)
    if failed or broken:
        fail(f"{len(failed)} cases failed, {len(broken)} simulations broke off", 1)


def _save(path: Path, seed: int, records: list[dict[str, Any]], broken: list[str]) -> None:
    path.write_text(json.dumps({"seed": seed, "broken": broken, "golden": records}, indent=1))


def main() -> None:
    """Run the command line."""
    app(prog_name="make soak, or python -m soak")
