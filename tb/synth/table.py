"""The figures as tables on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from synth.growth import Growth
from synth.run import Figures

LIMIT = 10
"""LUT levels that the largest configuration may have between registers."""

_NOTES = (
    "LUT: used as logic, one cell a LUT. LUTRAM: LUTs used as memory. Levels: the longest path "
    "from register to register; a LUT, a carry chain and a read of distributed memory are one "
    "each, MUXF7 to MUXF9 and inverters nothing; paths at the ports of the top are in the results."
)


def overview(figures: list[Figures]) -> Table:
    """Return one line for each configuration."""
    table = Table(title="Synthesis, synth_xilinx -family xcup", caption=_NOTES)
    table.add_column("configuration", no_wrap=True)
    for name in ("queues", "LUT", "LUTRAM", "FF", "BRAM36", "URAM", "levels"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in figures:
        table.add_row(
            line.config,
            str(line.queues),
            f"{line.lut:,}",
            f"{line.lutram:,}",
            f"{line.ff:,}",
            f"{line.bram36:g}",
            str(line.uram),
            str(line.levels),
        )
    return table


def room_table(figures: Figures, lines: int = 25) -> Table:
    """Return the worst path of each room, worst first."""
    table = Table(title=f"{figures.config}: levels of the paths that end in each room")
    table.add_column("room", no_wrap=True)
    for name in ("levels", "ends", "LUT, about", "FF"):
        table.add_column(name, justify="right", no_wrap=True)
    for room, (levels, count) in list(figures.room_levels.items())[:lines]:
        luts, flops = figures.room_usage.get(room, (0, 0))
        table.add_row(room, str(levels), f"{count:,}", f"{luts:,}", f"{flops:,}")
    return table


def growth_table(growth: Growth) -> Table:
    """Return what grows with the number of queues, and where."""
    table = Table(
        title=f"{growth.config}: from {growth.queues[0]} to {growth.queues[1]} queues",
        caption="Rooms and memories that grow; LUTs of a room are near the truth, not exact.",
    )
    table.add_column("", no_wrap=True)
    for name in ("before", "after", "growth"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, before, after in growth.totals:
        share = f"{after / before - 1:+.1%}" if before else ""
        table.add_row(name, f"{before:,g}", f"{after:,g}", share)
    table.add_section()
    for name, before, after in growth.rooms:
        table.add_row(name, f"{before:,g}", f"{after:,g}", f"{after - before:+,g}")
    table.add_section()
    for name, old, new in growth.memories:
        table.add_row(name, old, new, "")
    return table


def show(console: Console, figures: list[Figures], growths: list[Growth]) -> None:
    """Print all tables."""
    console.print(overview(figures))
    for line in figures:
        if line.levels > LIMIT or len(figures) == 1:
            console.print(room_table(line))
            console.print(line.worst_path[0], highlight=False, markup=False)
    for growth in growths:
        console.print(growth_table(growth))
