"""The benchmark's results as one HTML file without external resources."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from bench import pictures, pictures_time
from bench.bottleneck import bottleneck, hop_times
from bench.report_synthesis import Synthesis, absent, load_synthesis, synthesis_part
from bench.table import rate
from bench.targets import (
    Record,
    above_ideal,
    judge,
    key,
    title,
    verdicts,
)
from demo.report import _STYLE as DEMO_STYLE
from demo.report import _figure as figure
from demo.report import _table as table
from lib.paths import BUILD
from lib.words import counted

SYNTHESIS = BUILD / "synth" / "results.json"
"""What `make synth` leaves."""

_STYLE = (
    DEMO_STYLE
    + """body { max-width: 76rem; } svg { width: 100%; }
h3 { font-size: 1rem; margin: 1.2rem 0 .2rem; } .missing { color: #777; } code { font-size: .87em; }
table { font-size: .9rem; } details { margin: .4rem 0; } summary { color: #555; cursor: pointer; }
"""
)

_CEILING = (
    "M/s: million frames a second each way, or million requests. "
    "The ceiling is what the wire model (models/virtio_model/wire.py) allows, with ACK, flow "
    "control and SKP as in the worst case. The simulated link has no SKP and sends ACKs as traffic "
    "demands, so that a full link passes 100%. The ideal endpoint sends the least TLPs that a case "
    "needs, through the same link, root complex and memory: no result may be above it."
)
_WIRE = (
    "Up is from the device to the host, down from the host to the device. A completion counts to "
    "what was read, framing and LCRC included. For both ways at once, bytes are per pair of frames."
)
_OCCUPANCY = (
    "Reads in flight as the host sees them; descriptors ahead are those that the host has handed "
    "out and whose used descriptors have not been written: waiting in the read-ahead store, or "
    "being worked on."
)
_LONE = (
    "From the beat in which the doorbell TLP is taken to the beat in which the interrupt TLP "
    "leaves, at the device's TLP ports. The reads that a buffer cannot do without (descriptor, "
    "payload, driver's event suppression) are subtracted, each from request to last completion."
)


def write_report(
    records: Sequence[Record], path: Path | str, synthesis: Path | str = SYNTHESIS
) -> None:
    """Write the page.

    records: as in results.json; what an optional field would show is left out without it.
    synthesis: results of `make synth`, which need not be there.
    """
    Path(path).write_text(render(records, load_synthesis(Path(synthesis))), encoding="utf-8")


def render(records: Sequence[Record], synthesis: Synthesis | None = None) -> str:
    """Return the page's HTML."""
    records = sorted(records, key=_order)
    body = [
        "<h1>virtio-rtl benchmark</h1>",
        f'<p class="lead">{escape(_summary(records))}</p>',
        *_results(records),
        *_rates(records),
        *_wire(records),
        *_lone(records),
        *_occupancy(records),
        *synthesis_part(synthesis or {}),
        "<h2>Run</h2>",
        table((), _settings(records)),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>virtio-rtl benchmark</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _summary(records: Sequence[Record]) -> str:
    found = verdicts(records)
    met = sum(verdict.met is True for verdict in found)
    missed = sum(verdict.met is False for verdict in found)
    return (
        f"{counted(len(records), 'measurement')}; of {counted(len(found), 'target')} {met} met, "
        f"{missed} missed, {len(found) - met - missed} not measured"
    )


def _order(record: Record) -> tuple[Any, ...]:
    """By configuration (net-x8 before net-x16), ring, case, frame size, direction."""
    config, case, direction, size, ring = key(record)
    cases = ("flood", "pieces64", "pairs128", "framing", "lone", "chain", "indirect")
    return (
        [int(part) if part.isdigit() else 0 for part in re.split(r"(\d+)", config)],
        config,
        ring,
        cases.index(case) if case in cases else len(cases),
        case,
        size if isinstance(size, int) else 0,
        ["transmit", "receive", "both", "read", "write"].index(direction),
    )


def _results(records: Sequence[Record]) -> list[str]:
    found = verdicts(records)
    measured = [verdict for verdict in found if verdict.record is not None]
    missing = [verdict.target.title for verdict in found if verdict.met is None]
    rows = [
        (
            verdict.target.title,
            verdict.word,
            verdict.target.text,
            verdict.text,
            *_rate_cells(verdict.record or {}),
            bottleneck(verdict.record or {}),
        )
        for verdict in measured
    ]
    out = ["<h2>Targets</h2>"]
    if rows:
        head = ("", "met", "to reach", "measured", *_RATE_HEAD, "limited by")
        out.append(table(head, rows, numbers=(3, 4, 5, 6, 7, 8), whole=(2,), marks=True))
    if missing:
        out.append(f'<p class="missing">Not measured: {escape("; ".join(missing))}.</p>')
    for record in filter(above_ideal, records):
        share = record["ratio_of_ideal"]
        out.append(
            f'<p class="different">Above the ideal endpoint, which cannot be right: '
            f"{escape(title(record))}, {share:.2%}.</p>"
        )
    others = [one for one in records if one.get("mpps") and judge(one, records) is None]
    if others:
        rest = [(title(one), *_rate_cells(one), bottleneck(one)) for one in others]
        out.append(f"<details><summary>{counted(len(rest), 'other measurement')}</summary>")
        out.append(table(("", *_RATE_HEAD, "limited by"), rest, numbers=(1, 2, 3, 4, 5)))
        out.append("</details>")
    return [*out, f'<p class="missing">{_CEILING}</p>']


_RATE_HEAD = ("M/s", "ceiling", "ideal", "of ceiling", "of ideal")


def _rate_cells(record: Record) -> tuple[str, ...]:
    """Return rate, ceiling and ideal in millions a second, and the shares; empty if missing."""
    forms: dict[str, Callable[[Any], str]] = {
        "mpps": rate,
        "ceiling_mpps": rate,
        "ideal_mpps": rate,
        "ratio": "{:.1%}".format,
        "ratio_of_ideal": "{:.1%}".format,
    }
    values = {name: record.get(name) for name in forms}
    return tuple("" if values[name] is None else form(values[name]) for name, form in forms.items())


def _groups(records: Iterable[Record]) -> list[tuple[str, str]]:
    """Return configuration and ring format of each group of records."""
    return list(dict.fromkeys((record["config"], record["ring"]) for record in records))


def _rates(records: Sequence[Record]) -> list[str]:
    floods = [one for one in records if key(one)[1] == "flood" and one.get("mpps")]
    out = ["<h2>Rate against frame size</h2>"]
    for config, ring in _groups(floods):
        mine = [one for one in floods if (one["config"], one["ring"]) == (config, ring)]
        out.append(f"<h3>{escape(config)}, {escape(ring)} ring</h3>")
        out.append(figure(pictures.rates(mine), "Rings kept full, one descriptor a frame."))
    return out if floods else [*out, absent("no flood was measured")]


def _wire(records: Sequence[Record]) -> list[str]:
    split = [one for one in records if one.get("split_up") or one.get("split_down")]
    # The sweep repeats itself: the sizes with a target show what there is to see.
    shown = [one for one in split if judge(one, records) or one["frame_bytes"] in (64, 1500)]
    out = ["<h2>Bytes on the wire</h2>"]
    if not split:
        return [*out, absent("no record has `split_up` or `split_down`")]
    out.append(f'<p class="missing">{_WIRE}</p>')
    for config, ring in _groups(shown or split):
        mine = [one for one in shown or split if (one["config"], one["ring"]) == (config, ring)]
        out.append(f"<h3>{escape(config)}, {escape(ring)} ring</h3>")
        out.append(figure(pictures.wire(mine, [_short(one) for one in mine]), ""))
        out.append("<details><summary>as a table</summary>")
        found = pictures.kinds(mine)
        head = ("bytes on the wire per frame or request", "", *found, "sum", "model")
        columns = tuple(range(2, len(head)))
        out.append(table(head, _wire_rows(mine, found), numbers=columns) + "</details>")
    return out


def _wire_rows(records: Sequence[Record], found: Sequence[str]) -> list[tuple[str, ...]]:
    rows = []
    for one in records:
        for way in ("up", "down"):
            sizes = pictures.by_kind(one.get(f"split_{way}") or {})
            rows.append(
                (
                    title(one) if way == "up" else "",
                    way,
                    *(f"{sizes[kind]:,.2f}" for kind in found),
                    f"{sum(sizes.values()):,.2f}",
                    f"{one[f'ceiling_wire_{way}']:,.2f}",
                )
            )
    return rows


def _short(record: Record) -> str:
    """Return a case's name where configuration and frame size stand nearby."""
    case, direction = key(record)[1:3]
    special = {"flood": "", "chain": "", "pieces64": ", 64-byte pieces", "pairs128": ", many pairs"}
    return direction + special.get(case, f", {case}")


def _lone(records: Sequence[Record]) -> list[str]:
    lone = [one for one in records if key(one)[1] == "lone"]
    out = ["<h2>One buffer at a time</h2>"]
    if not lone:
        return [*out, absent("no record of the case `lone`")]
    out.append(f'<p class="missing">{_LONE}</p>')
    for record in lone:
        out.append(f"<h3>{escape(title(record))}</h3>")
        svg = pictures_time.latency(record)
        packets = counted(len(record.get("added_cycles") or []), "packet")
        out.append(figure(svg, f"{packets}.") if svg else absent("no times"))
        if hops := [
            (hop.name, *(f"{cycles:,.0f}" for cycles in hop[1:])) for hop in hop_times(record)
        ]:
            head = ("hop", "cycles in the device", "of host reads", "at cycle")
            out.append(table(head, hops, numbers=(1, 2, 3)))
        else:
            out.append(absent("no hops"))
    return out


def _occupancy(records: Sequence[Record]) -> list[str]:
    sampled = [one for one in records if (one.get("occupancy") or {}).get("ns")]
    out = ["<h2>Tags and read-ahead over time</h2>"]
    groups: dict[tuple[Any, ...], list[Record]] = {}
    # The smallest frames need the most of everything.
    sizes = [size for size in (key(one)[3] for one in sampled) if isinstance(size, int)]
    for one in sampled:
        config, case, _, size, ring = key(one)
        if case in ("flood", "pairs128") and size == min(sizes):
            groups.setdefault((config, case, size, ring), []).append(one)
    if groups:
        out.append(f'<p class="missing">{_OCCUPANCY}</p>')
    for mine in groups.values():
        config, _, _, size, ring = key(mine[0])
        pairs = counted(mine[0].get("queue_pairs") or 1, "queue pair")
        out.append(f"<h3>{escape(config)}, {escape(ring)} ring, {size:,} bytes, {pairs}</h3>")
        out.append(figure(pictures_time.occupancy(mine), ""))
    return out if groups else [*out, absent("no flood has `occupancy`")]


def _settings(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Return what the measurements were made with, each value once."""
    names = {
        "ring": "ring format",
        "ring_size": "descriptors in a ring",
        "batch": "frames or requests a doorbell, at most",
        "host_read_ns": "host reads on average, ns",
        "seed": "seed",
        "link_gbps": "raw rate of the link, Gb/s",
    }
    rows = []
    for name, words in names.items():
        found = [one[name] for one in records if one.get(name) is not None]
        values = dict.fromkeys(f"{one:g}" if isinstance(one, float) else str(one) for one in found)
        if values:
            rows.append((words, ", ".join(values)))
    return rows
