"""Files that grow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


class Tail:
    """The whole lines of a file as they come; it need not be there yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place = 0
        self._part = b""

    def lines(self) -> Iterator[str]:
        """Yield the lines that have been completed since the last call."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._place)
                news = file.read()
        except FileNotFoundError:
            return
        self._place += len(news)
        *whole, self._part = (self._part + news).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace").rstrip("\r")


def last_lines(path: Path, count: int) -> str:
    """Return the last lines of a file that say something; "" if there are none."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return ""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\n".join(lines[-count:])
