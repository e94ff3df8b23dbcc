"""Command line of the demo."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from demo import capture
from lib.words import counted
from virtio_rtl.config import ConfigError, named_config

DEFAULT_CONFIG = "net-x8"
DEFAULT_RING = "packed"

app = typer.Typer(add_completion=False)


def fail(message: str, status: int) -> NoReturn:
    """End with one clear line on stderr."""
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(status)


def parse_seed(text: str) -> int | None:
    """Return the seed; None for the one that is fixed per run name."""
    if not text:
        return None
    if text == "random":
        return int.from_bytes(os.urandom(4), "little") >> 1
    try:
        seed = int(text, 0)
    except ValueError:
        fail(f"SEED={text!r}: a number, or the word random", 2)
    if not 0 <= seed < 1 << 31:
        fail(f"SEED={text!r}: from 0 to {(1 << 31) - 1}", 2)
    return seed


@app.command()
def demo(
    pcap: Annotated[
        str, typer.Option(envvar="PCAP", help="Capture: pcap or pcapng, Ethernet.")
    ] = "",
    config: Annotated[str, typer.Option(envvar="CONFIG", help="Configuration.")] = DEFAULT_CONFIG,
    ring: Annotated[
        str, typer.Option(envvar="RING", help="Ring format: packed or split.")
    ] = DEFAULT_RING,
    seed: Annotated[str, typer.Option(envvar="SEED", help="A number, or random.")] = "",
    output: Annotated[str, typer.Option(help="Folder for the results; build/demo.")] = "",
    waves: Annotated[bool, typer.Option("--waves", help="Record a waveform (WAVES=1).")] = False,
) -> None:
    """Move every frame of a capture through the simulated device, out of its port and back in."""
    try:
        device_config = named_config(config)
    except ConfigError as error:
        fail(str(error), 2)
    if ring not in device_config.rings:
        fail(f"RING={ring!r}: {device_config.name} has {' and '.join(device_config.rings)}", 2)
    number = parse_seed(seed)
    sample = capture.SAMPLE
    if sample.is_relative_to(Path.cwd()):
        sample = sample.relative_to(Path.cwd())
    try:
        frames = capture.load(Path(pcap) if pcap else sample, device_config)
    except capture.CaptureError as error:
        fail(str(error), 2)
    if waves:
        os.environ["WAVES"] = "1"

    # Late: these need the simulator and its tools.
    from demo import report, simulation, table
    from lib.verilate import BuildError

    console = Console(file=sys.stdout)
    files = simulation.Files(Path(output) if output else simulation.FOLDER)
    say(
        console,
        f"{device_config.name}, {ring} ring: {counted(len(frames.frames), 'frame')}, "
        f"{counted(frames.total_bytes, 'byte')} of {frames.path}",
    )
    try:
        result = simulation.run(device_config, frames, number, files, console, ring)
    except (simulation.DemoFailed, BuildError) as error:
        fail(str(error), 1)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}", 1)
    places = {"report": files.report, "received frames": files.received}
    if wave := simulation.waveform(device_config, ring):
        places["waveform"] = wave
    result = replace(result, files={name: str(path) for name, path in places.items()})
    report.write(result, files.report)
    table.show(console, result)
    for name, path in places.items():
        say(console, f"{name}: {path}")
    say(console, f"seed: {result.seed}")
    if not result.passed:
        failed = ", ".join(check.name for check in result.checks if not check.passed)
        fail(f"not as it should be: {failed}", 1)


def say(console: Console, text: str) -> None:
    """Print a line as it is: no colours for numbers, no folding of paths."""
    console.print(text, highlight=False, soft_wrap=True, markup=False)


def main() -> None:
    """Run the command line."""
    app(prog_name="make demo, or python -m demo")
