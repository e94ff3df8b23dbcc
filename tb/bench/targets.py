"""What the benchmark must reach, as data, and how a record is held against it.

The terminal's table, the report and docs/performance.md take the targets from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

Record = dict[str, Any]
"""One measurement, as it stands in results.json."""

Quantity = Literal["share of the ceiling", "rate", "share of one pair", "cycles"]

LEVELS_MAX = 10
"""LUT levels between registers of `LEVELS_CONFIG`, a carry chain counted as one."""
LEVELS_CONFIG = "net-x16"

GROWTH_MAX = 0.25
"""Growth of LUT as logic and of FF from 2 to 256 virtqueues."""

RANDOM = "60-9000"
"""`frame_bytes` of a record whose frames have random lengths."""

_UNITS = {
    "share of the ceiling": "{:.1%}",
    "rate": "{:.1f} Mpps",
    "share of one pair": "{:.1%}",
    "cycles": "{:.0f} cycles",
}
_RULES = {
    "share of the ceiling": "{:.0%} of the ceiling",
    "rate": "{:.0f} Mpps",
    "share of one pair": "{:.0%} of one pair's rate",
    "cycles": "at most {:.0f} cycles",
}


@dataclass(frozen=True)
class Target:
    """What one measurement must reach.

    config, case, direction, frame_bytes: of the record; together they are its key.
    quantity: what is compared.
    value: share, million frames per second, or cycles; a least value but for cycles.
    one_pair: for "share of one pair", the configuration whose flood is the measure.
    ring: the virtqueues' format; every target holds for both.
    """

    config: str
    case: str
    direction: str
    frame_bytes: int | str
    quantity: Quantity
    value: float
    one_pair: str = ""
    ring: str = "packed"

    @property
    def text(self) -> str:
        """The target in words."""
        return _RULES[self.quantity].format(self.value)

    @property
    def title(self) -> str:
        """The measurement in words."""
        return title(vars(self))


def _targets() -> Iterable[Target]:
    of_ceiling: Quantity = "share of the ceiling"
    each_way = ("transmit", "receive")
    for way in each_way:
        yield Target("net-x8", "flood", way, 64, of_ceiling, 0.90)
    yield Target("net-x8", "flood", "both", 64, of_ceiling, 0.85)
    for way in (*each_way, "both"):
        yield Target("net-x8", "pieces64", way, 64, of_ceiling, 0.85)
    for way in each_way:
        yield Target("net-x8", "flood", way, 1500, of_ceiling, 0.97)
    for way in each_way:
        yield Target("net-x8-128", "pairs128", way, 64, "share of one pair", 0.90, "net-x8")
    for way in each_way:
        yield Target("net-x8", "lone", way, 64, "cycles", 48)
    for way in each_way:
        yield Target("net-x8", "framing", way, RANDOM, of_ceiling, 0.80)
    for way in each_way:
        yield Target("net-x16", "flood", way, 64, "rate", 100)
    for way in each_way:
        yield Target("net-x16", "flood", way, 1500, of_ceiling, 0.95)
    for way in each_way:
        yield Target("net-x16", "framing", way, RANDOM, of_ceiling, 0.80)
    for case in ("chain", "indirect"):
        for size, share in ((512, 0.85), (4096, 0.95), (65536, 0.95)):
            for way in ("read", "write"):
                yield Target("blk-x8", case, way, size, of_ceiling, share)


TARGETS = tuple(replace(one, ring=ring) for ring in ("packed", "split") for one in _targets())


_USUAL = {"case": "flood", "ring": "packed"}


def key(record: Record) -> tuple[Any, ...]:
    """Return what a record and its target have in common."""
    return tuple(
        record.get(name, _USUAL.get(name))
        for name in ("config", "case", "direction", "frame_bytes", "ring")
    )


_BY_KEY = {key(vars(target)): target for target in TARGETS}


def find_target(record: Record) -> Target | None:
    """Return the target of a record, if it has one."""
    return _BY_KEY.get(key(record))


def title(record: Record) -> str:
    """Return what people call a measurement: configuration, direction, frames, what is special."""
    config, case, direction, frame_bytes, ring = key(record)
    size = "random sizes" if frame_bytes == RANDOM else f"{frame_bytes:,} bytes"
    way = "both ways at once" if direction == "both" else direction
    special = {
        "flood": "",
        "pieces64": ", completions in 64-byte pieces",
        "pairs128": f", {record.get('queue_pairs', 128)} queue pairs",
        "lone": ", one buffer at a time",
        "framing": ", random framing",
        "chain": "",
        "indirect": ", indirect",
    }.get(case, f", {case}")
    format_ = "" if ring == "packed" else f", {ring} ring"
    return f"{config}, {way}, {size}{special}{format_}"


@dataclass(frozen=True)
class Verdict:
    """A target, the record that was held against it, and what came out.

    record, value: None where nothing was measured, or where the measure is missing.
    """

    target: Target
    record: Record | None
    value: float | None

    @property
    def met(self) -> bool | None:
        """Whether the target was reached; None if that is not known."""
        if self.value is None:
            return None
        if self.target.quantity == "cycles":
            return self.value <= self.target.value
        return self.value >= self.target.value

    @property
    def word(self) -> str:
        """The same in a word or two."""
        return {True: "ok", False: "missed", None: "not measured"}[self.met]

    @property
    def text(self) -> str:
        """What was measured, in the target's unit."""
        return "" if self.value is None else _UNITS[self.target.quantity].format(self.value)


def judge(record: Record, records: Sequence[Record]) -> Verdict | None:
    """Hold a record against its target; None if it has none.

    records: all of the run; "share of one pair" needs the flood on one pair.
    """
    if (target := find_target(record)) is None:
        return None
    return Verdict(target, record, _value(target, record, records))


def verdicts(records: Sequence[Record]) -> list[Verdict]:
    """Return every target's verdict, in the targets' order.

    Of several records for one target, the worst counts.
    """
    found = []
    for target in TARGETS:
        mine = [
            Verdict(target, record, _value(target, record, records))
            for record in records
            if find_target(record) is target
        ]
        known = [(one.value, one) for one in mine if one.value is not None]
        if known:
            worst = max if target.quantity == "cycles" else min
            found.append(worst(known, key=lambda pair: pair[0])[1])
        else:
            found.append(mine[0] if mine else Verdict(target, None, None))
    return found


IDEAL_SLACK = 0.002
"""The ends of a window cut batches of 16: a full link may seem as much faster than the ideal."""


def above_ideal(record: Record) -> bool:
    """Tell whether a rate is higher than the ideal endpoint's, which cannot be right."""
    share = record.get("ratio_of_ideal")
    return share is not None and share > 1 + IDEAL_SLACK


def _value(target: Target, record: Record, records: Sequence[Record]) -> float | None:
    """Return a record's figure in the target's quantity."""
    match target.quantity:
        case "share of the ceiling":
            return record.get("ratio")
        case "rate":
            return record.get("mpps")
        case "cycles":
            return max(record.get("added_cycles") or [None])
    flood = (target.one_pair, "flood", target.direction, target.frame_bytes, target.ring)
    single = max((one.get("mpps") or 0 for one in records if key(one) == flood), default=0)
    mpps = record.get("mpps")
    return mpps / single if single and mpps is not None else None
