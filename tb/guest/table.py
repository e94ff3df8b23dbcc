"""The table at the end of `make guest`, for the terminal and for the report."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from guest.results import CaseResult

HEAD = (
    "device", "ring", "events", "kernel", "also", "checks", "verified s",
    "sim. us", "kcycles/s", "requests", "irqs", "TLPs", "took s",
)  # fmt: skip
NUMBERS = tuple(range(5, len(HEAD)))

SHORT = {"NOTIFICATION_DATA": "data", "IN_ORDER": "order", "RING_RESET": "reset"}
"""Features besides ring format and event index, in the column `also`."""
LEGEND = (
    "events: how each side says when it wants to hear from the other; "
    "also: NOTIFICATION_DATA (data), IN_ORDER (order), RING_RESET (reset) where the kernel took "
    "them; a processor for each of two virtqueues (2cpu); "
    "a named configuration of the RTL; "
    "verified: seconds from QEMU's start to the first data seen to be right; "
    "sim. us: simulated time; took: seconds in all, with the build of the model for the first that "
    "needs it."
)
WIDTH = 140
"""Columns that the table takes, where the output is no terminal."""


def row(result: CaseResult) -> tuple[str, ...]:
    """Return a case's cells."""
    case, counts = result.case, result.statistics
    good = sum(check.passed for check in result.checks)
    interrupts = "index" if case.event_idx else "flags"
    return (
        case.device,
        case.ring if case.kind != "firmware" else "split",
        interrupts if case.kind == "linux" else "polled",
        kernel(result),
        " ".join(also(result)),
        f"{good}/{len(result.checks)}" + ("" if not result.error else " *"),
        f"{result.verified_seconds:.1f}" if result.verified_seconds else "",
        f"{counts.simulated_ns / 1000:,.0f}" if counts.simulated_ns else "",
        f"{counts.cycles_per_second / 1000:,.1f}" if counts.cycles else "",
        f"{counts.requests:,}",
        f"{counts.interrupts:,}",
        f"{sum(counts.tlps.values()):,}" if counts.tlps else "",
        f"{result.seconds:.1f}",
    )


def also(result: CaseResult) -> list[str]:
    """Return what is special about a case, in short words."""
    words = [SHORT[name] for name in result.features if name in SHORT]
    if result.case.processors > 1:
        words.append(f"{result.case.processors}cpu")
    return words + ([result.case.config] if result.case.config else [])


def kernel(result: CaseResult) -> str:
    """Return the release of the kernel, or what drove the device instead."""
    if result.case.kind != "linux":
        return {"firmware": "SeaBIOS", "dpdk": "DPDK"}[result.case.kind]
    return result.release.split("+")[0].removesuffix("-cloud-amd64") or result.case.kernel


def summary(results: Sequence[CaseResult]) -> str:
    """Return the whole in one line."""
    passed = sum(result.passed for result in results)
    checks = sum(len(result.checks) for result in results)
    return f"{passed} of {len(results)} guests passed, {checks:,} checks"


def show(console: Console, results: Sequence[CaseResult]) -> None:
    """Print the table."""
    lines = Table(title=summary(results), title_justify="left")
    for number, name in enumerate(HEAD):
        lines.add_column(name, justify="right" if number in NUMBERS else "left")
    for result in results:
        lines.add_row(*row(result), style=None if result.passed else "red")
    console.print(lines)
    console.print(LEGEND, highlight=False, soft_wrap=True)
