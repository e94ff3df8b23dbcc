"""The result of requests: tables on the terminal, and one HTML file."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from html import escape
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from rich.markup import escape as plain
from rich.table import Table

from demo.figures import DOWN, INSIDE, UP
from demo.figures import _figure as drawing
from demo.report import _figure as figure
from demo.report import _table as html_table
from demo.report import config_rows, page
from demo.request_result import Phase, RequestResult, Sample
from demo.table import verdict

__all__ = ["picture", "rate_rows", "render", "show", "write"]

_ROWS: tuple[tuple[str, Callable[[Phase, float], str]], ...] = (
    ("requests", lambda phase, clock: f"{phase.requests:,}"),
    ("bytes", lambda phase, clock: f"{phase.data_bytes:,}"),
    ("simulated time", lambda phase, clock: f"{phase.time_ns / 1e3:,.2f} µs"),
    ("cycles", lambda phase, clock: f"{phase.time_ns * clock / 1e3:,.0f}"),
    ("data", lambda phase, clock: f"{phase.gigabytes:.3f} GB/s" if phase.data_bytes else ""),
    ("latency, median", lambda phase, clock: f"{phase.latency(0.5) / 1e3:,.2f} µs"),
    ("latency, 99%", lambda phase, clock: f"{phase.latency(0.99) / 1e3:,.2f} µs"),
    ("TLPs up", lambda phase, clock: f"{phase.tlps_up:,}"),
    ("TLPs down", lambda phase, clock: f"{phase.tlps_down:,}"),
    ("wire bytes up", lambda phase, clock: f"{phase.wire_up:,}"),
    ("wire bytes down", lambda phase, clock: f"{phase.wire_down:,}"),
    ("link busy, up", lambda phase, clock: f"{phase.busy_up:.0%}"),
    ("link busy, down", lambda phase, clock: f"{phase.busy_down:.0%}"),
    ("doorbells", lambda phase, clock: f"{phase.doorbells:,}"),
    ("interrupts", lambda phase, clock: f"{phase.interrupts:,}"),
)
_WINDOWS = 80


def rate_rows(result: RequestResult) -> list[tuple[str, ...]]:
    """Give (what, one for each phase); table and report show the same."""
    clock = result.clock_mhz
    return [(what, *(text(phase, clock) for phase in result.phases)) for what, text in _ROWS]


def _link(result: RequestResult) -> str:
    return f"PCIe Gen{result.config['generation']} x{result.config['lanes']}"


def show(console: Console, result: RequestResult) -> None:
    """Print all tables."""
    table = Table(title=f"{result.config['name']}: {_link(result)}, {result.clock_mhz:g} MHz")
    table.add_column("")
    for phase in result.phases:
        table.add_column(phase.name, justify="right")
    for row in rate_rows(result):
        table.add_row(*row)
    console.print(table)
    table = Table(title=f"Held against {result.words.reference}")
    for name in ("", "result", "extent"):
        table.add_column(name)
    for check in result.checks:
        color = "green" if check.passed else "red"
        table.add_row(check.name, f"[{color}]{verdict(check)}[/]", plain(check.detail))
    console.print(table)
    for note in result.notes:
        console.print(note, highlight=False, soft_wrap=True, markup=False)


def throughput(samples: list[Sample], windows: int = _WINDOWS) -> list[tuple[float, float, float]]:
    """Give (middle of a window in ns, GB/s down, GB/s up) for windows of the same length."""
    if len(samples) < 2:
        return []
    times = [sample.at_ns for sample in samples]
    length = (times[-1] - times[0]) / windows
    ends = [samples[bisect_right(times, times[0] + index * length) - 1] for index in range(windows)]
    rates = []
    for before, after in pairwise([*ends, samples[-1]]):
        if span := after.at_ns - before.at_ns:
            down = (after.down_bytes - before.down_bytes) / span
            up = (after.up_bytes - before.up_bytes) / span
            rates.append(((before.at_ns + after.at_ns) / 2, down, up))
    return rates


def picture(result: RequestResult) -> str:
    """Draw rate, requests in flight and latencies over simulated time."""
    with drawing(9.6, 5.4, rows=3) as (_, (rate, flight, latency), out):
        rates = throughput(result.samples)
        for column, color, name in ((1, DOWN, "host to device"), (2, UP, "device to host")):
            if not any(each[column] for each in rates):
                continue
            rate.plot(
                [each[0] / 1e3 for each in rates],
                [each[column] for each in rates],
                color=color,
                label=name,
            )
        rate.set_ylabel("GB/s of data")
        rate.legend(loc="upper center", ncols=2, frameon=False, fontsize=8)
        rate.set_ylim(0, 1.25 * max((max(each[1:]) for each in rates), default=1))
        flight.step(
            [sample.at_ns / 1e3 for sample in result.samples],
            [sample.in_flight for sample in result.samples],
            where="post",
            color=INSIDE,
        )
        flight.set_ylabel("requests in flight")
        flight.set_ylim(0)
        for phase, color in zip(result.phases, (DOWN, INSIDE, UP), strict=False):
            latency.plot(
                [answer.done_ns / 1e3 for answer in phase.answers],
                [answer.latency_ns / 1e3 for answer in phase.answers],
                ".",
                color=color,
                label=phase.name,
            )
        latency.set_ylabel("latency, µs")
        slowest = max(answer.latency_ns for phase in result.phases for answer in phase.answers)
        latency.set_ylim(0, 1.35 * slowest / 1e3)
        latency.legend(loc="upper center", ncols=3, frameon=False, fontsize=8)
        latency.set_xlabel("µs of simulated time")
        latency.xaxis.set_major_formatter("{x:,.0f}")
        for axes in (rate, flight, latency):
            axes.grid(color="#eeeeee")
            axes.set_axisbelow(True)
    return out[0]


def render(result: RequestResult) -> str:
    """Return the report's HTML."""
    outcome = (
        f'<span class="same">{escape(result.words.outcome)}</span>'
        if result.passed
        else '<span class="different">not as it should be</span>'
    )
    name = escape(str(result.config["name"]))
    rates = ", ".join(
        f"{phase.name}: {phase.gigabytes:.2f} GB/s" for phase in result.phases if phase.data_bytes
    )
    body = [
        f"<h1>virtio-rtl demo: {name}</h1>",
        f'<p class="lead">{escape(result.words.data)}; {rates}; {outcome}.</p>',
        "<h2>Rate</h2>",
        figure(
            picture(result),
            "Data that crosses the link, requests that the device has not answered, and the time "
            "from the driver's ring entry to its look at the answer. "
            + escape(result.words.behind),
        ),
        html_table(
            ("", *(phase.name for phase in result.phases)),
            rate_rows(result),
            numbers=tuple(range(1, len(result.phases) + 1)),
        ),
        f"<h2>Held against {escape(result.words.reference)}</h2>",
        html_table(
            ("", "result", "extent"),
            [(check.name, verdict(check), check.detail) for check in result.checks],
            marks=True,
        ),
        *(f"<p>{escape(note)}</p>" for note in result.notes),
        "<h2>Run</h2>",
        html_table(
            (),
            [
                ("seed", str(result.seed)),
                *result.device.items(),
                *config_rows(result.config, _link(result)),
                *result.files.items(),
            ],
            whole=(0,),
        ),
    ]
    return page(f"virtio-rtl demo: {name}", body)


def write(result: RequestResult, path: Path) -> None:
    """Write the report."""
    path.write_text(render(result), encoding="utf-8")
