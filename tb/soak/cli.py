"""Command line of the long runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from demo.cli import fail, parse_seed, say
from lib.paths import BUILD
from soak.configs import TYPES
from soak.golden_jobs import golden_jobs, golden_table
from soak.hostile_jobs import hostile_jobs, hostile_table
from soak.jobs import Job, run_jobs

FOLDER = BUILD / "soak"
_WIDTH = 110


@dataclass(frozen=True)
class Kind:
    """A kind of long run: `jobs(seed, amount, only, parts, types)`, and a table of its records.

    The amount is the value of the command's option `--<unit>`.
    """

    unit: str
    jobs: Callable[[int, int, int | None, int, Sequence[str]], list[Job]]
    table: Callable[[Sequence[dict[str, Any]], int], Table]


KINDS = {
    "golden": Kind("buffers", golden_jobs, golden_table),
    "hostile": Kind("runs", hostile_jobs, hostile_table),
}

app = typer.Typer(add_completion=False)


@app.command()
def soak(
    what: Annotated[str, typer.Argument(help=f"{', '.join(KINDS)} or all.")] = "all",
    buffers: Annotated[int, typer.Option(min=1, help="Of the golden comparison.")] = 100_000,
    runs: Annotated[int, typer.Option(min=1, help="Of hostile drivers.")] = 10_000,
    seed: Annotated[str, typer.Option(envvar="SEED", help="A number, or random.")] = "",
    jobs: Annotated[int, typer.Option(envvar="JOBS", min=1, help="Simulations at a time.")] = 2,
    device: Annotated[str, typer.Option(envvar="DEVICE", help=f"{', '.join(TYPES)}; all.")] = "",
    case: Annotated[int, typer.Option(help="Only the case of this number.")] = -1,
    output: Annotated[str, typer.Option(help="Folder for the results; build/soak.")] = "",
) -> None:
    """Random runs against models of what should come out; write build/soak/results.json."""
    if what not in (*KINDS, "all"):
        fail(f"{what}: {', '.join(KINDS)} or all", 2)
    if device and device not in TYPES:
        fail(f"--device {device}: {', '.join(TYPES)}", 2)
    if case >= 0 and what == "all":
        fail("--case: of which kind?", 2)
    amounts = {"buffers": buffers, "runs": runs}
    wanted = [name for name in KINDS if what in (name, "all")]
    types = [device] if device else list(TYPES)
    only = case if case >= 0 else None

    from lib.sim import choose_seed

    number = choose_seed("soak", parse_seed(seed))
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDTH)
    folder = Path(output) if output else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    say(console, f"seed: {number}")
    results: dict[str, Any] = {"seed": number}
    troubles = 0
    for name in wanted:
        kind = KINDS[name]
        amount = amounts[kind.unit]
        todo = kind.jobs(number, amount, only, jobs, types)
        if not todo:
            fail(f"--case {case}: there is none", 2)
        records, broken = run_jobs(todo, workers=jobs, seed=number, folder=folder, console=console)
        results[name] = {kind.unit: amount, "broken": broken, "records": records}
        (folder / "results.json").write_text(json.dumps(results, indent=1))
        console.print(kind.table(records, number))
        options = f"{name} --seed {number} --{kind.unit} {amount}"
        if device:
            options += f" --device {device}"
        troubles += _tell(console, options, records, broken)
    say(console, f"results: {folder / 'results.json'}")
    if troubles:
        fail(f"{troubles} runs failed", 1)


def _tell(
    console: Console, options: str, records: Sequence[dict[str, Any]], broken: Sequence[str]
) -> int:
    """Print what failed, and how to see it again; how much that is."""
    failed = [record for record in records if "failed" in record]
    for record in failed:
        what = f"case {record['number']} ({record['config']}): {record['failed'][:600]}"
        say(console, what)
        say(console, f"  alone: make soak ARGS='{options} --case {record['number']}'")
    for text in broken:
        say(console, text)
    return len(failed) + len(broken)


def main() -> None:
    """Run the command line."""
    app(prog_name="make soak, or python -m soak")
