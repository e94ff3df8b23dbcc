"""Progress from the simulator to the terminal, through a file."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

PROGRESS = "VIRTIO_PROGRESS"
_POLL_S = 0.2


class ProgressWriter:
    """The simulator's end: `VIRTIO_PROGRESS` names the file; without it, nothing happens."""

    def __init__(self) -> None:
        name = os.environ.get(PROGRESS)
        self._path = Path(name) if name else None
        self._last = ("", -1)

    def tell(self, phase: str, done: int, total: int) -> None:
        """Say how far a phase is, at most a few hundred times a phase."""
        step = done * 250 // max(total, 1)
        if self._path is not None and (phase, step) != self._last:
            self._last = (phase, step)
            with self._path.open("a") as file:
                file.write(f"{done}\t{total}\t{phase}\n")


class ProgressTail:
    """What a `ProgressWriter` has written to its file since the last time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0

    def news(self) -> list[tuple[int, int, str]]:
        """Return (done, total, phase) of each new line; none before there is a file."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._at)
                text = file.read()
        except FileNotFoundError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._at += len(whole)
        lines = (line.split("\t", 2) for line in whole.decode().splitlines())
        return [(int(done), int(total), phase) for done, total, phase in lines]


def progress_bars(console: Console) -> Progress:
    """Return the bars that all simulations show; none where the output is no terminal."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console, disable=not console.is_terminal)


class ProgressView:
    """The terminal's end: `with ProgressView(...)` around the simulation shows a live bar.

    Where the output is no terminal, it prints a line for each phase and each quarter.
    """

    def __init__(self, console: Console, path: Path, first_phase: str) -> None:
        self.path = path
        self._console = console
        self._first = first_phase
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._printed: tuple[str, int] = ("", -1)
        self._tail = ProgressTail(path)

    def __enter__(self) -> ProgressView:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("")
        self._thread.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with progress_bars(self._console) as bar:
            task = bar.add_task(self._first, total=None)
            self._line(self._first, 0, 0)
            while True:
                stopping = self._stop.wait(_POLL_S)
                for done, total, phase in self._tail.news():
                    bar.update(task, description=phase, completed=done, total=total or None)
                    self._line(phase, done, total)
                if stopping:
                    return

    def _line(self, phase: str, done: int, total: int) -> None:
        quarter = done * 4 // total if total else 0
        if not self._console.is_terminal and (phase, quarter) != self._printed:
            self._printed = (phase, quarter)
            share = f" {done}/{total}" if total else ""
            self._console.print(f"{phase}{share}", highlight=False)
