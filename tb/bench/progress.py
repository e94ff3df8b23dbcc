"""Progress of several simulations at once."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from demo.progress import ProgressTail, progress_bars

__all__ = ["ProgressBoard"]

_POLL_S = 0.2


class ProgressBoard:
    """`with ProgressBoard(console, files)` shows a bar for each simulation that has begun.

    files: name -> file of its `demo.progress.ProgressWriter`. Where the output is no terminal, a
    line is printed when a phase begins.
    """

    def __init__(self, console: Console, files: Mapping[str, Path]) -> None:
        self._console = console
        self._tails = {name: ProgressTail(path) for name, path in files.items()}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._phases: dict[str, str] = {}

    def __enter__(self) -> ProgressBoard:
        self._thread.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        live = self._console.is_terminal
        with progress_bars(self._console) as bars:
            whole = bars.add_task("building the simulators", total=None)
            if not live:
                self._console.print("building the simulators", highlight=False)
            tasks: dict[str, Any] = {}
            while True:
                stopping = self._stop.wait(_POLL_S)
                for name, tail in self._tails.items():
                    for done, total, phase in tail.news():
                        if name not in tasks:
                            tasks[name] = bars.add_task(name, total=total)
                            bars.update(whole, visible=False)
                        words = f"{name}: {phase}"
                        bars.update(tasks[name], description=words, completed=done, total=total)
                        if not live and self._phases.get(name) != phase:
                            self._console.print(words, highlight=False)
                        self._phases[name] = phase
                if stopping:
                    return
