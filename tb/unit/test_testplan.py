"""The test plans of this repository hold, and the check finds every kind of mistake."""

from __future__ import annotations

from pathlib import Path

from lib.discover import find_tests
from lib.testplan import check

TESTS = """
import cocotb
from lib.sim import simulate

@cocotb.test(timeout_time=1, timeout_unit="us")
async def moves(dut): ...

@cocotb.test
@cocotb.parametrize(a=[1, 2])
async def stops(dut, a): ...

def build(width):
    simulate(width)

def test_launcher():
    build(8)

def test_plain():
    assert True

class TestGroup:
    def test_inside(self): ...
"""

ROWS = """id,side,level,spec_section,testable_in_rtl,requirement
a-01,device,MUST,Basics / Rings / More,yes,one
a-02,device,MUST NOT,Basics / Rings,partly,two
a-03,device,MUST,Basics / Other,no,three
drv-01,driver,MUST,Basics / Rings,yes,four
"""

PLAN = """
[[behaviour]]
name = "moving"
description = "It moves."
rows = ["a-01"]
tests = ["tb/unit/test_one.py::moves", "tb/unit/test_one.py::stops",
         "tb/unit/test_one.py::test_plain", "tb/unit/test_one.py::TestGroup::test_inside"]

[[later]]
rows = ["drv-01"]
reason = "not yet"
"""


def project(root: Path, plan: str, scope: str = "complete_sections = []") -> Path:
    """Write a small project with one test file and one plan."""
    for folder in ("tb/unit", "tb/testplan"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "tb/unit/test_one.py").write_text(TESTS)
    (root / "tb/testplan/requirements.csv").write_text(ROWS)
    (root / "tb/testplan/one.toml").write_text(plan)
    (root / "tb/testplan/scope.toml").write_text(scope)
    return root


def test_plans_hold() -> None:
    """The plans of this repository name existing tests and rows, and leave out no test."""
    problems = check().problems
    assert not problems, "\n".join(problems)


def test_discovery(tmp_path: Path) -> None:
    """pytest and cocotb functions are told apart; launchers need no plan of their own."""
    found = find_tests(project(tmp_path, PLAN) / "tb/unit/test_one.py")
    assert found.cocotb == {"moves", "stops"}
    assert found.launchers == {"test_launcher"}
    assert found.owed == {"moves", "stops", "test_plain", "TestGroup::test_inside"}


def test_mistakes_are_found(tmp_path: Path) -> None:
    """Each kind of mistake is reported, and only that one."""
    report = check(project(tmp_path, PLAN))
    assert report.problems == []
    assert [row["id"] for row in report.missing] == ["a-02"]
    assert report.sections["Basics / Rings"]["covered"] == 1

    mistakes = {
        "no row a-09": PLAN.replace("a-01", "a-09"),
        "no file tb/unit/test_two.py": PLAN + PLAN.replace("test_one", "test_two"),
        "no test flies": PLAN.replace("::moves", '::moves", "tb/unit/test_one.py::flies'),
        "stops is in no plan": PLAN.replace('"tb/unit/test_one.py::stops",', ""),
        "is covered": PLAN + '[[not_applicable]]\nrows = ["a-01"]\nreason = "no"\n',
        "both later and not": PLAN + '[[not_applicable]]\nrows = ["drv-01"]\nreason = "no"\n',
        "missing or unknown: reason": PLAN.replace('reason = "not yet"', ""),
        "unknown table laetr": PLAN.replace("[[later]]", "[[laetr]]"),
        "moving: no test": PLAN + PLAN[: PLAN.index("tests =")] + "tests = []\n",
        "one.toml: ": "= nonsense",
    }
    for expected, plan in mistakes.items():
        problems = check(project(tmp_path, plan)).problems
        assert any(expected in problem for problem in problems), (expected, problems)

    for section, expected in {"Basics / Rings": "row a-02", "Basis": "no such section"}.items():
        scope = f'complete_sections = ["{section}"]'
        problems = check(project(tmp_path, PLAN, scope)).problems
        assert len(problems) == 1
        assert expected in problems[0]
