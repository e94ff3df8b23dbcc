"""Run the demo of an entropy device from the outside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from demo.entropy_config import entropy_config
from demo.request_result import RequestResult
from demo.request_run import RequestFiles, finish, run_requests
from virtio_rtl.top import VirtioDevice

__all__ = ["EntropyFiles", "run"]

_LIMIT_S = 900


@dataclass(frozen=True)
class EntropyFiles(RequestFiles):
    """What a run leaves in its folder."""

    @property
    def received(self) -> Path:
        """All bytes that arrived, in order."""
        return self.folder / "received.bin"

    def old(self) -> tuple[Path, ...]:
        """What of an earlier run has to go."""
        return (*super().old(), self.received)


def run(
    name: str, seed: int | None, files: EntropyFiles, console: Console, ring: str = "packed"
) -> RequestResult:
    """Have requests answered, and compare."""
    config = entropy_config(name)
    options = {"config": name, "ring": ring, "received": str(files.received.resolve())}
    result = run_requests(
        "demo.entropy_flow", VirtioDevice(config), options, seed, files, console, limit_s=_LIMIT_S
    )
    return finish(result, config, ring, files, {"bytes received": files.received})
