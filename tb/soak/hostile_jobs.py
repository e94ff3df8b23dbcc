"""Hostile runs: their simulations and their table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from soak.configs import BLK, HOSTILE
from soak.jobs import Job, deal

__all__ = ["hostile_jobs", "hostile_table"]

CONFIGS = {"net": HOSTILE, "blk": BLK}
"""By device type."""


def hostile_jobs(
    seed: int, runs: int, only: int | None, parts: int, types: Sequence[str]
) -> list[Job]:
    """So many runs; `only`: the number of the one that is wanted."""
    made: list[list[Job]] = []
    share, first = -(-runs // len(types)), 0
    for name in types:
        last = min(first + share, runs)
        cases = [(number, {"seed": seed + number}) for number in range(first, last)]
        wanted = [item for item in cases if only in (None, item[0])]
        made.append(deal("hostile", CONFIGS[name], wanted, parts))
        first = last
    return [jobs[part] for part in range(parts) for jobs in made if part < len(jobs)]


def hostile_table(records: Sequence[dict[str, Any]], seed: int) -> Table:
    """Runs of each ring format and feature, and the longest waits."""
    table = Table(box=SIMPLE_HEAD, title=f"hostile drivers, seed {seed}; waits in cycles")
    table.add_column("format")
    table.add_column("feature")
    for name in ("runs", "with intruder", "asked for reset", "busy", "cycles", "longest reset"):
        table.add_column(name, justify="right")
    table.add_column("longest wait of the neighbour", justify="right")
    table.add_column("failed", justify="right")
    names = sorted({name for record in records for name in record["features"]})
    for ring in ("split", "packed"):
        mine = [record for record in records if record["ring"] == ring]
        _row(table, ring, "", mine)
        for feature in names:
            _row(table, "", feature, [r for r in mine if feature in r["features"]])
    _row(table, "all", "", records)
    return table


def _row(table: Table, ring: str, feature: str, records: Sequence[dict[str, Any]]) -> None:
    table.add_row(
        ring,
        feature,
        f"{len(records):,}",
        f"{sum(record['intruder'] for record in records):,}",
        f"{sum(record['halted'] for record in records):,}",
        f"{sum(record['busy'] for record in records):,}",
        f"{sum(record['cycles'] for record in records):,}",
        *(
            f"{max((record[name] for record in records), default=0):,}"
            for name in ("reset", "neighbour")
        ),
        str(sum("failed" in record for record in records)),
    )
