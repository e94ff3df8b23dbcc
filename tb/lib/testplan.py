"""Check the test plans: every test is named, every name and every row exists.

`python -m lib.testplan check` says what is wrong. `lib.plans` describes the files;
`lib.conformance` counts the requirement rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console

from lib.discover import FileTests, find_tests
from lib.paths import ROOT
from lib.plans import Plans, Row, load_plans, load_rows

TEST_FILES = (
    *(f"tb/{folder}/**/test_*.py" for folder in ("models", "unit", "system")),
    "tb/formal/prove_*.py",
)
"""Every test and every proof in these must be named by a behaviour."""


@dataclass(frozen=True)
class Report:
    """What the check found."""

    problems: list[str]
    tests: int
    behaviours: int


def check(root: Path = ROOT) -> Report:
    """Check all plans against the tests and the requirement table."""
    folder = root / "tb" / "testplan"
    plans = load_plans(folder)
    files: dict[str, FileTests] = {}
    for pattern in TEST_FILES:
        for path in sorted(root.glob(pattern)):
            files[str(path.relative_to(root))] = find_tests(path)
    problems = [
        *plans.problems,
        *_check_tests(root, plans, files),
        *_check_rows(plans, load_rows(folder / "requirements.csv")),
    ]
    tests = sum(len(file.owed) for file in files.values())
    return Report(problems, tests, plans.behaviours)


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


def _check_rows(plans: Plans, rows: dict[str, Row]) -> list[str]:
    """Every row exists, and no row is both covered and waived."""
    problems = []
    waived = {**plans.later, **plans.not_applicable}
    for row, entries in {**waived, **plans.covered}.items():
        if row not in rows:
            problems.append(f"{entries[0].where}: no row {row}")
    for row in sorted(plans.covered.keys() & waived.keys()):
        places = f"{plans.covered[row][0].where}) and not ({waived[row][0].where}"
        problems.append(f"row {row} is covered ({places})")
    for row in sorted(plans.later.keys() & plans.not_applicable.keys()):
        problems.append(f"row {row} is both later and not applicable")
    return problems


app = typer.Typer(add_completion=False, help="Test plans: behaviours, requirement rows, tests.")


@app.callback()
def _main() -> None:
    """Keep `check` a command of its own."""


@app.command("check")
def check_command() -> None:
    """Check the plans; the exit status is 1 if something is wrong."""
    console = Console(width=120)
    report = check()
    console.print(f"{report.behaviours} behaviours, {report.tests} tests")
    for problem in report.problems:
        console.print(f"error: {problem}", highlight=False, markup=False)
    raise typer.Exit(1 if report.problems else 0)


if __name__ == "__main__":
    app()
