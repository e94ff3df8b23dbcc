"""Serves one guest with the RTL: builds the model, and runs the simulation that serves."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from guest import statistics
from guest.connection import ConnectionLost
from guest.options import ServeOptions
from guest.rtl_config import TYPES
from guest.rtl_device import GuestDevice
from lib.disk import disk_plusargs
from lib.paths import BUILD
from lib.sim import SimulationFailed, simulate
from lib.words import reason

__all__ = ["TYPES", "serve"]

_LIMIT_S = 24 * 3600
_POLL_S = 0.05


def serve(options: ServeOptions) -> statistics.Statistics:
    """Serve one client until it leaves; what was counted.

    ConnectionLost if the simulation did not come to its end. A client that leaves, at whatever
    moment, ends it well; so does SIGTERM.
    """
    config = TYPES[options.device](options)
    name = f"guest_{options.device}_{os.getpid()}"
    counts = BUILD / "guest" / f"{name}.json"
    counts.parent.mkdir(parents=True, exist_ok=True)
    counts.unlink(missing_ok=True)
    given = {
        "socket": str(options.socket.resolve()),
        "device": options.device,
        "features": options.features,
        "queues": options.queues,
        "disk": str(options.disk.resolve()) if options.disk else "",
        "mebibytes": options.mebibytes,
        "seed": options.seed,
        "own_msix": options.own_msix,
        "timeout_s": options.timeout_s,
        "counts": str(counts),
    }
    try:
        # `simulate` tells people about the run, and they are not who reads our output.
        with _announced(options.socket), _forwarded(), contextlib.redirect_stdout(sys.stderr):
            simulate(
                GuestDevice(config),
                module="guest.rtl_flow",
                name=name,
                params=given,
                plusargs=disk_plusargs(options.disk),
                optimise=options.optimise,
                limit_s=_LIMIT_S,
            )
        return statistics.read(counts)
    except SimulationFailed as error:
        log = BUILD / "sim" / name / "sim.log"
        raise ConnectionLost(f"{reason(str(error))}; log: {log}") from error
    finally:
        counts.unlink(missing_ok=True)


@contextlib.contextmanager
def _announced(socket: Path) -> Iterator[None]:
    """Say so when the simulator has opened its socket."""
    socket.unlink(missing_ok=True)
    output, ended = sys.stdout, threading.Event()

    def watch() -> None:
        while not ended.wait(_POLL_S):
            if socket.exists():
                print(f"listening on {socket}", file=output, flush=True)
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextlib.contextmanager
def _forwarded() -> Iterator[None]:
    """Hand SIGTERM on to the simulator, which ends and writes its counts."""

    def forward(number: int, frame: FrameType | None) -> None:
        for pid in _descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    before = signal.signal(signal.SIGTERM, forward)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, tasks.read_text().split()):
            found += [child, *_descendants(child)]
    return found
