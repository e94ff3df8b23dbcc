"""The result as tables on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from demo.result import Check, Journey, Result


def rate_rows(result: Result) -> list[tuple[str, str, str]]:
    """Give (what, measured, ceiling of the design page); the report shows the same."""
    flood, ceiling, clock = result.flood, result.ceiling, result.clock_mhz
    length = flood.frame_bytes / flood.frames
    rows = [
        ("frames, each way", f"{flood.frames:,}", ""),
        ("bytes, each way", f"{flood.frame_bytes:,} ({length:.0f} per frame)", ""),
        ("simulated time", f"{flood.time_ns / 1e3:.2f} µs, {result.cycles:,.0f} cycles", ""),
        (
            "cycles per frame",
            f"{result.cycles / flood.frames:.2f}",
            f"{clock / ceiling.mpps:.2f}",
        ),
        (
            f"frames per second at {clock:g} MHz",
            f"{flood.mpps:.3f} M",
            f"{ceiling.mpps:.3f} M",
        ),
    ]
    if flood.steady_mpps is not None:
        share = flood.steady_mpps / ceiling.mpps
        rows.append(
            (
                "  without ramp-up",
                f"{flood.steady_mpps:.3f} M ({share:.0%})",
                f"{ceiling.mpps:.3f} M",
            )
        )
    rows += [
        ("frame bits per second, each way", f"{flood.mpps * length * 8e-3:.2f} G", ""),
        (
            "bytes on the wire per frame, up",
            f"{flood.wire_per_frame('up'):.1f}",
            f"{ceiling.wire_up:.1f}",
        ),
        (
            "bytes on the wire per frame, down",
            f"{flood.wire_per_frame('down'):.1f}",
            f"{ceiling.wire_down:.1f}",
        ),
        ("doorbells, interrupts", f"{flood.doorbells}, {flood.interrupts}", ""),
    ]
    return rows


def verdict(check: Check) -> str:
    """Return a check's result in one word."""
    return "ok" if check.passed else "FAILED"


def _rates(result: Result) -> Table:
    ceiling = result.ceiling
    table = Table(title=f"{result.config['name']}: {ceiling.link}, {ceiling.gbps:.2f} Gb/s a way")
    table.add_column("")
    table.add_column("measured", justify="right")
    table.add_column("ceiling", justify="right")
    for row in rate_rows(result):
        table.add_row(*row)
    return table


def _journey(journey: Journey, clock_mhz: float) -> Table:
    table = Table(
        title=f"Lone packet, {journey.title}: {journey.total_ns:.0f} ns",
        caption=f"{journey.frame_bytes} bytes without FCS; {journey.inside_ns:.0f} ns inside",
    )
    table.add_column("hop")
    for name in ("at ns", "ns", "cycles"):
        table.add_column(name, justify="right")
    table.add_row(journey.hops[0].name, "0", "", "")
    for name, start, end in journey.steps():
        step = end - start
        table.add_row(name, f"{end:.0f}", f"{step:.0f}", f"{step * clock_mhz / 1e3:.0f}")
    return table


def show(console: Console, result: Result) -> None:
    """Print all tables."""
    console.print(_rates(result))
    for journey in result.journeys:
        console.print(_journey(journey, result.clock_mhz))
    table = Table(title="Held against the golden model")
    for name in ("", "result", "extent"):
        table.add_column(name)
    for check in result.checks:
        color = "green" if check.passed else "red"
        table.add_row(check.name, f"[{color}]{verdict(check)}[/]", escape(check.detail))
    console.print(table)
