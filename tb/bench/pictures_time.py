"""The benchmark's pictures of time: a lone packet's latency, and occupancy, as SVG text."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from statistics import median
from typing import Any

from bench.bottleneck import read_tags
from bench.pictures import DIRECTIONS, GREY, INK, TARGET, legend, panels
from bench.targets import Record, find_target
from virtio_rtl.config import NAMED_CONFIGS

STARTUP_US = 10.0
"""What counts as start-up."""


def latency(record: Record) -> str:
    """Draw two histograms of lone packets: doorbell to interrupt, and what the device adds.

    Empty if the record has no times.
    """
    times, cycles = record.get("latency_ns") or [], record.get("added_cycles") or []
    if not times and not cycles:
        return ""
    color = DIRECTIONS[record["direction"]]
    with panels(2.7, 1, 2) as (_, grid, out):
        whole, added = grid[0]
        whole.set_xlabel("ns from doorbell TLP to interrupt TLP, host reads included")
        whole.set_ylabel("packets")
        if times:
            whole.hist(times, bins=min(30, max(5, ceil(len(times) / 4))), color=color, alpha=0.85)
            _marks(whole, [(median(times), f"median: {median(times):,.0f} ns", INK, "-")])
        added.set_xlabel("cycles added by the device, host reads subtracted")
        if cycles:
            low, high = min(cycles), max(cycles)
            step = ceil((high - low + 1) / 40)
            edges = [low - 0.5 + step * index for index in range((high - low) // step + 2)]
            added.hist(cycles, bins=edges, color=color, alpha=0.85)
            marks: list[tuple[float, str, str, Any]] = [(high, f"most: {high}", INK, "-")]
            if target := find_target(record):
                marks.append((target.value, f"to reach: {target.text}", TARGET, (0, (4, 3))))
            _marks(added, marks)
        for axes in (whole, added):
            axes.xaxis.set_major_formatter("{x:,.0f}")
            axes.yaxis.get_major_locator().set_params(integer=True)
    return out[0]


def _marks(axes: Any, marks: Sequence[tuple[float, str, str, Any]]) -> None:
    """Draw vertical lines, and their words above the panel, where they cover no bar."""
    for value, words, color, style in marks:
        axes.axvline(value, color=color, linewidth=1.5, linestyle=style, zorder=3, label=words)
    axes.margins(x=0.05)
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        borderaxespad=0.1,
        ncols=len(marks),
        frameon=False,
        fontsize=8.5,
    )


def occupancy(records: Sequence[Record]) -> str:
    """Draw reads in flight and descriptors read ahead over time, for each direction.

    records: of one configuration and case. The left column is the start, the right one all.
    Empty if none has samples.
    """
    found = [one for one in records if (one.get("occupancy") or {}).get("ns")]
    if not found:
        return ""
    rows = (
        ("reads", "reads in flight", "tags", read_tags(found[0])),
        ("read_ahead", "descriptors ahead", "read-ahead store of a virtqueue", _store(found[0])),
    )
    with panels(4.6, 2, 2, sharey="row", sharex="col") as (figure, grid, out):
        for (name, words, what, most), pair in zip(rows, grid, strict=True):
            for axes in pair:
                for one in found:
                    line = one["occupancy"]
                    start = line["ns"][0]
                    times = [(time - start) / 1e3 for time in line["ns"]]
                    values = line.get(name) or []
                    color, way = DIRECTIONS[one["direction"]], one["direction"]
                    axes.plot(
                        times[: len(values)], values[: len(times)], color=color, lw=1.2, label=way
                    )
                if most:
                    axes.axhline(most, color=GREY, linewidth=1, linestyle=(0, (4, 3)))
                axes.set_ylim(bottom=0)
            pair[0].set_ylabel(words)
            if most:
                pair[1].text(
                    1,
                    most,
                    f"{what}: {most} ",
                    transform=pair[1].get_yaxis_transform(),
                    ha="right",
                    va="bottom",
                    fontsize=8,
                    color=GREY,
                )
                pair[0].set_ylim(top=max(pair[0].get_ylim()[1], 1.18 * most))
        grid[0, 0].set_title(f"start-up: the first {STARTUP_US:g} µs", fontsize=10)
        grid[0, 1].set_title("the whole run", fontsize=10)
        grid[1, 0].set_xlim(0, STARTUP_US)
        grid[1, 1].set_xlim(left=0)
        for axes in grid[1]:
            axes.set_xlabel("µs since the first sample")
        legend(figure, grid[0, 0])
    return out[0]


def _store(record: Record) -> int | None:
    config = NAMED_CONFIGS.get(record["config"])
    return config.read_ahead if config else None
