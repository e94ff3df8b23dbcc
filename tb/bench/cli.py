"""Command line of the benchmark."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from bench.scenario import RING_SIZE, Scenario, scenarios
from demo.cli import DEFAULT_CONFIG, fail, parse_seed, say
from demo.progress import PROGRESS, ProgressView
from demo.words import reason
from lib.paths import BUILD
from virtio_rtl.config import ConfigError, DeviceConfig, named_config

FOLDER = BUILD / "bench"
_LIMIT_S = 7200
_WIDTH = 120
_CAPTION = (
    "Mpps each way; bytes on the wire per frame, in brackets what the wire model expects; Gb/s "
    "with ACK and flow control. The ceiling is the wire model's and allows for these and for SKP "
    "in the worst case; this link has no SKP, and ACKs only as traffic demands, so a share may "
    "pass 100%."
)

app = typer.Typer(add_completion=False)


def run(
    config: DeviceConfig,
    wanted: list[Scenario],
    *,
    ring_size: int,
    seed: int | None,
    folder: Path,
    console: Console,
) -> tuple[list[dict[str, Any]], str]:
    """Simulate all scenarios; return the records that came out, and what failed."""
    from bench.wrapper import BenchDevice
    from lib.sim import SimulationFailed, simulate

    results, parts = folder / "results.json", folder / "parts"
    shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir(parents=True)
    results.unlink(missing_ok=True)
    progress = folder.resolve() / "progress"
    failure = ""
    name = f"bench_{config.name}"
    try:
        with (
            ProgressView(console, progress, "building the simulator"),
            contextlib.redirect_stdout(io.StringIO()),  # the console has its own
        ):
            try:
                simulate(
                    BenchDevice(config),
                    module="bench.flow",
                    name=name,
                    params={
                        "config": config.name,
                        "ring_size": ring_size,
                        "scenarios": [asdict(scenario) for scenario in wanted],
                        "folder": str(parts.resolve()),
                    },
                    env={PROGRESS: str(progress)},
                    seed=seed,
                    limit_s=_LIMIT_S,
                )
            except SimulationFailed as error:
                failure = f"{reason(str(error))}; log: {BUILD / 'sim' / name / 'sim.log'}"
    finally:
        progress.unlink(missing_ok=True)
    paths = [parts / f"{number}.json" for number in range(len(wanted))]
    records = [json.loads(path.read_text()) for path in paths if path.exists()]
    shutil.rmtree(parts)
    if records:
        results.write_text(json.dumps(records, indent=1) + "\n")
    return records, failure


def table(records: list[dict[str, Any]]) -> Table:
    """Return the records as a table."""
    first = records[0]
    made = Table(
        title=f"{first['config']}, packed ring of {first['ring_size']}, {first['batch']} frames a "
        f"doorbell, host reads {first['host_read_ns']:.0f} ns, link {first['link_gbps']:.1f} Gb/s",
        caption=_CAPTION,
    )
    made.add_column("direction", no_wrap=True)
    names = ("frame", "Mpps", "ceiling", "share", "cycles", "bytes up", "bytes down")
    for name in (*names, "Gb/s up", "Gb/s down", "reads"):
        made.add_column(name, justify="right", no_wrap=True)
    for line in records:
        made.add_row(
            line["direction"],
            f"{line['frame_bytes']:,}",
            f"{line['mpps']:.2f}",
            f"{line['ceiling_mpps']:.2f}",
            f"{line['ratio']:.0%}",
            f"{line['cycles_per_frame']:.2f}",
            f"{line['wire_up']:.0f} ({line['ceiling_wire_up']:.0f})",
            f"{line['wire_down']:.0f} ({line['ceiling_wire_down']:.0f})",
            f"{line['gbps_up']:.1f}",
            f"{line['gbps_down']:.1f}",
            str(line["peak_reads_in_flight"]),
        )
    return made


@app.command()
def bench(
    config: Annotated[str, typer.Option(envvar="CONFIG", help="Configuration.")] = DEFAULT_CONFIG,
    quick: Annotated[str, typer.Option(envvar="QUICK", help="1: shorter windows.")] = "",
    seed: Annotated[str, typer.Option(envvar="SEED", help="A number, or random.")] = "",
    ring: Annotated[int, typer.Option(min=64, max=1024, help="Ring size.")] = RING_SIZE,
    only: Annotated[str, typer.Option(help="One direction: transmit, receive or both.")] = "",
    output: Annotated[str, typer.Option(help="Folder for the results; build/bench.")] = "",
) -> None:
    """Measure rates at full rings, and write build/bench/results.json."""
    try:
        device_config = named_config(config)
    except ConfigError as error:
        fail(str(error), 2)
    if ring > device_config.queue_size_max:
        fail(f"--ring {ring}: {config} has rings of at most {device_config.queue_size_max}", 2)
    wanted = scenarios(quick not in ("", "0"))
    wanted = [scenario for scenario in wanted if only in ("", scenario.direction)]
    if not wanted:
        fail(f"--only {only}: transmit, receive or both", 2)
    number = parse_seed(seed)
    from lib.verilate import BuildError

    # Where nobody looks, a table need not fold.
    width = None if sys.stdout.isatty() else _WIDTH
    console = Console(file=sys.stdout, width=width)
    folder = Path(output) if output else FOLDER
    try:
        records, failure = run(
            device_config, wanted, ring_size=ring, seed=number, folder=folder, console=console
        )
    except BuildError as error:
        fail(str(error), 1)
    if records:
        console.print(table(records))
        say(console, f"results: {folder / 'results.json'}")
    if failure:
        fail(failure, 1)


def main() -> None:
    """Run the command line."""
    app(prog_name="make bench, or python -m bench")
