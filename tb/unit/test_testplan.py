"""The test plans of this repository hold, and the check finds every kind of mistake."""

from __future__ import annotations

from pathlib import Path

from plan_project import PLAN, project

from lib.discover import find_tests
from lib.testplan import check


def test_plans_hold() -> None:
    """The plans of this repository name existing tests and rows, and leave out no test."""
    problems = check().problems
    assert not problems, "\n".join(problems)


def test_discovery(tmp_path: Path) -> None:
    """pytest and cocotb functions are told apart; launchers need no plan of their own."""
    found = find_tests(project(tmp_path) / "tb/unit/test_one.py")
    assert found.cocotb == {"moves", "stops"}
    assert found.launchers == {"test_launcher"}
    assert found.owed == {"moves", "stops", "test_plain", "TestGroup::test_inside"}


def test_mistakes_are_found(tmp_path: Path) -> None:
    """Each kind of mistake is reported."""
    report = check(project(tmp_path))
    assert report.problems == []
    assert (report.behaviours, report.tests) == (1, 4)

    mistakes = {
        "no row a-09": PLAN.replace("a-01", "a-09"),
        "no file tb/unit/test_two.py": PLAN + PLAN.replace("test_one", "test_two"),
        "no test flies": PLAN.replace("::moves", "::flies"),
        "not_applicable 2: no test flies": PLAN
        + '[[not_applicable]]\nrows = []\nreason = "no"\ntests = ["tb/unit/test_one.py::flies"]\n',
        "stops is in no plan": PLAN.replace('"tb/unit/test_one.py::stops",', ""),
        "is covered": PLAN + '[[not_applicable]]\nrows = ["a-01"]\nreason = "no"\n',
        "both later and not": PLAN + '[[not_applicable]]\nrows = ["a-04"]\nreason = "no"\n',
        "missing or unknown: reason": PLAN.replace('reason = "not yet"', ""),
        "missing or unknown: tests": PLAN.replace('"not yet"', '"no"\ntests = []'),
        "unknown table laetr": PLAN.replace("[[later]]", "[[laetr]]"),
        "moving: no test": PLAN + PLAN[: PLAN.index("tests =")] + "tests = []\n",
        "one.toml: ": "= nonsense",
    }
    for expected, plan in mistakes.items():
        problems = check(project(tmp_path, plan)).problems
        assert any(expected in problem for problem in problems), (expected, problems)
