"""The conformance page: every requirement row with its tests or its reason, in one HTML file."""

from __future__ import annotations

from html import escape

from lib.conformance_rows import COLUMNS, LATER, STATES, Conformance, Judged, Section
from lib.plans import Entry

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 75em; color: #222;
       padding: 0 1em }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .35em .6em; border-bottom: 1px solid #ddd }
.counts { width: auto } .counts td + td, .counts th + th { text-align: right }
.id, code { font: 13px/1.4 ui-monospace, monospace } .id { white-space: nowrap }
code { overflow-wrap: anywhere }
.note, .when { color: #666; font-size: 13px } ul { margin: .2em 0; padding-left: 1.2em }
.met .state { color: #17692d } .missing .state { color: #b00020; font-weight: bold }
.not-applicable .state { color: #666 } .free { color: #777 }
.filter { position: sticky; top: 0; background: #fff; padding: .5em 0 }
@media (prefers-color-scheme: dark) { body, .filter { background: #161616; color: #ddd }
  th, td { border-color: #333 } .met .state { color: #6c6 } .missing .state { color: #f66 }
  a { color: #8ab4f8 } .note, .when, .free, .not-applicable .state { color: #999 } }
"""

_SCRIPT = """
const text = document.getElementById("text"), state = document.getElementById("state");
function filter() {
  for (const row of document.querySelectorAll("tr[data-state]")) {
    const fits = (!state.value || row.dataset.state === state.value)
      && row.textContent.toLowerCase().includes(text.value.toLowerCase());
    row.style.display = fits ? "" : "none";
  }
}
text.oninput = state.onchange = filter;
"""

_INTRO = """
<p>Rows restate the normative statements of the virtio specification 1.4 in our own words. A row
counts if its level is MUST, MUST NOT, SHOULD, SHOULD NOT or FACT (said outside of the conformance
clauses); a row of the driver only if hardware can show it: the driver model, the golden device or
the ring monitor assert it, and the test shows the assertion fire. Other rows are listed as
&ldquo;free&rdquo;. The tests run with <code>make test</code>.</p>
"""


def page(result: Conformance) -> str:
    """Return the page."""
    options = "".join(f"<option>{state}</option>" for state in (*STATES, LATER, "free"))
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width'>",
        f"<title>virtio-rtl: conformance</title><style>{_STYLE}</style>",
        "<h1>Conformance, row by row</h1>",
        _INTRO,
        _counts(result),
        "<div class='filter'><label>Show <select id='state'><option value=''>all states</option>",
        f"{options}</select></label> <label>with <input id='text' type='search'></label></div>",
        *(_section(result, section) for section in result.sections),
        f"<script>{_SCRIPT}</script></html>",
    ]
    return "\n".join(parts) + "\n"


def _counts(result: Conformance) -> str:
    """Return the table of counts."""
    heads = "".join(f"<th>{side}: {state}</th>" for side, state in COLUMNS)
    lines = [
        (f"<a href='#{_anchor(item)}'>{escape(item.name)}</a>", result.count(item))
        for item in result.sections
        if item.scope
    ]
    body = "".join(
        f"<tr><td>{name}</td>"
        + "".join(f"<td>{count[column]}</td>" for column in COLUMNS)
        + "</tr>"
        for name, count in [*lines, ("all", result.total())]
    )
    return f"<table class='counts'><tr><th>section</th>{heads}</tr>{body}</table>"


def _anchor(section: Section) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in section.name.lower())


def _section(result: Conformance, section: Section) -> str:
    """Return a section with all of its rows."""
    rows = "".join(_row(row) for row in result.rows if row.section == section)
    outside = "" if section.scope else " (outside of this version)"
    return (
        f"<h2 id='{_anchor(section)}'>{escape(section.name)}{outside}</h2>"
        f"<table><tr><th>row</th><th>requirement</th><th>state</th></tr>{rows}</table>"
    )


def _row(judged: Judged) -> str:
    """Return one row."""
    row = judged.row
    bound = judged.binding or judged.state != "missing"
    state = judged.state if bound else "free"
    kind = state.partition(" (")[0].replace(" ", "-")
    when = (
        ""
        if row["applies_if"] == "always"
        else f"<div class='when'>{_text(row, 'applies_if')}</div>"
    )
    note = f"<div class='note'>{_text(row, 'note')}</div>" if row["note"] else ""
    return (
        f"<tr class='{kind}' data-state='{state}' id='{row['id']}'><td class='id'>{row['id']}<br>"
        f"{row['side']} {row['level']}</td><td>{_text(row, 'requirement')}{when}{note}</td>"
        f"<td><span class='state'>{state}</span>{''.join(map(_entry, judged.entries))}</td></tr>"
    )


def _text(row: dict[str, str], column: str) -> str:
    return escape(row[column])


def _entry(entry: Entry) -> str:
    """Return a behaviour with its tests, or a reason."""
    tests = "".join(f"<li><code>{escape(test)}</code></li>" for test in entry.tests)
    title = f"<b>{escape(entry.name)}</b>: " if entry.kind == "behaviour" else ""
    return f"<div>{title}{escape(entry.text)}{f'<ul>{tests}</ul>' if tests else ''}</div>"
