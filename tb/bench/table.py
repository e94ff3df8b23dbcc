"""The results as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from bench.targets import judge

__all__ = ["rate", "tables"]

Record = dict[str, Any]

_CAPTION = (
    "Mpps each way; bytes on the wire per frame, in brackets what the wire model expects. The "
    "ceiling is the wire model's and allows for ACK, flow control and SKP in the worst case; this "
    "link has no SKP, and ACKs only as traffic demands, so a share may pass 100%. Ideal: share of "
    "what an endpoint that sends the least TLPs reaches on this link. Cycles: of the device's "
    "clock, per frame; for lone packets, added between doorbell and interrupt TLP. Of a block "
    "device, requests are what frames are elsewhere."
)
_COLUMNS = ("Mpps", "ceiling", "share", "ideal", "cycles", "bytes up", "bytes down")


def tables(records: Sequence[Record]) -> list[Table]:
    """Return a table for each configuration and ring format."""
    made = []
    for _, group in groupby(records, key=lambda record: (record["config"], record["ring"])):
        made.append(_table(list(group), records))
    if made:
        made[-1].caption = _CAPTION
    return made


def _table(mine: Sequence[Record], records: Sequence[Record]) -> Table:
    first = mine[0]
    if in_flight := first.get("in_flight"):
        load = f"{in_flight} requests in flight"
    else:
        pairs = first["queue_pairs"]
        load = f"{pairs} queue pair{'s' * (pairs > 1)}"
    made = Table(
        box=SIMPLE_HEAD,
        title=f"{first['config']}, {first['ring']} ring, {load}, "
        f"host reads {first['host_read_ns']:.0f} ns, link {first['link_gbps']:.1f} Gb/s, "
        f"seed {first['seed']}",
    )
    for name in ("case", "direction"):
        made.add_column(name, no_wrap=True)
    for name in ("frame", *_COLUMNS):
        made.add_column(name, justify="right", no_wrap=True)
    for name in ("target", "met"):
        made.add_column(name, no_wrap=True)
    for record in mine:
        made.add_row(*_row(record, records))
    return made


def _row(record: Record, records: Sequence[Record]) -> list[str]:
    size = record["frame_bytes"]
    verdict = judge(record, records)
    return [
        record["case"],
        record["direction"],
        size if isinstance(size, str) else f"{size:,}",
        *_figures(record),
        verdict.target.text if verdict else "",
        verdict.word if verdict else "",
    ]


def rate(millions: float) -> str:
    """Return millions a second as text: a large request takes long."""
    return f"{millions:.2f}" if millions >= 1 else f"{millions:.4f}"


def _figures(record: Record) -> list[str]:
    if record["mpps"] is None:
        cycles = record["added_cycles"]
        return ["", "", "", "", f"{min(cycles)} to {max(cycles)}", "", ""]
    ideal = record["ratio_of_ideal"]
    return [
        rate(record["mpps"]),
        rate(record["ceiling_mpps"]),
        f"{record['ratio']:.0%}",
        "" if ideal is None else f"{ideal:.0%}",
        f"{record['cycles_per_frame']:.2f}",
        f"{record['wire_up']:.0f} ({record['ceiling_wire_up']:.0f})",
        f"{record['wire_down']:.0f} ({record['ceiling_wire_down']:.0f})",
    ]
