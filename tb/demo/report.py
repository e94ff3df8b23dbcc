"""The result as one HTML file without external resources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from demo import figures
from demo.result import HOST_LATENCY, Journey, Result
from demo.table import TOO_FEW, rate_rows, verdict
from lib.words import counted

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff;
       max-width: 62rem; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.1rem; margin-top: 2.2rem; }
p.lead { color: #555; margin-top: 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .6rem 0; }
td, th { padding: .18rem .9rem .18rem 0; border-bottom: 1px solid #e6e6e6; text-align: left;
         vertical-align: top; font-weight: normal; }
th { color: #666; vertical-align: bottom; } .n { text-align: right; padding-left: .9rem; }
td.n, td.w { white-space: nowrap; } .wide { overflow-x: auto; }
.same { color: #2c6e3f; } .different { color: #b3261e; font-weight: 600; }
figure { margin: .6rem 0; } svg { max-width: 100%; height: auto; }
figcaption { color: #666; font-size: .87rem; }
"""

_FIELDS = {
    "name": ("configuration", ""),
    "device": ("device type", ""),
    "width": ("datapath", " bits"),
    "clock_mhz": ("clock", " MHz"),
    "queue_pairs": ("queue pairs", ""),
    "queue_size_max": ("largest virtqueue", " descriptors"),
    "msix_vectors": ("MSI-X vectors", ""),
    "read_tags": ("reads in flight, at most", ""),
    "read_slot_bytes": ("longest read request", " bytes"),
    "fetch_batch": ("descriptors per fetch, at most", ""),
    "read_ahead": ("descriptors read ahead, per virtqueue", ""),
    "completion_timeout_us": ("completion timeout", " µs"),
    "max_frame": ("longest frame without FCS", " bytes"),
    "mtu": ("MTU", " bytes"),
    "receive_wait_us": ("wait of a frame for a buffer, at most", " µs"),
    "rings": ("ring formats", ""),
    "indirect": ("indirect tables", ""),
    "event_idx": ("event suppression by position", ""),
    "in_order": ("buffers used in order", ""),
    "notification_data": ("notification data", ""),
    "notif_config_data": ("notification data from the device", ""),
    "ring_reset": ("reset of a virtqueue", ""),
    "suspend": ("suspend", ""),
}
"""Fields of a configuration: words for people, and the unit."""

_SAID_ELSEWHERE = {"mac", "lanes", "generation"}


def render(result: Result) -> str:
    """Return the report's HTML."""
    flood, ceiling = result.flood, result.ceiling
    outcome = (
        '<span class="same">matches the golden model bit for bit</span>'
        if result.passed
        else '<span class="different">differs from the golden model</span>'
    )
    name = escape(str(result.config["name"]))
    rate, middle = TOO_FEW, ""
    if steady := flood.steady:
        rate = f"{steady.mpps:.2f} million frames per second out and back in at once, steady"
        each = steady.frame_bytes / steady.frames
        middle = f"{counted(steady.frames, 'frame')} of {each:,.0f} bytes on average"
    body = [
        f"<h1>virtio-rtl demo: {name}</h1>",
        f'<p class="lead">{counted(flood.frames, "frame")} of {escape(result.capture)}, {rate}; '
        f"{outcome}.</p>",
        "<h2>Rate</h2>",
        _figure(
            figures.rate(result),
            f"The ceiling is what {ceiling.link} allows for these frame sizes by the wire model "
            "(models/virtio_model/wire.py), at "
            f"{ceiling.gbps:.2f} Gb/s a way: ACK, flow control and SKP are taken off as in the "
            "worst case. The simulated link has no SKP and sends ACKs as traffic demands, so that "
            f"a share may pass 100%. Steady is the middle half of the arrivals, {middle}, held "
            "against the ceiling for these very frames; how busy the link is counts all that "
            "crosses it, ACK and flow control included, against its raw rate.",
        )
        if steady
        else f"<p>{TOO_FEW}</p>",
        _table(("", "measured", "model"), rate_rows(result), numbers=(1, 2)),
        "<h2>The wire</h2>",
        _figure(
            figures.wire(result),
            "Whole TLPs by purpose, framing and LCRC included; the mark is what the wire model "
            "(models/virtio_model/wire.py) expects.",
        ),
    ]
    for journey in result.journeys:
        body += _journey(journey, result)
    body += [
        "<h2>Held against the golden model</h2>",
        _table(
            ("", "result", "extent"),
            [(check.name, verdict(check), check.detail) for check in result.checks],
            marks=True,
        ),
        "<h2>Run</h2>",
        _table((), _settings(result), whole=(0,)),
    ]
    return page(f"virtio-rtl demo: {name}", body)


def page(title: str, body: Iterable[str]) -> str:
    """Return a whole document of these parts; the title is markup already."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def write(result: Result, path: Path) -> None:
    """Write the report."""
    path.write_text(render(result), encoding="utf-8")


def _journey(journey: Journey, result: Result) -> list[str]:
    rows = [(journey.hops[0].name, "0", "", "")]
    for name, start, end in journey.steps():
        step = end - start
        rows.append((name, f"{end:,.0f}", f"{step:,.0f}", f"{step * result.clock_mhz / 1e3:,.0f}"))
    caption = (
        f"{journey.total_ns:,.0f} ns for a lone packet of {journey.frame_bytes} bytes. Each bar is "
        "the time since the hop before: blue with a request under way on the link or in the "
        f"host, green inside the device ({journey.inside_ns:,.0f} ns)."
    )
    if latency := result.device.get(HOST_LATENCY):
        caption += (
            f" The time in which the host answers a read is random ({latency}): reads of the "
            "event suppression structure take different times in the two directions."
        )
    return [
        f"<h2>A lone packet, {escape(journey.title)}</h2>",
        _figure(figures.timeline(journey), caption),
        _table(("hop", "at, ns", "took, ns", "took, cycles"), rows, numbers=(1, 2, 3)),
    ]


def _settings(result: Result) -> list[tuple[str, str]]:
    rows = [("capture", result.capture), ("seed", str(result.seed))]
    rows.append(("ring size", counted(result.flood.ring_size, "descriptor")))
    rows += list(result.device.items())
    rows += config_rows(result.config, result.ceiling.link)
    rows += list(result.files.items())
    return rows


def config_rows(config: Mapping[str, Any], link: str) -> list[tuple[str, str]]:
    """Return a configuration in words, for the last table."""
    rows = [("link", link)] if {"generation", "lanes"} <= config.keys() else []
    for name, value in config.items():
        # What is nested belongs to another device type.
        if name not in _SAID_ELSEWHERE and not isinstance(value, dict):
            title, unit = _FIELDS.get(name, (name.replace("_", " "), ""))
            rows.append((title, _words(value) + unit))
    return rows


def _words(value: Any) -> str:
    """Return a field's value for people."""
    match value:
        case bool():
            return "offered" if value else "not offered"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,g}"
        case list() | tuple():
            return ", ".join(map(str, value))
    return str(value)


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{caption}</figcaption></figure>"


def _table(
    head: Iterable[str],
    rows: Iterable[tuple[str, ...]],
    *,
    numbers: tuple[int, ...] = (),
    whole: tuple[int, ...] = (),
    marks: bool = False,
) -> str:
    """Return a table; cells of the columns `whole`, and numbers, are never broken."""

    def cell(tag: str, column: int, text: str) -> str:
        style = ' class="n"' if column in numbers else ' class="w"' if column in whole else ""
        if marks and column == 1 and tag == "td":
            style = f' class="{"same" if text == "ok" else "different"}"'
        return f"<{tag}{style}>{escape(text)}</{tag}>"

    lines = ['<div class="wide"><table>']
    if titles := list(head):
        cells = "".join(cell("th", at, text) for at, text in enumerate(titles))
        lines.append(f"<tr>{cells}</tr>")
    for row in rows:
        lines.append(f"<tr>{''.join(cell('td', at, text) for at, text in enumerate(row))}</tr>")
    lines.append("</table></div>")
    return "\n".join(lines)
