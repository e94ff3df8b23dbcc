"""Progress of several syntheses: a line each, with its stage and the time since it began."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

DONE = "done"


class Stages:
    """A live line for each name; where the output is no terminal, a printed one a stage."""

    def __init__(self, console: Console, names: list[str]) -> None:
        self._console = console
        live = console.is_terminal
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        self._bar = Progress(*columns, console=console, disable=not live)
        self._tasks = {
            name: self._bar.add_task(f"{name}: waiting", start=False, total=1) for name in names
        }
        self._begun: dict[str, float] = {}

    def __enter__(self) -> Stages:
        self._bar.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._bar.__exit__(*exception)

    def teller(self, name: str) -> Callable[[str], None]:
        """Return what a run calls with each stage that it begins."""

        def tell(stage: str) -> None:
            begun = self._begun.setdefault(name, time.monotonic())
            self._bar.start_task(self._tasks[name])
            self._bar.update(self._tasks[name], description=f"{name}: {stage}")
            if stage == DONE:
                self._bar.update(self._tasks[name], completed=1)
            if not self._console.is_terminal:
                elapsed = time.monotonic() - begun
                self._console.print(f"{name}: {stage} ({elapsed:.0f} s)", highlight=False)

        return tell
