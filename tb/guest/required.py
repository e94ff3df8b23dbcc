"""The checks that a guest must have told: one that is left out without a word has failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from guest.matrix import MACHINE_RESET, Case
from guest.script_files import checks

CHECKS: dict[tuple[str, str], tuple[str, ...]] = {
    ("entropy", "quick"): ("entropy-read", "entropy-differ"),
    ("entropy", "work"): ("entropy-long", "entropy-long-differ", "entropy-small"),
    ("blk", "quick"): ("blk-verify",),
    ("blk", "work"): (
        "blk-start",
        "blk-ext4",
        "blk-fsck",
        "blk-fio",
        "blk-queues",
        "blk-discard",
        "blk-end",
    ),
    ("blk", "machine_reset"): ("machine-reset",),
    ("net", "quick"): ("net-up", "net-ping"),
    ("net", "work"): (
        *(f"net-ping-{size}" for size in (1, 18, 64, 255, 256, 511, 1000, 1472, 6000)),
        "net-fragments",
        "net-tcp",
        "net-statistics",
        "net-mtu",
        "net-down-up",
        "net-checksums",
    ),
    ("dpdk", "work"): ("dpdk-path", "dpdk-echo"),
}
"""By script and step; `life` is the same for all, see below. Those of a script that is not here are
taken from the script."""

_BACK = ("reload", "rebind", "rebind-function", *(f"reset-in-traffic-{n}" for n in (1, 2, 3)))
"""In `life`: after each of them comes the device's quick check."""


def required(case: Case) -> Counter[str]:
    """Return how often each check must have been told. KeyError: a step that is not known here."""
    if case.kind == "firmware":
        return Counter(["firmware"])
    names = Counter(["boot"])
    for step in case.steps:
        if step == "life":
            names.update(("unload", *_BACK))
            for _ in _BACK:
                names.update(_of(case.script, "quick"))
        else:
            names.update(_of(case.script, step))
        if step == MACHINE_RESET:
            names["boot"] += 1
    return names


def _of(script: str, step: str) -> Sequence[str]:
    if any(script == named for named, _ in CHECKS):
        return CHECKS[script, step]
    return checks(script, step)


def missing(case: Case, told: Sequence[str]) -> list[str]:
    """Return the names of checks that were not told, or not often enough."""
    return sorted(required(case) - Counter(told))
