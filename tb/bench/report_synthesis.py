"""The part of the benchmark's report that shows resources and LUT levels."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

from bench.targets import GROWTH_MAX, LEVELS_CONFIG, LEVELS_MAX
from demo.report import _table as table

Synthesis = dict[str, list[dict[str, Any]]]
"""What `make synth` leaves: "configs", and "growth" between numbers of virtqueues."""


def load_synthesis(path: Path) -> Synthesis:
    """Read the results of `make synth`; empty if there are none. A plain list is configurations."""
    if not path.exists():
        return {}
    found = json.loads(path.read_text())
    return found if isinstance(found, dict) else {"configs": found}


def synthesis_part(found: Synthesis) -> list[str]:
    """Return the part as HTML; LUTs as memory are not among those as logic."""
    out = ["<h2>Resources and LUT levels</h2>"]
    if not (lines := found.get("configs", [])):
        return [*out, absent("no results of `make synth`")]
    names = ("lut", "lutram", "ff", "bram36", "levels")
    rows = []
    for line in lines:
        cells = ["" if line.get(name) is None else f"{line[name]:,}" for name in names]
        verdict = ""
        if line["config"] == LEVELS_CONFIG and line.get("levels") is not None:
            verdict = _verdict(line["levels"] <= LEVELS_MAX)
        limit = f"at most {LEVELS_MAX} levels" if verdict else ""
        rows.append((line["config"], verdict, *cells, limit))
    head = ("LUT, logic", "LUT, memory", "FF", "BRAM (36 Kb)", "LUT levels", "to reach")
    out.append(table(("", "met", *head), rows, numbers=(2, 3, 4, 5, 6), marks=True))
    out.append(
        '<p class="missing">Yosys, synth_xilinx -family xcup. Levels are the LUTs between two '
        "registers on the longest path, a carry chain counted as one.</p>"
    )
    if growths := found.get("growth", []):
        grown = [
            (
                f"{growth['config']}, {growth['queues'][0]} to {growth['queues'][1]} virtqueues",
                _verdict(share <= GROWTH_MAX),
                name,
                f"{share:+.1%}",
                f"at most {GROWTH_MAX:+.0%}",
            )
            for growth in growths
            for name, share in growth["logic"].items()
        ]
        titles = ("growth", "met", "", "measured", "to reach")
        out.append(table(titles, grown, numbers=(3,), marks=True))
    for line in lines:
        if paths := line.get("worst_path"):
            text = paths if isinstance(paths, str) else "\n\n".join(map(str, paths))
            out.append(f"<details><summary>Longest paths of {escape(line['config'])}</summary>")
            out.append(f"<pre>{escape(text)}</pre></details>")
    return out


def absent(why: str) -> str:
    """Say that a part is not there, and why."""
    return f'<p class="missing">Left out: {escape(why)}.</p>'


def _verdict(met: bool) -> str:
    return "ok" if met else "missed"
