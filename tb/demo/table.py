"""The result as tables on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from demo.result import HOST_LATENCY, Journey, Result
from lib.golden import Check

TOO_FEW = "too few frames for a rate"


def rate_rows(result: Result) -> list[tuple[str, str, str]]:
    """Give (what, measured, what the wire model says); the report shows the same."""
    flood, ceiling, clock = result.flood, result.ceiling, result.clock_mhz
    length = flood.frame_bytes / flood.frames
    rows = [
        ("frames, each way", f"{flood.frames:,}", ""),
        ("bytes, each way", f"{flood.frame_bytes:,} ({length:,.0f} a frame)", ""),
        ("simulated time", f"{flood.time_ns / 1e3:,.2f} µs, {result.cycles:,.0f} cycles", ""),
        (
            "cycles per frame",
            f"{result.cycles / flood.frames:,.2f}",
            f"{clock / ceiling.mpps:,.2f}",
        ),
        (
            f"frames per second at {clock:g} MHz",
            f"{flood.mpps:.3f} Mframes/s",
            f"{ceiling.mpps:.3f} Mframes/s",
        ),
    ]
    if steady := flood.steady:
        each = steady.frame_bytes / steady.frames
        rows += [
            (
                "frames in the steady middle",
                f"{steady.frames:,} ({each:,.0f} bytes each)",
                "",
            ),
            (
                "frames per second, steady",
                f"{steady.mpps:.3f} Mframes/s ({steady.mpps / steady.model_mpps:.0%})",
                f"{steady.model_mpps:.3f} Mframes/s",
            ),
            ("link busy, up / down", f"{steady.busy_up:.0%} / {steady.busy_down:.0%}", ""),
        ]
    rows += [
        ("frame bits per second, each way", f"{flood.mpps * length * 8e-3:.2f} Gb/s", ""),
        (
            "wire bytes per frame, up",
            f"{flood.wire_per_frame('up'):,.1f}",
            f"{ceiling.wire_up:,.1f}",
        ),
        (
            "wire bytes per frame, down",
            f"{flood.wire_per_frame('down'):,.1f}",
            f"{ceiling.wire_down:,.1f}",
        ),
        ("doorbells, interrupts", f"{flood.doorbells:,}, {flood.interrupts:,}", ""),
    ]
    return rows


def verdict(check: Check) -> str:
    """Return a check's result in one word."""
    return "ok" if check.passed else "FAILED"


def _rates(result: Result) -> Table:
    ceiling = result.ceiling
    table = Table(title=f"{result.config['name']}: {ceiling.link}, {ceiling.gbps:.2f} Gb/s a way")
    if result.flood.steady is None:
        table.caption = TOO_FEW
    table.add_column("")
    table.add_column("measured", justify="right")
    table.add_column("model", justify="right")
    for row in rate_rows(result):
        table.add_row(*row)
    return table


def _journey(journey: Journey, result: Result) -> Table:
    latency = result.device.get(HOST_LATENCY)
    host = f"\nhost reads, at random: {latency}" if latency else ""
    table = Table(
        title=f"Lone packet, {journey.title}: {journey.total_ns:,.0f} ns",
        caption=f"{journey.frame_bytes} bytes without FCS; {journey.inside_ns:,.0f} ns inside the "
        f"device{host}",
    )
    table.add_column("hop")
    for name in ("at, ns", "took, ns", "took, cycles"):
        table.add_column(name, justify="right")
    table.add_row(journey.hops[0].name, "0", "", "")
    for name, start, end in journey.steps():
        step = end - start
        table.add_row(name, f"{end:,.0f}", f"{step:,.0f}", f"{step * result.clock_mhz / 1e3:,.0f}")
    return table


def show(console: Console, result: Result) -> None:
    """Print all tables."""
    console.print(_rates(result))
    for journey in result.journeys:
        console.print(_journey(journey, result))
    table = Table(title="Held against the golden model")
    for name in ("", "result", "extent"):
        table.add_column(name)
    for check in result.checks:
        color = "green" if check.passed else "red"
        table.add_row(check.name, f"[{color}]{verdict(check)}[/]", escape(check.detail))
    console.print(table)
