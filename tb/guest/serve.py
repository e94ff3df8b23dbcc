"""`python -m guest.serve`: a device for one guest, at a socket."""

from __future__ import annotations

import importlib
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Annotated, Literal

import typer

from guest.connection import ConnectionLost
from guest.options import ServeOptions, ring_features
from guest.protocol import ProtocolError
from guest.statistics import Statistics

MODELS = {
    "golden": "guest.golden_main",
    "rtl": "guest.rtl_main",
}
"""Modules with `TYPES`, the device types by name, and `serve(options)`, which returns Statistics.

`serve` prints `listening on PATH` once a client can connect.
"""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def serve(options: ServeOptions, model: str) -> Statistics:
    """Serve one client with a model; ValueError where there is no such model or device."""
    if model not in MODELS:
        raise ValueError(f"model {model!r}: {', '.join(MODELS)}")
    module = importlib.import_module(MODELS[model])
    if options.device not in module.TYPES:
        raise ValueError(f"device {options.device!r}: {', '.join(module.TYPES)}")
    run: Callable[[ServeOptions], Statistics] = module.serve
    return run(options)


def _stop(number: int, frame: FrameType | None) -> None:
    """End as if the client had left: the figures are still written."""
    raise ConnectionLost("terminated")


@app.command()
def main(
    socket: Annotated[Path, typer.Option(help="Where the guest's QEMU connects.")],
    device: Annotated[str, typer.Option(help="Device type; of the RTL also a configuration.")],
    model: Annotated[str, typer.Option(help="golden or rtl.")] = "golden",
    features: Annotated[
        str, typer.Option(help="Ring features to offer, with commas; empty: all, or none.")
    ] = "",
    msix: Annotated[
        Literal["table", "eventfd"], typer.Option(help="The device's own table, or eventfds.")
    ] = "table",
    queues: Annotated[int, typer.Option(min=1, max=64, help="Request queues of blk.")] = 1,
    disk: Annotated[Path | None, typer.Option(help="blk: contents at the start.")] = None,
    mebibytes: Annotated[int, typer.Option(min=1, help="blk: capacity.")] = 64,
    seed: Annotated[int, typer.Option(help="entropy: which bytes.")] = 1,
    optimise: Annotated[bool, typer.Option(help="rtl: compile the model for speed.")] = True,
    statistics: Annotated[Path | None, typer.Option(help="JSON file for the counts.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the guest.")] = 60.0,
) -> None:
    """Serve one guest until it leaves."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    signal.signal(signal.SIGTERM, _stop)
    try:
        options = ServeOptions(
            socket=socket,
            device=device,
            features=ring_features(features),
            own_msix=msix == "table",
            queues=queues,
            disk=disk,
            mebibytes=mebibytes,
            seed=seed,
            optimise=optimise,
            timeout_s=timeout,
        )
        counts = serve(options, model)
        if statistics:
            counts.write(statistics)
    except (ValueError, OSError, ConnectionLost, ProtocolError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from error


if __name__ == "__main__":
    app()
