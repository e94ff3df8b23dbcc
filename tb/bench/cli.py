"""Command line of the benchmark."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.console import Console

from bench.jobs import Plan, plan_jobs, run_jobs
from bench.ring_layout import LAYOUTS
from bench.scenario import BLK_DIRECTIONS, DIRECTIONS, RING_SIZE, Case, Scenario, scenarios
from demo.cli import fail, parse_seed, say
from lib.paths import BUILD
from virtio_rtl.config import NAMED_CONFIGS, ConfigError, DeviceConfig, named_config

FOLDER = BUILD / "bench"
CONFIGS = ("net-x8", "net-x16", "net-x8-128", "blk-x8")
"""Measured unless one is asked for."""

_WIDTH = 150

app = typer.Typer(add_completion=False)


def run(
    plan: Plan,
    *,
    ring_size: int,
    workers: int,
    seed: int,
    folder: Path,
    console: Console,
    ideal: bool = True,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Simulate a plan, write results.json and report.html; return records, and what failed."""
    folder.mkdir(parents=True, exist_ok=True)
    results, page = folder / "results.json", folder / "report.html"
    for old in (results, page):
        old.unlink(missing_ok=True)
    jobs = plan_jobs(plan, ring_size, workers)
    records, failures = run_jobs(jobs, workers=workers, seed=seed, folder=folder, console=console)
    if ideal and records:
        from bench.against_ideal import add_ideal
        from lib.sim import SimulationFailed

        say(console, "the ideal endpoint")
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # the console has its own
                add_ideal(records, folder, seed)
        except SimulationFailed as error:
            failures.append(f"ideal endpoint: {str(error).splitlines()[0]}")
    for record in records:
        record.pop("drawn", None)
    if records:
        from bench.report import write_report

        lines = ",\n".join(json.dumps(record) for record in records)
        results.write_text(f"[\n{lines}\n]\n")
        write_report(records, page)
    return records, failures


def _plan(names: list[str], quick: bool, only: str, case: str, ring: str) -> Plan:
    def wanted(config: DeviceConfig) -> list[Scenario]:
        return [
            scenario
            for scenario in scenarios(config, quick)
            if only in ("", scenario.direction)
            and case in ("", scenario.case)
            and ring in ("", scenario.ring)
        ]

    plan = [(named_config(name), wanted(named_config(name))) for name in names]
    return [(config, found) for config, found in plan if found]


@app.command()
def bench(
    config: Annotated[str, typer.Option(envvar="CONFIG", help="Only this configuration.")] = "",
    quick: Annotated[str, typer.Option(envvar="QUICK", help="1: fewer, shorter windows.")] = "",
    seed: Annotated[str, typer.Option(envvar="SEED", help="A number, or random.")] = "",
    jobs: Annotated[int, typer.Option(envvar="JOBS", min=1, help="Simulations at a time.")] = 2,
    ring: Annotated[
        int, typer.Option(min=64, max=1024, help="Net: ring size with one queue pair.")
    ] = RING_SIZE,
    only: Annotated[
        str, typer.Option(help="One direction: transmit, receive, both; read, write.")
    ] = "",
    case: Annotated[str, typer.Option(help=f"One case: {', '.join(get_args(Case))}.")] = "",
    format_: Annotated[
        str, typer.Option("--format", help="One ring format: packed or split.")
    ] = "",
    ideal: Annotated[bool, typer.Option(help="Measure the ideal endpoint, too.")] = True,
    output: Annotated[str, typer.Option(help="Folder for the results; build/bench.")] = "",
) -> None:
    """Measure rates and latencies; write build/bench/results.json and report.html."""
    names = [config] if config else [name for name in CONFIGS if name in NAMED_CONFIGS]
    try:
        configs = [named_config(name) for name in names]
    except ConfigError as error:
        fail(str(error), 2)
    for each in configs:
        if each.queue_pairs == 1 and ring > each.queue_size_max:
            fail(f"--ring {ring}: {each.name} has rings of at most {each.queue_size_max}", 2)
    directions = (*DIRECTIONS, *BLK_DIRECTIONS)
    if only not in ("", *directions):
        fail(f"--only {only}: one of {', '.join(directions)}", 2)
    if case not in ("", *get_args(Case)):
        fail(f"--case {case}: {', '.join(get_args(Case))}", 2)
    if format_ not in ("", *LAYOUTS):
        fail(f"--format {format_}: {', '.join(LAYOUTS)}", 2)
    plan = _plan(names, quick not in ("", "0"), only, case, format_)
    if not plan:
        fail("nothing to measure: no configuration has such a case", 2)
    number = parse_seed(seed)
    # Late: these need the simulator and its tools.
    from bench.table import tables
    from lib.sim import choose_seed
    from lib.verilate import BuildError

    # Where nobody looks, a table need not fold.
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDTH)
    folder = Path(output) if output else FOLDER
    try:
        records, failures = run(
            plan,
            ring_size=ring,
            workers=jobs,
            seed=choose_seed("bench", number),
            folder=folder,
            console=console,
            ideal=ideal,
        )
    except BuildError as error:
        fail(str(error), 1)
    for table in tables(records):
        console.print(table)
    if records:
        for place in ("results.json", "report.html"):
            say(console, f"{place}: {folder / place}")
        say(console, f"seed: {records[0]['seed']}")
    if failures:
        fail("\n".join(failures), 1)


def main() -> None:
    """Run the command line."""
    app(prog_name="make bench, or python -m bench")
