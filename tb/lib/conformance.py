"""Count the requirement rows, and say where each is proven.

`make conformance` prints the counts of each section, writes build/conformance.html (every row with
its tests or its reason), and fails while a row in scope has neither. `lib.conformance_rows` says
what counts.
"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from lib.conformance_page import page
from lib.conformance_rows import COLUMNS, Conformance, judge, lines
from lib.paths import BUILD, ROOT

_SHORT = {"not applicable": "n/a", "missing (SHOULD)": "missing SHOULD"}
"""Heads of columns."""
README_MARKS = ("<!-- conformance: begin -->", "<!-- conformance: end -->")


def markdown(result: Conformance) -> str:
    """Return the counts of the sections in scope as a Markdown table."""
    heads = [f"{side}: {_SHORT.get(state, state)}" for side, state in COLUMNS]
    text = [f"| section | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
    for name, count in lines(result):
        text.append(f"| {name} | {' | '.join(str(count[key]) for key in COLUMNS)} |")
    return "\n".join(text) + "\n"


def readme_table(text: str) -> str:
    """Return what stands between the marks of a README."""
    begin, end = README_MARKS
    return text.partition(begin)[2].partition(end)[0].strip() + "\n"


def with_table(text: str, table: str) -> str:
    """Return a README with another table between its marks."""
    begin, end = README_MARKS
    if begin not in text or end not in text:
        raise ValueError(f"no {begin} ... {end} in the text")
    head, _, rest = text.partition(begin)
    return f"{head}{begin}\n{table}{end}{rest.partition(end)[2]}"


def _print(console: Console, result: Conformance) -> None:
    """Print the counts."""
    table = Table(title="Requirement rows (MUST, MUST NOT, SHOULD, SHOULD NOT, FACT)")
    table.add_column("section", no_wrap=True)
    for side, state in COLUMNS:
        head = _SHORT.get(state, state).replace(" ", "\n")
        table.add_column(f"{side}\n{head}", justify="right")
    for name, count in lines(result):
        if name == "all":
            table.add_section()
        table.add_row(name, *(str(count[key]) for key in COLUMNS))
    console.print(table)


def main(
    readme: Annotated[bool, typer.Option(help="Put the counts into README.md")] = False,
) -> None:
    """Count the requirement rows; the exit status is 1 if one in scope has no test."""
    console = Console(width=120)
    result = judge()
    _print(console, result)
    target = BUILD / "conformance.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page(result))
    for problem in result.problems:
        console.print(f"error: {problem}", highlight=False, markup=False)
    for row in result.rows:
        if row.binding and row.state == "missing (SHOULD)":
            reason = f"{row.row['id']} ({row.row['level']}): {row.entries[0].text}"
            console.print(f"missing: {reason}", highlight=False, markup=False)
    if readme:
        path = ROOT / "README.md"
        path.write_text(with_table(path.read_text(), markdown(result)))
    console.print(f"every row, with its tests or its reason: {target}", highlight=False)
    raise typer.Exit(1 if result.problems else 0)


if __name__ == "__main__":
    typer.run(main)
