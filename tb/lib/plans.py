"""Test plans and requirement rows, read from tb/testplan.

A plan is a file tb/testplan/<topic>.toml:

    [[behaviour]]
    name = "order is kept"
    description = "All that goes in comes out in order, whoever stalls."
    rows = ["basic-split-01"]                       # ids in requirements.csv; may be empty
    tests = ["tb/unit/test_x.py::keeps_order"]      # a pytest or cocotb function

    [[not_applicable]]
    rows = ["leg-basic-01"]
    reason = "no legacy interface"
    tests = ["tb/unit/test_x.py::identity"]         # may be left out: what shows that it is so
    not_offered = ["SR_IOV"]                        # may be left out: features that are the reason

    [[later]]
    rows = ["mmio-reg-01"]
    reason = "no MMIO transport yet"

scope.toml names the sections that are counted (`lib.conformance`).
"""

from __future__ import annotations

import csv
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, str]
"""One line of requirements.csv, by column."""

_REQUIRED = {
    "behaviour": {"name", "description", "rows", "tests"},
    "not_applicable": {"rows", "reason"},
    "later": {"rows", "reason"},
}
_OPTIONAL: dict[str, set[str]] = {"not_applicable": {"tests", "not_offered"}}


@dataclass(frozen=True)
class Entry:
    """One table of a plan: a behaviour with its tests, or a reason."""

    kind: str
    """`behaviour`, `not_applicable` or `later`."""
    where: str
    """File and name, for messages."""
    name: str
    text: str
    """Description of a behaviour, or the reason."""
    rows: tuple[str, ...]
    tests: tuple[str, ...]
    not_offered: tuple[str, ...] = ()
    """Features without which the rows do not apply."""


@dataclass
class Plans:
    """All plans together: where each row and each test is mentioned."""

    entries: list[Entry] = field(default_factory=list)
    covered: dict[str, list[Entry]] = field(default_factory=dict)
    not_applicable: dict[str, list[Entry]] = field(default_factory=dict)
    later: dict[str, list[Entry]] = field(default_factory=dict)
    tests: dict[str, list[str]] = field(default_factory=dict)
    """Places that name a test."""
    problems: list[str] = field(default_factory=list)

    @property
    def behaviours(self) -> int:
        """Return how many behaviours there are."""
        return sum(entry.kind == "behaviour" for entry in self.entries)


def load_rows(path: Path) -> dict[str, Row]:
    """Read the requirement table, by id."""
    with path.open(newline="") as handle:
        return {row["id"]: row for row in csv.DictReader(handle)}


def load_plans(folder: Path) -> Plans:
    """Read all plans of a folder."""
    plans = Plans()
    for path in sorted(folder.glob("*.toml")):
        if path.name == "scope.toml":
            continue
        try:
            content = tomllib.loads(path.read_text())
        except tomllib.TOMLDecodeError as error:
            plans.problems.append(f"{path.name}: {error}")
        else:
            _load_plan(plans, path.name, content)
    return plans


def _load_plan(plans: Plans, file: str, content: dict[str, Any]) -> None:
    """Add one plan."""
    for kind in content.keys() - _REQUIRED.keys():
        plans.problems.append(f"{file}: unknown table {kind}")
    for kind, required in _REQUIRED.items():
        for number, table in enumerate(content.get(kind, []), 1):
            name = table.get("name", f"{kind} {number}")
            where = f"{file}: {name}"
            wrong = (required - table.keys()) | (
                table.keys() - required - _OPTIONAL.get(kind, set())
            )
            if wrong:
                plans.problems.append(f"{where}: missing or unknown: {', '.join(sorted(wrong))}")
            if kind == "behaviour" and not table.get("tests"):
                plans.problems.append(f"{where}: no test")
            _add(plans, _entry(kind, where, name, table))


def _entry(kind: str, where: str, name: str, table: dict[str, Any]) -> Entry:
    text = table.get("description" if kind == "behaviour" else "reason", "")
    lists = (tuple(table.get(key, ())) for key in ("rows", "tests", "not_offered"))
    return Entry(kind, where, name, text, *lists)


def _add(plans: Plans, entry: Entry) -> None:
    """File an entry under each of its rows and tests."""
    plans.entries.append(entry)
    rows = plans.covered if entry.kind == "behaviour" else getattr(plans, entry.kind)
    for row in entry.rows:
        rows.setdefault(row, []).append(entry)
    for test in entry.tests:
        plans.tests.setdefault(test, []).append(entry.where)
