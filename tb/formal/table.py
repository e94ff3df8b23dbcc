"""The outcome as a table and as a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.table import Table

from formal.engine import Outcome
from formal.proof import Proof


def table(proofs: list[Proof], outcomes: list[Outcome]) -> Table:
    """Return one line for each proof."""
    result = Table(
        title="Formal proofs",
        caption="prove: for all time, by induction over so many cycles. bmc: for so many cycles "
        "after reset. Mutants: faults in the RTL that the proof has found, of those it was given.",
    )
    result.add_column("proof", no_wrap=True)
    result.add_column("what")
    result.add_column("sizes")
    for name in ("mode", "depth", "mutants", "s"):
        result.add_column(name, justify="right", no_wrap=True)
    result.add_column("", no_wrap=True)
    for proof in proofs:
        mine = [outcome for outcome in outcomes if outcome.task.proof is proof]
        mutants = [outcome for outcome in mine if outcome.task.mutant is not None]
        caught = sum(outcome.good for outcome in mutants)
        good = all(outcome.good for outcome in mine)
        result.add_row(
            proof.name,
            proof.title,
            proof.sizes,
            proof.mode,
            str(proof.depth),
            f"{caught}/{len(mutants)}",
            f"{sum(outcome.seconds for outcome in mine):.0f}",
            "ok" if good else "[bold red]FAILED",
        )
    return result


def write(path: Path, outcomes: list[Outcome]) -> None:
    """Write all runs as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    records: list[dict[str, Any]] = [
        {
            "proof": outcome.task.proof.name,
            "file": outcome.task.proof.file,
            "variant": outcome.task.proof.variants[outcome.task.variant],
            "run": outcome.task.label,
            "depth": outcome.task.depth,
            "wanted": outcome.task.wanted,
            "status": outcome.status,
            "seconds": round(outcome.seconds, 1),
            "message": outcome.message,
        }
        for outcome in outcomes
    ]
    path.write_text(json.dumps(records, indent=1, default=str) + "\n")
