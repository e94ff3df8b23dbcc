"""The benchmark's pictures of rates and of bytes on the wire, as SVG text.

Colours are Okabe and Ito's, which every kind of eye can tell apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import log10
from typing import Any

from bench.targets import Record, find_target
from demo.figures import _figure as demo_figure

INK, GREY, LIGHT = "#222222", "#777777", "#e8e8e8"
BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
CEILING, TARGET = "#b0b0b0", PURPLE

DIRECTIONS = {"transmit": BLUE, "receive": ORANGE, "both": GREEN}

KINDS = {
    "payload": GREEN,
    "index": "#332288",
    "entries": "#88ccee",
    "descriptors": BLUE,
    "used": "#e69f00",
    "doorbells": ORANGE,
    "events": "#56b4e9",
    "suppression": PURPLE,
    "interrupts": "#f0e442",
    "other": "#999999",
}
"""What crosses the wire, in the order of the bars."""

KIND_NAMES = {
    "index": "available index (split)",
    "entries": "available ring entries (split)",
    "events": "event suppression (driver's, read)",
    "suppression": "event suppression (device's, written)",
}

_WIDTH = 10.2
_LABELLED = (64, 1500, 9000)
_APART = 0.2


@contextmanager
def panels(
    height: float, rows: int, columns: int, **options: Any
) -> Iterator[tuple[Any, Any, list[str]]]:
    """Give a figure, its axes as an array, and a list that will hold the SVG text."""
    with demo_figure(_WIDTH, height) as (figure, single, out):
        single.remove()
        grid = figure.subplots(rows, columns, squeeze=False, **options)
        for axes in grid.flat:
            axes.grid(color=LIGHT, linewidth=0.8)
            axes.set_axisbelow(True)
        yield figure, grid, out
        # The layout's solver differs in the last digit from run to run: fixed, and rounded.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for axes in grid.flat:
            axes.set_position([round(side, 6) for side in axes.get_position().bounds])


def legend(figure: Any, axes: Any) -> None:
    """Put the legend above all panels, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=4, frameon=False, fontsize=9)


def rates(records: Sequence[Record]) -> str:
    """Draw rate against frame size, and below it the share of the ceiling, for each direction.

    records: floods of one configuration. Empty if there is none.
    """
    found = {
        way: sorted(
            (one for one in records if one["direction"] == way), key=lambda one: one["frame_bytes"]
        )
        for way in DIRECTIONS
    }
    found = {way: lines for way, lines in found.items() if lines}
    if not found:
        return ""
    sizes = sorted({one["frame_bytes"] for lines in found.values() for one in lines})
    with panels(
        5.0, 2, len(found), sharex=True, sharey="row", gridspec_kw={"height_ratios": [3, 2]}
    ) as (figure, grid, out):
        for column, (way, lines) in enumerate(found.items()):
            _rate_column(grid[:, column], way, lines)
        grid[0, 0].set_ylabel("million frames per second")
        grid[1, 0].set_ylabel("% of the ceiling")
        low, high = grid[1, 0].get_ylim()
        grid[1, 0].set_ylim(min(low - 2, 80), max(high, 112))
        for axes in grid[1]:
            axes.set_xlabel("bytes per frame")
            axes.set_xticks(_labelled(sizes), [str(size) for size in _labelled(sizes)])
            axes.set_xlim(min(sizes) / 2.4, max(sizes) * 1.3)
        legend(figure, grid[1, 0])
    return out[0]


def _rate_column(pair: Any, way: str, lines: Sequence[Record]) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    upper, lower = pair
    upper.set_xscale("log")
    upper.set_yscale("log")
    upper.xaxis.set_minor_locator(NullLocator())
    upper.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    upper.yaxis.set_minor_locator(NullLocator())
    upper.set_title("both at once, each way" if way == "both" else way, fontsize=10)
    upper.yaxis.set_major_formatter("{x:g}")
    sizes = [one["frame_bytes"] for one in lines]
    ceilings = [one["ceiling_mpps"] for one in lines]
    upper.plot(sizes, ceilings, color=CEILING, linewidth=5, solid_capstyle="round")
    lower.axhline(100, color=CEILING, linewidth=5, label="ceiling by the wire model", zorder=1.5)
    ideal = [(one["frame_bytes"], one["ideal_mpps"]) for one in lines if one.get("ideal_mpps")]
    style = {"color": INK, "linewidth": 1, "linestyle": (0, (4, 3)), "marker": "_", "zorder": 3}
    if ideal:
        upper.plot(*zip(*ideal, strict=True), **style)
        share = [
            100 * one["ideal_mpps"] / one["ceiling_mpps"] for one in lines if one.get("ideal_mpps")
        ]
        lower.plot([size for size, _ in ideal], share, label="ideal endpoint", **style)
    style = {"color": DIRECTIONS[way], "linewidth": 1.6, "marker": "o", "markersize": 4.5}
    upper.plot(sizes, [one["mpps"] for one in lines], zorder=4, **style)
    lower.plot(sizes, [100 * one["ratio"] for one in lines], zorder=4, **style)
    # One entry for the legend, whatever the direction's colour.
    lower.plot([], [], color=INK, linewidth=1.6, marker="o", markersize=4.5, label="measured")
    for one in lines:
        target = find_target(one)
        if target and target.quantity != "cycles":
            rate = target.quantity == "rate"
            level = target.value / (one["ceiling_mpps"] if rate else 1)
            lower.plot(
                one["frame_bytes"],
                100 * level,
                linestyle="none",
                marker="^",
                markersize=6,
                color=TARGET,
                zorder=5,
            )
    lower.plot([], [], linestyle="none", marker="^", color=TARGET, label="to reach")
    first = lines[0]
    upper.annotate(
        f"{first['mpps']:.1f}",
        (sizes[0], first["mpps"]),
        xytext=(-6, 0),
        textcoords="offset points",
        ha="right",
        va="center",
        fontsize=8.5,
        color=DIRECTIONS[way],
    )


def _labelled(sizes: Sequence[int]) -> list[int]:
    """Choose sizes whose labels do not run into each other on a logarithmic axis."""
    chosen: list[int] = []
    for size in [*(size for size in _LABELLED if size in sizes), *sizes]:
        if all(abs(log10(size / other)) > _APART for other in chosen):
            chosen.append(size)
    return sorted(chosen)


def wire(records: Sequence[Record], names: Sequence[str]) -> str:
    """Draw bytes on the wire per frame by kind, upwards and downwards, and the model's sums.

    records: with `split_up` or `split_down`; those with frames of one size share a panel.
    names: what to write beside each. Empty if there is none.
    """
    groups: dict[Any, list[tuple[Record, str]]] = {}
    for record, name in zip(records, names, strict=True):
        if record.get("split_up") or record.get("split_down"):
            groups.setdefault(record["frame_bytes"], []).append((record, name))
    if not groups:
        return ""
    lengths = [len(group) for group in groups.values()]
    height = 0.5 * sum(lengths) + 0.85 * len(lengths) + 0.5
    with panels(height, len(groups), 1, gridspec_kw={"height_ratios": lengths}) as (
        figure,
        grid,
        out,
    ):
        for axes, (size, group) in zip(grid[:, 0], groups.items(), strict=True):
            _wire_panel(axes, group)
            axes.set_title(
                f"{size:,} bytes" if isinstance(size, int) else "random sizes",
                fontsize=10,
                loc="left",
            )
        grid[-1, 0].set_xlabel("bytes on the wire per frame or request, whole TLPs")
        for kind in kinds([one for group in groups.values() for one, _ in group]):
            grid[0, 0].bar(0, 0, color=KINDS[kind], label=KIND_NAMES.get(kind, kind))
        grid[0, 0].plot([], [], color=INK, linewidth=1.5, label="sum by the wire model")
        legend(figure, grid[0, 0])
    return out[0]


def by_kind(split: dict[str, float]) -> dict[str, float]:
    """Return bytes for every kind of `KINDS`; kinds that are not there count as "other"."""
    sizes = {kind: split.get(kind, 0.0) for kind in KINDS}
    sizes["other"] += sum(size for kind, size in split.items() if kind not in KINDS)
    return sizes


def kinds(records: Sequence[Record]) -> list[str]:
    """Return the kinds that occur, in the order of `KINDS`."""
    splits = [
        by_kind(record.get(name) or {}) for record in records for name in ("split_up", "split_down")
    ]
    return [kind for kind in KINDS if any(split[kind] for split in splits)]


def _wire_panel(axes: Any, group: Sequence[tuple[Record, str]]) -> None:
    ticks, labels = [], []
    for number, (record, name) in enumerate(group):
        for place, way in enumerate(("up", "down")):
            row = 2.5 * number + place
            left = 0.0
            for kind, size in by_kind(record.get(f"split_{way}") or {}).items():
                axes.barh(row, size, left=left, height=0.8, color=KINDS[kind])
                left += size
            model = record[f"ceiling_wire_{way}"]
            axes.plot([model, model], [row - 0.5, row + 0.5], color=INK, linewidth=1.5)
            text = f"  {left:,.1f}; model {model:,.1f}" if left < 1000 else None
            axes.text(
                max(left, model),
                row,
                text or f"  {left:,.0f}; model {model:,.0f}",
                va="center",
                fontsize=8,
            )
            ticks.append(row)
            labels.append(f"{name}, {way}")
    axes.set_yticks(ticks, labels)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(2.5 * len(group) - 0.7, -0.8)
    axes.set_xlim(0, axes.get_xlim()[1] * 1.15)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.grid(visible=False, axis="y")
