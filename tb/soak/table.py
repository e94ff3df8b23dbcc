"""What a soak did, by ring format and feature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from soak.case import RING_FEATURES

__all__ = ["golden_table"]


def golden_table(records: Sequence[dict[str, Any]], seed: int) -> Table:
    """Cases, buffers, bytes and simulated time of each ring format and feature."""
    table = Table(box=SIMPLE_HEAD, title=f"golden comparison, seed {seed}")
    table.add_column("format")
    table.add_column("feature")
    for name in ("cases", "buffers", "bytes", "simulated ms", "failed"):
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
        f"{sum(record['buffers'] for record in good):,}",
        f"{sum(record['bytes'] for record in good):,}",
        f"{sum(record['us'] for record in good) / 1000:,.1f}",
        str(len(records) - len(good)),
    )
