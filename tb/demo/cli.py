"""Command line of the demo."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console

from demo import capture, disk_config, disk_image, entropy_config
from lib.paths import BUILD
from lib.words import counted
from virtio_rtl.config import ConfigError, DeviceConfig, named_config

if TYPE_CHECKING:
    from demo.request_result import RequestResult
    from demo.request_run import RequestFiles
    from demo.result import Result

DEFAULT_DEVICE = "net"
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
    device: Annotated[
        str, typer.Option(envvar="DEVICE", help="Device type: net, blk or entropy.")
    ] = DEFAULT_DEVICE,
    pcap: Annotated[
        str, typer.Option(envvar="PCAP", help="net: capture, pcap or pcapng, Ethernet.")
    ] = "",
    image: Annotated[
        str, typer.Option(envvar="IMAGE", help="blk: image of a disk, up to 16 MiB.")
    ] = "",
    config: Annotated[
        str, typer.Option(envvar="CONFIG", help="Configuration; net-x8, blk-x8 or entropy-x1.")
    ] = "",
    ring: Annotated[
        str, typer.Option(envvar="RING", help="Ring format: packed or split.")
    ] = DEFAULT_RING,
    seed: Annotated[str, typer.Option(envvar="SEED", help="A number, or random.")] = "",
    output: Annotated[str, typer.Option(help="Folder for the results; build/demo.")] = "",
    waves: Annotated[bool, typer.Option("--waves", help="Record a waveform (WAVES=1).")] = False,
) -> None:
    """Move data through the simulated device and back, and compare every bit.

    net: every frame of a capture leaves its port and comes back in. blk: the image of a disk is
    written, flushed and read. entropy: requests for random bytes, of all sizes, are answered.
    """
    if device not in _DEMOS:
        fail(f"DEVICE={device!r}: one of {', '.join(_DEMOS)}", 2)
    for option, value, owner in (("PCAP", pcap, "net"), ("IMAGE", image, "blk")):
        if value and device != owner:
            fail(f"{option} is for DEVICE={owner}, not for {device}", 2)
    if waves:
        os.environ["WAVES"] = "1"
    folder = Path(output) if output else BUILD / "demo"
    _DEMOS[device](pcap or image, config, ring, seed, folder)


def _check_ring(ring: str, config: DeviceConfig) -> None:
    if ring not in config.rings:
        fail(f"RING={ring!r}: {config.name} has {' and '.join(config.rings)}", 2)


def _net(pcap: str, config: str, ring: str, seed: str, folder: Path) -> None:
    """Run the demo of a net device."""
    try:
        device_config = named_config(config or DEFAULT_CONFIG)
    except ConfigError as error:
        fail(str(error), 2)
    if device_config.device != "net":
        fail(f"CONFIG={config!r}: no net device; DEVICE={device_config.device} is its demo", 2)
    _check_ring(ring, device_config)
    number = parse_seed(seed)
    sample = capture.SAMPLE
    if sample.is_relative_to(Path.cwd()):
        sample = sample.relative_to(Path.cwd())
    try:
        frames = capture.load(Path(pcap) if pcap else sample, device_config)
    except capture.CaptureError as error:
        fail(str(error), 2)

    # Late: these need the simulator and its tools.
    from demo import report, simulation, table

    console = Console(file=sys.stdout)
    files = simulation.Files(folder)
    say(
        console,
        f"{device_config.name}, {ring} ring: {counted(len(frames.frames), 'frame')}, "
        f"{counted(frames.total_bytes, 'byte')} of {frames.path}",
    )
    with _failures():
        result = simulation.run(device_config, frames, number, files, console, ring)
    places = {"report": files.report, "received frames": files.received}
    if wave := simulation.waveform(device_config, ring):
        places["waveform"] = wave
    result = replace(result, files={name: str(path) for name, path in places.items()})
    report.write(result, files.report)
    table.show(console, result)
    _conclude(console, result)


def _blk(path: str, config: str, ring: str, seed: str, folder: Path) -> None:
    """Run the demo of a block device."""
    name = config or disk_config.DEFAULT
    try:
        device_config = disk_config.disk_config(name, disk_image.LARGEST)
    except ConfigError as error:
        fail(str(error), 2)
    _check_ring(ring, device_config)
    number = parse_seed(seed)

    from demo import disk_run

    files = disk_run.DiskFiles(folder)
    if path and Path(path).resolve() in {old.resolve() for old in files.old()}:
        fail(f"{path}: the demo writes this file; give it a copy", 2)
    try:
        image = disk_image.load(Path(path)) if path else disk_image.make(files.own_image)
    except disk_image.ImageError as error:
        fail(str(error), 2)
    kind = "an ext4 file system" if image.ext4 else "no ext4 file system"
    _show_requests(
        f"{device_config.name}, {ring} ring: {counted(len(image.content), 'byte')} of "
        f"{image.path}, {kind}",
        files,
        lambda console: disk_run.run(name, image, number, files, console, ring),
    )


def _entropy(_: str, config: str, ring: str, seed: str, folder: Path) -> None:
    """Run the demo of an entropy device."""
    name = config or entropy_config.DEFAULT
    try:
        device_config = entropy_config.entropy_config(name)
    except ConfigError as error:
        fail(str(error), 2)
    _check_ring(ring, device_config)
    number = parse_seed(seed)

    from demo import entropy_run

    files = entropy_run.EntropyFiles(folder)
    _show_requests(
        f"{device_config.name}, {ring} ring: requests for bytes of a seeded source",
        files,
        lambda console: entropy_run.run(name, number, files, console, ring),
    )


_DEMOS = {"net": _net, "blk": _blk, "entropy": _entropy}


def _show_requests(
    title: str, files: RequestFiles, run: Callable[[Console], RequestResult]
) -> None:
    """Run a demo of requests, and show its result."""
    from demo import request_report

    console = Console(file=sys.stdout)
    say(console, title)
    with _failures():
        result = run(console)
    request_report.write(result, files.report)
    request_report.show(console, result)
    _conclude(console, result)


@contextmanager
def _failures() -> Iterator[None]:
    """Turn what may go wrong in a simulation into a line and status 1."""
    from demo.simulation import DemoFailed
    from lib.verilate import BuildError

    try:
        yield
    except (DemoFailed, BuildError) as error:
        fail(str(error), 1)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}", 1)


def _conclude(console: Console, result: Result | RequestResult) -> None:
    """Say where everything is, and whether all was well."""
    for name, path in result.files.items():
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
