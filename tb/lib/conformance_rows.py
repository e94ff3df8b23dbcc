"""Judge the requirement rows: met by tests, not applicable, missing.

A row of the device counts if its level is MUST, MUST NOT, SHOULD, SHOULD NOT or FACT (what the
specification says outside of its conformance clauses). A row of the driver counts if, beside that,
hardware can show it: it is asserted by the driver model, the golden device or the ring monitor, and
its test shows the assertion fire. In a section in scope a row that is put off (`later`) is missing;
only a SHOULD may be put off, with a reason, and is counted by itself.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from lib.paths import ROOT
from lib.plans import Entry, Plans, Row, load_plans, load_rows
from lib.testplan import check

LEVELS = ("MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "FACT")
"""Levels that bind; MAY permits."""
SIDES = ("device", "driver")
STATES = ("met", "not applicable", "missing", "missing (SHOULD)")
LATER = "later"
"""State of a row that is put off, in a section that is not in scope."""
COLUMNS = tuple((side, state) for side in SIDES for state in STATES)

Counts = Counter[tuple[str, str]]
"""Rows by side and state."""


@dataclass(frozen=True)
class Section:
    """Sections of the specification that are counted together."""

    name: str
    prefixes: tuple[str, ...]
    scope: bool
    """Its rows need a test, or a reason why they do not apply."""


@dataclass(frozen=True)
class Judged:
    """A requirement row and what the plans say about it."""

    row: Row
    section: Section
    side: str
    binding: bool
    """It counts (see above)."""
    state: str
    """One of `STATES`, or `LATER`."""
    entries: tuple[Entry, ...]

    @property
    def failure(self) -> str:
        """Say what is wrong with this row; empty if nothing is."""
        if not self.binding or self.state != "missing":
            return ""
        what = f"row {self.row['id']} ({self.row['level']})"
        if self.entries:
            return f"{what} is put off: {self.entries[0].where}"
        return f"{what} has no test and no reason"


@dataclass(frozen=True)
class Conformance:
    """All rows, judged."""

    sections: tuple[Section, ...]
    rows: tuple[Judged, ...]
    problems: tuple[str, ...]

    def count(self, section: Section) -> Counts:
        """Count the binding rows of a section by side and state."""
        return Counter(
            (row.side, row.state) for row in self.rows if row.section == section and row.binding
        )

    def total(self) -> Counts:
        """Count the binding rows of all sections in scope."""
        return sum((self.count(section) for section in self.sections if section.scope), Counter())


def load_sections(path: Path) -> tuple[Section, ...]:
    """Read scope.toml."""
    return tuple(
        Section(entry["name"], tuple(entry["prefixes"]), entry["scope"])
        for entry in tomllib.loads(path.read_text())["section"]
    )


def section_of(row: Row, sections: tuple[Section, ...]) -> Section | None:
    """Return the section of a row: that with the longest matching prefix."""
    path = f"{row['spec_section']} / "
    matches = [
        (len(prefix), section)
        for section in sections
        for prefix in section.prefixes
        if path.startswith(f"{prefix} / ")
    ]
    return max(matches, key=lambda match: match[0])[1] if matches else None


def judge(root: Path = ROOT) -> Conformance:
    """Judge every requirement row."""
    folder = root / "tb" / "testplan"
    plans = load_plans(folder)
    sections = load_sections(folder / "scope.toml")
    problems = check(root).problems
    rows = []
    for row in load_rows(folder / "requirements.csv").values():
        section = section_of(row, sections)
        if section is None:
            problems.append(f"row {row['id']} is in no section of scope.toml")
        else:
            rows.append(_judge_row(row, section, plans))
    used = {row.section for row in rows}
    problems += [f"scope.toml: no row in {item.name}" for item in sections if item not in used]
    problems += [row.failure for row in rows if row.failure]
    return Conformance(sections, tuple(rows), tuple(problems))


def _judge_row(row: Row, section: Section, plans: Plans) -> Judged:
    """Say what the plans say about one row."""
    key = row["id"]
    side = "driver" if row["side"] == "driver" else "device"  # "both" is owed by the device too
    binding = row["level"] in LEVELS and (side == "device" or row["testable_in_rtl"] == "yes")
    put_off = "missing (SHOULD)" if row["level"].startswith("SHOULD") else "missing"
    for state, found in (
        ("met", plans.covered.get(key)),
        ("not applicable", plans.not_applicable.get(key)),
        (put_off if section.scope else LATER, plans.later.get(key)),
    ):
        if found:
            return Judged(row, section, side, binding, state, tuple(found))
    return Judged(row, section, side, binding, "missing", ())


def lines(result: Conformance) -> list[tuple[str, Counts]]:
    """Return the lines of the table: each section in scope, and all of them."""
    counts = [(item.name, result.count(item)) for item in result.sections if item.scope]
    return [*counts, ("all", result.total())]
