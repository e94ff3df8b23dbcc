"""Requirement rows are counted as they are, and a row without proof is found."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest
from plan_project import PLAN, SCOPE, project

from lib.conformance import README_MARKS, markdown, readme_table, with_table
from lib.conformance_page import page
from lib.conformance_rows import Conformance, judge
from lib.paths import ROOT

NOT_APPLICABLE = PLAN[PLAN.index("[[not_applicable]]") : PLAN.index("[[later]]")]
LATER = '[[later]]\nrows = ["a-03"]\nreason = "some day"\n\n'


def states(result: Conformance) -> dict[str, str]:
    """Return the state of each row that counts."""
    return {row.row["id"]: row.state for row in result.rows if row.binding}


def test_rows_are_judged(tmp_path: Path) -> None:
    """Rows count by side, level and section; a SHOULD may be put off with a reason."""
    result = judge(project(tmp_path))
    assert result.problems == ()
    assert states(result) == {
        "a-01": "met",
        "a-02": "met",
        "a-03": "not applicable",
        "a-04": "missing (SHOULD)",
        "a-06": "met",
        "drv-01": "met",
        "x-01": "later",
    }
    sections = {row.row["id"]: row.section.name for row in result.rows}
    assert sections["a-01"] == sections["drv-02"] == "Rings"
    assert sections["a-03"] == "The rest"
    assert result.total() == {
        ("device", "met"): 3,
        ("device", "not applicable"): 1,
        ("device", "missing (SHOULD)"): 1,
        ("driver", "met"): 1,
    }


@pytest.mark.parametrize(
    ("problem", "old", "new"),
    [
        ("row a-02 (MUST NOT) has no test", '"a-02", ', ""),
        ("row a-06 (FACT) has no test", '"a-06", ', ""),
        ("row drv-01 (MUST) has no test", ', "drv-01"', ""),
        ("row a-04 (SHOULD) has no test and no reason", '"a-04", ', ""),
        ("row x-01 (MUST) has no test and no reason", ', "x-01"', ""),
        ("row a-03 (MUST) is put off: one.toml: later 1", NOT_APPLICABLE, LATER),
        ("no row a-77", '"a-01"', '"a-77"'),
        ("no test flies", "test_one.py::moves", "test_one.py::flies"),
    ],
)
def test_missing_rows_are_problems(tmp_path: Path, problem: str, old: str, new: str) -> None:
    """A binding row that loses its test or its reason is a problem."""
    assert old in PLAN
    problems = judge(project(tmp_path, PLAN.replace(old, new))).problems
    assert any(problem in found for found in problems), problems


def test_sections_are_checked(tmp_path: Path) -> None:
    """Every row is in a section, and every section has rows."""
    lost = judge(project(tmp_path, scope=SCOPE.replace('["Basics"]', '["Basic"]'))).problems
    assert "row a-03 is in no section of scope.toml" in lost
    assert "scope.toml: no row in The rest" in lost


def test_readme_table(tmp_path: Path) -> None:
    """The counts as Markdown, put between the marks of a README and found there again."""
    table = markdown(judge(project(tmp_path)))
    assert table.splitlines()[-1] == "| all | 3 | 1 | 0 | 1 | 1 | 0 | 0 | 0 |"
    text = "\n".join(["before", *README_MARKS, "after", ""])
    filled = with_table(text, table)
    assert readme_table(filled) == table
    assert with_table(filled, table) == filled
    assert filled.startswith("before\n")
    assert filled.endswith("after\n")
    with pytest.raises(ValueError, match="conformance: begin"):
        with_table("nothing", table)


def test_readme_is_current() -> None:
    """The counts in README.md are those of the plans (`make conformance ARGS=--readme`)."""
    assert readme_table((ROOT / "README.md").read_text()) == markdown(judge())


class _Text(HTMLParser):
    """Collects text, and the tags that are open at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_shows_every_row(tmp_path: Path) -> None:
    """Each row with its text, its tests or its reason; nothing is loaded from elsewhere."""
    text = page(judge(project(tmp_path)))
    parser = _Text()
    parser.feed(text)
    assert parser.open == []
    for row in ("a-01", "a-05", "drv-02", "x-01"):
        assert f"id='{row}'" in text
    for words in ("one", "a <feature>", "a note", "not <offered>", "not yet", "test_one.py::moves"):
        assert words in parser.text
    assert "free" in parser.text
    assert "http" not in text
