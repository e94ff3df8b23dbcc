"""Command line of the synthesis figures."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from demo.cli import fail, say
from lib.convert import to_rtlil
from synth.growth import Growth, compare
from synth.progress import Stages
from synth.run import Figures, measure
from synth.table import LIMIT, show
from synth.yosys import FOLDER, TOP, SynthesisFailed
from virtio_rtl.config import NAMED_CONFIGS, ConfigError, DeviceConfig, named_config
from virtio_rtl.top import VirtioDevice

FEW, MANY = 1, 128
"""Queue pairs between which growth is measured."""

GROWN = ("net-x8", "net-x16")
"""Configurations of which growth is measured, unless one is chosen."""

_WIDTH = 120

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Job:
    """One design to synthesise."""

    name: str
    make: Callable[[], Any]
    queues: int = 0


def device_job(config: DeviceConfig, pairs: int | None = None) -> Job:
    """Return the job of a whole device, with another number of queue pairs if wanted."""
    name = config.name
    if pairs is not None and pairs != config.queue_pairs:
        config = replace(config, queue_pairs=pairs)
        name = f"{name}, {config.num_queues} queues"
    return Job(name, lambda: VirtioDevice(config), config.num_queues)


def component_job(expression: str) -> Job:
    """Return the job of any component, as in ``virtio_rtl.dma.tags.TagPool(...)``.

    The name up to the bracket is imported; the arguments are Python, with ``config`` for the named
    configurations: ``virtio_rtl.virtqueue.walk.Walk(config["net-x16"])``.
    """
    path, bracket, arguments = expression.partition("(")
    module, _, name = path.strip().rpartition(".")
    component = getattr(importlib.import_module(module), name)
    names = {"component": component, "config": NAMED_CONFIGS}
    return Job(name, lambda: eval(f"component{bracket}{arguments}", names))


def run(jobs: Iterable[Job], parallel: int, console: Console, above: int) -> dict[str, Figures]:
    """Measure all jobs; return name -> figures in their order."""
    unique = {job.name: job for job in jobs}
    with Stages(console, list(unique)) as stages, ThreadPoolExecutor(parallel) as pool:
        waiting = {}
        for name, job in unique.items():
            tell = stages.teller(name)
            tell("converting")
            # Here, not in the pool: nobody says that Amaranth may elaborate in threads.
            rtlil = to_rtlil(job.make(), name=TOP)
            waiting[name] = pool.submit(measure, rtlil, name, tell, queues=job.queues, above=above)
        return {name: future.result() for name, future in waiting.items()}


def write(folder: Path, figures: list[Figures], growths: list[Growth]) -> None:
    """Write results.json, and the long paths of each design as text."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "configs": [line.record() for line in figures],
        "growth": [growth.record() for growth in growths],
    }
    (folder / "results.json").write_text(json.dumps(record, indent=1) + "\n")
    for line in figures:
        text = [
            f"{line.config}: {line.levels} levels\n",
            *(f"{levels:4} levels: {count} ends" for levels, count in line.histogram.items()),
            "\nroom, levels, ends with that many",
            *(f"{room:40} {at:3} {n:6}" for room, (at, n) in line.room_levels.items()),
            "\nOne path for each pair of modules (of the longest path of each end)\n",
            "\n\n".join(line.pairs),
            "\nThe longest paths\n",
            "\n\n".join(line.worst_path),
        ]
        name = line.config.replace(", ", "-").replace(" ", "-")
        (folder / f"paths-{name}.txt").write_text("\n".join(text) + "\n")


@app.command()
def synth(
    config: Annotated[str, typer.Option(envvar="CONFIG", help="Configuration; all of them.")] = "",
    component: Annotated[
        str, typer.Option(help="Instead: one component, as package.module.Class(arguments).")
    ] = "",
    growth: Annotated[bool, typer.Option(help="Compare 2 and 256 queues.")] = True,
    above: Annotated[int, typer.Option(help="List the paths above this many levels.")] = LIMIT,
    limit: Annotated[int, typer.Option(help="Fail above this many levels.")] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Runs of Yosys at a time.")] = 1,
    output: Annotated[str, typer.Option(help="Folder for the results; build/synth.")] = "",
) -> None:
    """Count LUT, FF, BRAM and LUT levels; write build/synth/results.json and the long paths."""
    try:
        chosen = [named_config(config)] if config else list(NAMED_CONFIGS.values())
    except ConfigError as error:
        fail(str(error), 2)
    pairs: list[tuple[Job, Job]] = []
    if component:
        todo = [component_job(component)]
    else:
        todo = [device_job(each) for each in chosen]
        if growth:
            grown = chosen if config else [named_config(name) for name in GROWN]
            pairs = [(device_job(each, FEW), device_job(each, MANY)) for each in grown]
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDTH)
    try:
        done = run([*todo, *(job for pair in pairs for job in pair)], jobs, console, above)
    except SynthesisFailed as error:
        fail(str(error), 1)
    growths = [compare(done[few.name], done[many.name]) for few, many in pairs]
    folder = Path(output) if output else FOLDER / todo[0].name if component else FOLDER
    figures = list(done.values())
    write(folder, figures, growths)
    show(console, figures, growths)
    say(console, f"results: {folder / 'results.json'}, paths: {folder}/paths-*.txt")
    above_limit = [line.config for line in figures if limit and line.levels > limit]
    if above_limit:
        fail(f"more than {limit} levels: {', '.join(above_limit)}", 1)


def main() -> None:
    """Run the command line."""
    app(prog_name="make synth, or python -m synth")
