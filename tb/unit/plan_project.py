"""A small project with a test file, a plan and requirement rows, for tests of the checks."""

from __future__ import annotations

from pathlib import Path

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

ROWS = """id,side,level,spec_section,testable_in_rtl,requirement,applies_if,note
a-01,device,MUST,Basics / Rings / More,yes,one,always,
a-02,device,MUST NOT,Basics / Rings,partly,two,always,
a-03,device,MUST,Basics / Other,no,three,a <feature>,
a-04,device,SHOULD,Basics / Other,yes,four,always,a note
a-05,device,MAY,Basics / Other,yes,five,always,
a-06,both,FACT,Basics / Other,yes,six,always,
drv-01,driver,MUST,Basics / Rings,yes,seven,always,
drv-02,driver,MUST,Basics / Rings,no,eight,always,
x-01,device,MUST,Extras,yes,nine,always,
"""

PLAN = """
[[behaviour]]
name = "moving"
description = "It moves."
rows = ["a-01", "a-02", "a-06", "drv-01"]
tests = ["tb/unit/test_one.py::moves", "tb/unit/test_one.py::stops",
         "tb/unit/test_one.py::test_plain", "tb/unit/test_one.py::TestGroup::test_inside"]

[[not_applicable]]
rows = ["a-03"]
reason = "not <offered>"
tests = ["tb/unit/test_one.py::moves"]

[[later]]
rows = ["a-04", "x-01"]
reason = "not yet"
"""

SCOPE = """
[[section]]
name = "Rings"
prefixes = ["Basics / Rings"]
scope = true

[[section]]
name = "The rest"
prefixes = ["Basics"]
scope = true

[[section]]
name = "Extras"
prefixes = ["Extras"]
scope = false
"""


def project(root: Path, plan: str = PLAN, scope: str = SCOPE) -> Path:
    """Write the project, and return its directory."""
    for folder in ("tb/unit", "tb/testplan"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "tb/unit/test_one.py").write_text(TESTS)
    (root / "tb/testplan/requirements.csv").write_text(ROWS)
    (root / "tb/testplan/one.toml").write_text(plan)
    (root / "tb/testplan/scope.toml").write_text(scope)
    return root
