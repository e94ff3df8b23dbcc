"""The results of `make guest` as one HTML file without external resources."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from demo.figures import _figure as axes_and_svg
from demo.report import _STYLE, _figure, _table
from guest import table
from guest.results import CaseResult

_COLOURS = {"boot": "#b0b0b0", "verified": "#0072b2", "work": "#009e73"}
"""Okabe and Ito's, which every kind of eye can tell apart."""


def render(results: Sequence[CaseResult], model: str, qemu: str) -> str:
    """Return the page."""
    body = [
        "<h1>Unmodified guests on virtio-rtl</h1>",
        f'<p class="lead">{escape(table.summary(results))}. '
        f"The devices are {'simulated RTL' if model == 'rtl' else 'the golden model'}, "
        f"the guests run in QEMU {escape(qemu)} without KVM.</p>",
        _table(
            table.HEAD,
            [table.row(result) for result in results],
            numbers=table.NUMBERS,
            whole=tuple(range(table.NUMBERS[0])),
        ),
        f"<p>{escape(table.LEGEND)} Simulated time stands still while the guest thinks. Cycles a "
        "second are those of wall clock while there was something to simulate.</p>",
        _figure(picture(results), "Where the seconds of each guest went."),
        *_tlps(results),
        "<h2>Checks</h2>",
    ]
    for result in results:
        body += _checks(result)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>virtio-rtl guests</title>\n<style>{_STYLE} body {{ max-width: 80rem; }} "
        "summary { cursor: pointer; } pre { background: #f6f6f6; padding: .6rem; "
        "overflow-x: auto; }</style>\n</head>\n<body>\n" + "\n".join(body) + "\n</body>\n</html>\n"
    )


def write(results: Sequence[CaseResult], model: str, qemu: str, path: Path) -> None:
    """Write the page."""
    path.write_text(render(results, model, qemu), encoding="utf-8")


def _checks(result: CaseResult) -> list[str]:
    verdict = "same" if result.passed else "different"
    good = sum(check.passed for check in result.checks)
    lines = [
        f"<details{'' if result.passed else ' open'}><summary>{escape(result.case.name)}: "
        f'<span class="{verdict}">{good} of {len(result.checks)}</span></summary>'
    ]
    if result.error:
        lines.append(f'<p class="different">{escape(result.error)}</p>')
    rows = [(check.name, "ok" if check.passed else "FAILED", check.detail)
            for check in result.checks]  # fmt: skip
    lines.append(_table(("check", "", "detail"), rows, marks=True))
    if result.console_tail:
        lines.append(f"<pre>{escape(result.console_tail)}</pre>")
    return [*lines, "</details>"]


def _tlps(results: Sequence[CaseResult]) -> list[str]:
    kinds = sorted({kind for result in results for kind in result.statistics.tlps})
    if not kinds:
        return []
    rows = [
        (result.case.name, *(f"{result.statistics.tlps.get(kind, 0):,}" for kind in kinds))
        for result in results
    ]
    columns = tuple(range(1, len(kinds) + 1))
    return ["<h2>TLPs</h2>", _table(("guest", *kinds), rows, numbers=columns, whole=(0,))]


def picture(results: Sequence[CaseResult]) -> str:
    """Draw the seconds of each guest: until init, until the first verified data, the rest."""
    names = [result.case.name for result in results]
    with axes_and_svg(9.6, 0.7 + 0.24 * len(results)) as (_, axes, out):
        for row, result in enumerate(results):
            boot = result.boot_seconds
            verified = max(result.verified_seconds, boot)
            for part, start, end in (
                ("boot", 0.0, boot),
                ("verified", boot, verified),
                ("work", verified, max(result.seconds, verified)),
            ):
                axes.barh(row, end - start, left=start, height=0.6, color=_COLOURS[part],
                          label=_LABELS[part] if row == 0 else None)  # fmt: skip
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlabel("seconds of wall clock")
        axes.legend(
            frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3
        )  # covers no bar
    return out[0]


_LABELS = {"boot": "boot", "verified": "to the first verified data", "work": "the rest"}
