"""Run the demo's simulation from the outside: build, start, watch, collect."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from demo import capture
from demo.loopback import LoopbackDevice
from demo.progress import PROGRESS, ProgressView
from demo.result import Result, load_result
from lib.paths import BUILD
from lib.sim import SimulationFailed, choose_seed, simulate
from lib.words import reason
from virtio_rtl.config import DeviceConfig

FOLDER = BUILD / "demo"
_BASE_S = 900
_PER_FRAME_S = 0.1


@dataclass(frozen=True)
class Files:
    """What a run leaves in its folder."""

    folder: Path

    @property
    def report(self) -> Path:
        """The report for people."""
        return self.folder / "report.html"

    @property
    def sent(self) -> Path:
        """The capture as it was sent."""
        return self.folder / "sent.pcap"

    @property
    def received(self) -> Path:
        """What came back; time stamps are simulated."""
        return self.folder / "received.pcap"

    @property
    def result(self) -> Path:
        """The result as JSON."""
        return self.folder / "result.json"

    def clear(self) -> None:
        """Remove what an earlier run left, so that a failed one shows nothing old."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in (self.report, self.sent, self.received, self.result):
            path.unlink(missing_ok=True)


class DemoFailed(Exception):
    """The simulation did not come to its end; the message is for the user."""


def run(
    config: DeviceConfig,
    frames: capture.Capture,
    seed: int | None,
    files: Files,
    console: Console,
    ring: str = "packed",
) -> Result:
    """Move the capture through the simulated device."""
    files.clear()
    capture.save(files.sent, frames.frames)
    name = run_name(config, ring)
    chosen = choose_seed(name, seed)
    options = {
        "config": config.name,
        "ring": ring,
        "capture": str(frames.path),
        "seed": chosen,
        "sent": str(files.sent.resolve()),
        "received": str(files.received.resolve()),
        "result": str(files.result.resolve()),
    }
    launch(
        LoopbackDevice(config),
        "demo.flow",
        name,
        options,
        files.folder,
        console,
        limit_s=round(_BASE_S + _PER_FRAME_S * len(frames.frames)),
    )
    return load_result(files.result)


def launch(
    component: Any,
    module: str,
    name: str,
    options: dict[str, Any],
    folder: Path,
    console: Console,
    *,
    limit_s: int,
    plusargs: Sequence[str] = (),
) -> None:
    """Run a simulation with its progress on the console; DemoFailed if it fails.

    options: parameters of the cocotb side, the seed among them. The rest as of `simulate`.
    """
    progress = folder.resolve() / "progress"
    seed = options["seed"]
    try:
        with (
            ProgressView(console, progress, "building the simulator"),
            contextlib.redirect_stdout(io.StringIO()),  # the console has its own
        ):
            simulate(
                component,
                module=module,
                name=name,
                params=options,
                env={PROGRESS: str(progress)},
                plusargs=plusargs,
                seed=seed,
                limit_s=limit_s,
            )
    except SimulationFailed as error:
        log = BUILD / "sim" / name / "sim.log"
        raise DemoFailed(f"{reason(str(error))}; seed: {seed}; log: {log}") from error
    finally:
        progress.unlink(missing_ok=True)


def run_name(config: DeviceConfig, ring: str) -> str:
    """Return the name of a configuration's simulation."""
    return f"demo_{config.name}" + ("" if ring == "packed" else f"_{ring}")


def waveform(config: DeviceConfig, ring: str = "packed") -> Path | None:
    """Return where the waveform is, if one was asked for."""
    wanted = os.environ.get("WAVES", "0") not in ("", "0")
    return BUILD / "sim" / run_name(config, ring) / "dump.vcd" if wanted else None
