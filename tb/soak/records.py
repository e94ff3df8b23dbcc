"""What a simulation of a soak writes down: a line of JSON for each case, and one at its end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

__all__ = ["RecordWriter", "Records", "read_records"]

_END = "end"


class RecordWriter:
    """Writes the file, line by line: what was done is there if the simulation breaks off."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def case(self, record: dict[str, Any]) -> None:
        """A case is over: its number, its figures, and if it failed, why (``failed``)."""
        self._line(record)

    def end(self, findings: Sequence[str]) -> None:
        """All cases are over, and so is the look at what they have left; what was wrong there."""
        self._line({_END: list(findings)})

    def _line(self, content: dict[str, Any]) -> None:
        self._file.write(json.dumps(content) + "\n")
        self._file.flush()


@dataclass(frozen=True)
class Records:
    """What a simulation wrote; `end` is None if it never came to its end."""

    cases: list[dict[str, Any]]
    end: list[str] | None = None


def read_records(path: Path) -> Records:
    """Read the file, which is not there if the simulation did not begin."""
    lines = path.read_text().splitlines() if path.exists() else []
    content = [json.loads(line) for line in lines]
    ends = [item[_END] for item in content if _END in item]
    return Records([item for item in content if _END not in item], ends[0] if ends else None)
