"""The golden comparison: its devices and its table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from soak.case import RING_FEATURES, Case, draw_cases
from soak.configs import BLK, DISK, PAIRS
from soak.jobs import Job, deal

__all__ = ["golden_jobs", "golden_table"]

SHARES = {"net": {"net-x8": 0.7, PAIRS: 0.3}, "blk": {BLK: 0.7, DISK: 0.3}}
"""By device type: devices, with their share of the type's buffers."""
WEIGHTS = {"net": 0.6, "blk": 0.4}
"""Of the device types, if there are several."""
_LONG = {DISK: 10_000}
"""Devices that take part from so many buffers on: before, to build them takes most of the time."""


def golden_jobs(
    seed: int, buffers: int, only: int | None, parts: int, types: Sequence[str]
) -> list[Job]:
    """So many buffers in all; `only`: the number of the one case that is wanted."""
    made: list[list[Job]] = []
    number = 0
    for at, (config, count) in enumerate(_shares(buffers, types).items()):
        drawn = draw_cases(seed + at, count)
        cases: list[tuple[int, Case]] = list(enumerate(drawn, number))
        number += len(drawn)
        made.append(deal("golden", config, [it for it in cases if only in (None, it[0])], parts))
    # Of different devices in turn, for two that build the same model would wait for each other.
    return [jobs[part] for part in range(parts) for jobs in made if part < len(jobs)]


def _shares(buffers: int, types: Sequence[str]) -> dict[str, int]:
    """Buffers of each device."""
    whole = sum(WEIGHTS[name] for name in types)
    found: dict[str, int] = {}
    for name in types:
        mine = buffers * WEIGHTS[name] / whole
        shares = {
            config: share
            for config, share in SHARES[name].items()
            if buffers >= _LONG.get(config, 0)
        }
        for config, share in shares.items():
            found[config] = max(round(mine * share / sum(shares.values())), 1)
    return found


def golden_table(records: Sequence[dict[str, Any]], seed: int) -> Table:
    """Cases, buffers, bytes and simulated time of each ring format and feature."""
    table = Table(box=SIMPLE_HEAD, title=f"golden comparison, seed {seed}")
    table.add_column("format")
    table.add_column("feature")
    for name in ("cases", "buffers", "bytes", "simulated ms", "interrupts", "failed"):
        table.add_column(name, justify="right")
    for ring in ("split", "packed"):
        mine = [record for record in records if record["case"]["ring"] == ring]
        _row(table, ring, "", mine)
        for feature in RING_FEATURES:
            _row(table, "", feature, [r for r in mine if feature in r["case"]["features"]])
    _row(table, "all", "", records)
    return table


def _row(table: Table, ring: str, feature: str, records: Sequence[dict[str, Any]]) -> None:
    good = [record for record in records if "failed" not in record]
    table.add_row(
        ring,
        feature,
        f"{len(records):,}",
        *(f"{sum(record[name] for record in good):,}" for name in ("buffers", "bytes")),
        f"{sum(record['us'] for record in good) / 1000:,.1f}",
        f"{sum(record['interrupts'] for record in good):,}",
        str(len(records) - len(good)),
    )
