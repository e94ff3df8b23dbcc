"""Progress of the guests on the terminal."""

from __future__ import annotations

import threading
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from guest.results import CaseResult
from guest.run import Run

_POLL_S = 0.2


class Board:
    """`with Board(console, total)`: a bar for all guests and a line for each that runs.

    A guest that is done leaves a line; where the output is no terminal, there is only that.
    """

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._whole = self._progress.add_task("guests", total=total)
        self._running: dict[Any, Run] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._refresh, daemon=True)

    def __enter__(self) -> Board:
        self._progress.start()
        self._thread.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stop.set()
        self._thread.join()
        self._progress.stop()

    def watch(self, run: Run) -> CaseResult:
        """Run a case under the eyes of the board."""
        task = self._progress.add_task(run.case.name, total=None)
        self._running[task] = run
        try:
            result = run.finish()
        finally:
            del self._running[task]
            self._progress.remove_task(task)
        self._progress.advance(self._whole)
        verdict = "ok" if result.passed else "FAILED"
        self._console.print(
            f"{run.case.name}: {verdict} ({result.seconds:.1f} s)",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )
        return result

    def _refresh(self) -> None:
        while not self._stop.wait(_POLL_S):
            for task, run in list(self._running.items()):
                self._progress.update(task, description=f"{run.case.name}: {run.news}")
