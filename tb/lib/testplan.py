"""Test plans: which behaviour proves which requirement, and which test shows it.

A plan is a file tb/testplan/<topic>.toml:

    [[behaviour]]
    name = "order is kept"
    description = "All that goes in comes out in order, whoever stalls."
    rows = ["basic-split-01"]                       # ids in requirements.csv; may be empty
    tests = ["tb/unit/test_x.py::keeps_order"]      # a pytest or cocotb function

    [[not_applicable]]                              # or [[later]]
    rows = ["leg-basic-01"]
    reason = "no legacy interface"

`python -m lib.testplan check` says what is wrong, and how many rows of each section are covered.
"""

from __future__ import annotations

import csv
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from lib.discover import FileTests, find_tests
from lib.paths import ROOT

TEST_DIRS = ("tb/models", "tb/unit", "tb/system")
"""Every test in these must be named by a behaviour."""

_KEYS = {
    "behaviour": {"name", "description", "rows", "tests"},
    "not_applicable": {"rows", "reason"},
    "later": {"rows", "reason"},
}


@dataclass
class Plans:
    """All plans together: where each row and each test is mentioned."""

    covered: dict[str, list[str]] = field(default_factory=dict)
    not_applicable: dict[str, list[str]] = field(default_factory=dict)
    later: dict[str, list[str]] = field(default_factory=dict)
    tests: dict[str, list[str]] = field(default_factory=dict)
    behaviours: int = 0
    complete_sections: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """What the check found."""

    problems: list[str]
    sections: dict[str, Counter[str]]
    missing: list[dict[str, str]]
    tests: int
    behaviours: int


def load_plans(folder: Path) -> Plans:
    """Read all plans of a folder."""
    plans = Plans()
    for path in sorted(folder.glob("*.toml")):
        try:
            content = tomllib.loads(path.read_text())
        except tomllib.TOMLDecodeError as error:
            plans.problems.append(f"{path.name}: {error}")
            continue
        if path.name == "scope.toml":
            plans.complete_sections = content.get("complete_sections", [])
        else:
            _load_plan(plans, path.name, content)
    return plans


def _load_plan(plans: Plans, file: str, content: dict[str, Any]) -> None:
    """Add one plan."""
    for kind in content.keys() - _KEYS.keys():
        plans.problems.append(f"{file}: unknown table {kind}")
    for kind, keys in _KEYS.items():
        for number, entry in enumerate(content.get(kind, []), 1):
            where = f"{file}: {entry.get('name', f'{kind} {number}')}"
            if wrong := keys ^ entry.keys():
                plans.problems.append(f"{where}: missing or unknown: {', '.join(sorted(wrong))}")
            rows = getattr(plans, "covered" if kind == "behaviour" else kind)
            for row in entry.get("rows", []):
                rows.setdefault(row, []).append(where)
            for test in entry.get("tests", []):
                plans.tests.setdefault(test, []).append(where)
            if kind == "behaviour":
                plans.behaviours += 1
                if not entry.get("tests"):
                    plans.problems.append(f"{where}: no test")


def load_rows(path: Path) -> dict[str, dict[str, str]]:
    """Read the requirement table, by id."""
    with path.open(newline="") as handle:
        return {row["id"]: row for row in csv.DictReader(handle)}


def is_core(row: dict[str, str]) -> bool:
    """Tell whether the device owes this row: mandatory, and hardware can show it."""
    return (
        row["side"] == "device"
        and row["level"] in ("MUST", "MUST NOT")
        and row["testable_in_rtl"] != "no"
    )


def section_of(row: dict[str, str]) -> str:
    """Return the section that a row is counted under: two levels of the specification."""
    return " / ".join(row["spec_section"].split(" / ")[:2])


def check(root: Path = ROOT) -> Report:
    """Check all plans against the tests and the requirement table."""
    folder = root / "tb" / "testplan"
    plans = load_plans(folder)
    rows = load_rows(folder / "requirements.csv")
    problems = list(plans.problems)
    files: dict[str, FileTests] = {}
    for directory in TEST_DIRS:
        for path in sorted((root / directory).rglob("test_*.py")):
            files[str(path.relative_to(root))] = find_tests(path)
    problems += _check_tests(root, plans, files)
    problems += _check_rows(plans, rows)
    missing = [row for key, row in rows.items() if is_core(row) and not _mentioned(plans, key)]
    for section in plans.complete_sections:
        if not any(_within(row, section) for row in rows.values()):
            problems.append(f"scope.toml: no such section: {section}")
        for row in missing:
            if _within(row, section):
                problems.append(f"row {row['id']} is in a complete section and in no plan")
    tests = sum(len(file.owed) for file in files.values())
    return Report(problems, _count(plans, rows), missing, tests, plans.behaviours)


def _within(row: dict[str, str], section: str) -> bool:
    """Tell whether a row belongs to a section or to one below it."""
    return f"{row['spec_section']} / ".startswith(f"{section} / ")


def _mentioned(plans: Plans, row: str) -> bool:
    return row in plans.covered or row in plans.not_applicable or row in plans.later


def _check_tests(root: Path, plans: Plans, files: dict[str, FileTests]) -> list[str]:
    """Every named test exists; every test is named."""
    problems = []
    known = dict(files)
    for test, places in plans.tests.items():
        file, _, name = test.partition("::")
        if file not in known and (root / file).is_file():
            known[file] = find_tests(root / file)
        if file not in known:
            problems.append(f"{places[0]}: no file {file}")
        elif name not in known[file].all:
            problems.append(f"{places[0]}: no test {name} in {file}")
    for file, found in files.items():
        problems += [
            f"{file}::{name} is in no plan"
            for name in sorted(found.owed)
            if f"{file}::{name}" not in plans.tests
        ]
    return problems


def _check_rows(plans: Plans, rows: dict[str, dict[str, str]]) -> list[str]:
    """Every row exists, and no row is both covered and waived."""
    problems = []
    waived = {**plans.later, **plans.not_applicable}
    for row, places in {**waived, **plans.covered}.items():
        if row not in rows:
            problems.append(f"{places[0]}: no row {row}")
    for row in sorted(plans.covered.keys() & waived.keys()):
        problems.append(
            f"row {row} is covered ({plans.covered[row][0]}) and not ({waived[row][0]})"
        )
    for row in sorted(plans.later.keys() & plans.not_applicable.keys()):
        problems.append(f"row {row} is both later and not applicable")
    return problems


def _count(plans: Plans, rows: dict[str, dict[str, str]]) -> dict[str, Counter[str]]:
    """Count the rows of each section by what the plans say about them."""
    sections: dict[str, Counter[str]] = {}
    for key, row in rows.items():
        count = sections.setdefault(section_of(row), Counter())
        for kind in ("covered", "not_applicable", "later"):
            count[kind] += key in getattr(plans, kind)
        if is_core(row):
            count["core"] += 1
            count["core covered"] += key in plans.covered
            count["missing"] += not _mentioned(plans, key)
    return sections


app = typer.Typer(add_completion=False, help="Test plans: behaviours, requirement rows, tests.")


@app.callback()
def _main() -> None:
    """Keep `check` a command of its own."""


@app.command("check")
def check_command(
    missing: Annotated[str, typer.Option(help="List missing rows of sections with this text")] = "",
) -> None:
    """Check the plans; the exit status is 1 if something is wrong."""
    console = Console(width=120)
    report = check()
    table = Table(title="Requirement rows by section ('core': the device MUST, testable in RTL)")
    table.add_column("section")
    columns = ("core", "core covered", "missing", "covered", "later", "not_applicable")
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right")
    total: Counter[str] = Counter()
    for section, count in report.sections.items():
        total.update(count)
        table.add_row(section.split(" / ")[-1], *(str(count[column]) for column in columns))
    table.add_section()
    table.add_row("total", *(str(total[column]) for column in columns))
    console.print(table)
    if missing:
        for row in report.missing:
            if missing.lower() in row["spec_section"].lower():
                console.print(f"{row['id']}  {row['requirement']}", highlight=False, markup=False)
    console.print(f"{report.behaviours} behaviours, {report.tests} tests")
    for problem in report.problems:
        console.print(f"error: {problem}", highlight=False, markup=False)
    raise typer.Exit(1 if report.problems else 0)


if __name__ == "__main__":
    app()
