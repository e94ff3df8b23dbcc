"""The report's figures, as SVG text."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from demo.result import Journey, Result, waits_for_host

UP, DOWN, INSIDE, LIMIT = "#c2571a", "#2b6cb0", "#4a7c59", "#b8b8b8"
_INK = "#222222"
_PURPOSES = {
    "frames": "#4a7c59",
    "descriptors": "#2b6cb0",
    "doorbell": "#c2571a",
    "suppression": "#8a5a9e",
    "interrupt": "#c79a1e",
}
"""Colours of the wire chart, in the order of its bars."""
_OTHER = "#7a7a7a"


@contextmanager
def _figure(width: float, height: float, rows: int = 1) -> Iterator[tuple[Any, Any, list[str]]]:
    """Give a figure, its axes (or those of all rows) and a list that will hold the SVG text."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "svg.hashsalt": "virtio-rtl",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": "#888888",
        "text.color": _INK,
        "axes.labelcolor": _INK,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(width, height), layout="constrained")
        out: list[str] = []
        yield figure, figure.subplots(rows, sharex=True), out
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    out.append(svg[svg.index("<svg") :])


def timeline(journey: Journey) -> str:
    """Draw one packet's way: a bar for each hop, and below it the TLPs on the link."""
    steps = journey.steps()
    rows = len(steps)
    with _figure(9.6, 0.27 * (rows + 6)) as (_, axes, out):
        end = journey.total_ns
        for row, (name, start, stop) in enumerate(steps):
            color = DOWN if waits_for_host(name) else INSIDE
            axes.barh(row, max(stop - start, end / 400), left=start, height=0.62, color=color)
            label, inside = f"{stop - start:,.0f} ns", stop > 0.8 * end
            axes.text(
                start - end / 120 if inside else max(stop, start + end / 400) + end / 120,
                row,
                label,
                va="center",
                ha="right" if inside else "left",
                fontsize=8,
            )
        lanes = {"down": rows + 0.8, "up": rows + 2.0}
        for way, color in (("down", DOWN), ("up", UP)):
            axes.hlines(lanes[way], 0, end, color="#dddddd", linewidth=1, zorder=1)
            written, said = -end, set[str]()
            for crossing in journey.crossings:
                if crossing.direction != way:
                    continue
                at = crossing.at_ns
                axes.plot([at, at], [lanes[way] - 0.3, lanes[way] + 0.3], color=color, zorder=2)
                # Neighbours' words side by side, each once, as far as there is room.
                at = max(at, written + end / 11)
                if at == crossing.at_ns:
                    said.clear()
                if crossing.purpose in said or at > 1.1 * end:
                    continue
                written = at
                said.add(crossing.purpose)
                axes.text(
                    at, lanes[way] - 0.36, crossing.purpose, fontsize=7, color=color, va="bottom"
                )
        axes.set_yticks(
            [*range(rows), *lanes.values()],
            [*(name for name, _, _ in steps), "TLPs host to device", "TLPs device to host"],
        )
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(rows + 2.5, -0.7)
        axes.set_xlim(min(0, *(c.at_ns for c in journey.crossings), 0) - end / 100, end * 1.03)
        axes.set_xlabel("ns")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.grid(axis="x", color="#eeeeee")
        axes.set_axisbelow(True)
    return out[0]


def rate(result: Result) -> str:
    """Draw the measured rate beside the link's ceiling."""
    flood, ceiling = result.flood, result.ceiling
    bars = [("ceiling, whole capture", ceiling.mpps, LIMIT, 0.0)]
    bars.append(("measured, whole capture", flood.mpps, INSIDE, ceiling.mpps))
    if steady := flood.steady:
        bars.append(("ceiling, steady", steady.model_mpps, LIMIT, 0.0))
        bars.append(("measured, steady", steady.mpps, INSIDE, steady.model_mpps))
    with _figure(9.6, 0.36 * len(bars) + 0.75) as (_, axes, out):
        for row, (_, value, color, limit) in enumerate(bars):
            axes.barh(row, value, height=0.62, color=color)
            share = f"  ({value / limit:.0%})" if limit else ""
            axes.text(value, row, f" {value:.2f}{share}", va="center", fontsize=8)
        axes.set_yticks(range(len(bars)), [name for name, *_ in bars])
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.set_xlim(0, max(value for _, value, *_ in bars) * 1.15)
        axes.set_xlabel("million frames per second, out and back in at once")
    return out[0]


def wire(result: Result) -> str:
    """Draw the bytes on the wire per frame by purpose, and what the wire model expects."""
    flood, ceiling = result.flood, result.ceiling
    found = {line.purpose for line in flood.wire}
    purposes = [name for name in _PURPOSES if name in found] + sorted(found - _PURPOSES.keys())
    bars = [
        ("up", "device to host", ceiling.wire_up),
        ("down", "host to device", ceiling.wire_down),
    ]
    with _figure(9.6, 1.9) as (_, axes, out):
        for row, (way, _, expected) in enumerate(bars):
            left = 0.0
            for purpose in purposes:
                size = sum(
                    line.wire_bytes
                    for line in flood.wire
                    if line.direction == way and line.purpose == purpose
                )
                axes.barh(
                    row,
                    size / flood.frames,
                    left=left,
                    height=0.5,
                    color=_PURPOSES.get(purpose, _OTHER),
                    label=purpose if row == 0 else None,
                )
                left += size / flood.frames
            axes.plot([expected, expected], [row - 0.38, row + 0.38], color=_INK, linewidth=1.5)
            axes.text(
                max(left, expected),
                row,
                f"  {left:,.0f}; model {expected:,.0f}",
                va="center",
                fontsize=8,
            )
        axes.set_yticks([0, 1], [label for _, label, _ in bars])
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(1.5, -0.5)
        axes.set_xlim(0, axes.get_xlim()[1] * 1.2)
        axes.set_xlabel("bytes on the wire per frame")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.legend(loc="upper left", bbox_to_anchor=(0, 1.32), ncols=7, frameon=False, fontsize=8)
    return out[0]
