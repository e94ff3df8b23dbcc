"""Run a demo of requests from the outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from demo.request_result import RequestResult, load_request_result
from demo.simulation import launch, run_name, waveform
from lib.sim import choose_seed
from virtio_rtl.config import DeviceConfig

__all__ = ["RequestFiles", "finish", "run_requests"]


@dataclass(frozen=True)
class RequestFiles:
    """What every run leaves in its folder."""

    folder: Path

    @property
    def report(self) -> Path:
        """The report for people."""
        return self.folder / "report.html"

    @property
    def result(self) -> Path:
        """The result as JSON."""
        return self.folder / "result.json"

    def old(self) -> tuple[Path, ...]:
        """What of an earlier run has to go."""
        return self.report, self.result

    def clear(self) -> None:
        """Remove what an earlier run left, so that a failed one shows nothing old."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.old():
            path.unlink(missing_ok=True)


def run_requests(
    module: str,
    component: Any,
    options: Mapping[str, Any],
    seed: int | None,
    files: RequestFiles,
    console: Console,
    *,
    limit_s: int,
    plusargs: Sequence[str] = (),
) -> RequestResult:
    """Simulate `component`, which has a `config`, with the flow of `module`; `options` are its."""
    files.clear()
    simulation = run_name(component.config, options["ring"])
    own = {"seed": choose_seed(simulation, seed), "result": str(files.result.resolve())}
    launch(
        component,
        module,
        simulation,
        {**options, **own},
        files.folder,
        console,
        limit_s=limit_s,
        plusargs=plusargs,
    )
    return load_request_result(files.result)


def finish(
    result: RequestResult,
    config: DeviceConfig,
    ring: str,
    files: RequestFiles,
    places: Mapping[str, Path],
) -> RequestResult:
    """Name the files that the run left, `places` among them, and save the result."""
    found = {"report": files.report, **places}
    if wave := waveform(config, ring):
        found["waveform"] = wave
    result = replace(result, files={what: str(path) for what, path in found.items()})
    result.save(files.result)
    return result
