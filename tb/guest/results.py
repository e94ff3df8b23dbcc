"""What the guest says, line by line, and what became of a case."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from guest import hwrng, matrix
from guest.matrix import Case
from guest.required import missing
from guest.statistics import Statistics

CUT = "-[ cut here ]-"
"""A kernel says this before it says what is wrong."""

PANIC = re.compile(
    r"Kernel panic|\bOops:|\bBUG: |kernel BUG at|Unable to handle kernel|general protection fault|"
    r"INFO: task .* blocked for more than|UBSAN:|"
    # Up to Linux 6.18, and from 6.19 on.
    r"WARNING: CPU: \d|WARNING: (\S+ )?at \S.*, CPU#\d|" + re.escape(CUT)
)
"""Lines of a kernel that something is badly wrong with."""


@dataclass(frozen=True)
class Check:
    """A line `RESULT name ok|fail detail` of the guest."""

    name: str
    passed: bool
    detail: str = ""


@dataclass
class Transcript:
    """The guest's results so far: `feed` it lines of the second serial port.

    `notes` holds the first of each name, `reads` all that are named bytes, `times` the seconds at
    which each check first came, `news` where the guest is, for people.
    """

    checks: list[Check] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    reads: list[str] = field(default_factory=list)
    times: dict[str, float] = field(default_factory=dict)
    news: str = "boot"
    ended: bool = False

    def feed(self, line: str, seconds: float = 0.0) -> None:
        """Take one line; what is no result, note or end is somebody else's."""
        word, _, rest = line.strip().partition(" ")
        if word == "RESULT":
            name, _, rest = rest.partition(" ")
            verdict, _, detail = rest.partition(" ")
            check = Check(name, verdict == "ok", detail.strip())
            self.checks.append(check)
            self.times.setdefault(name, seconds)
            self.news = name
        elif word == "NOTE":
            name, _, value = rest.partition(" ")
            self.notes.setdefault(name, value)
            if name == "step":
                self.news = value
            elif name == "bytes":
                self.reads.append(value)
        elif word == "END":
            self.ended = True

    @property
    def release(self) -> str:
        """The kernel's release, of its result `boot`."""
        return next((check.detail for check in self.checks if check.name == "boot"), "")


@dataclass
class CaseResult:
    """What became of a case; `error` is one line if it did not run to its end."""

    case: Case
    checks: list[Check] = field(default_factory=list)
    release: str = ""
    features: tuple[str, ...] = ()
    statistics: Statistics = field(default_factory=Statistics)
    seconds: float = 0.0
    boot_seconds: float = 0.0
    verified_seconds: float = 0.0
    error: str = ""
    console_tail: str = ""

    @property
    def failed(self) -> list[Check]:
        """The checks that failed."""
        return [check for check in self.checks if not check.passed]

    @property
    def passed(self) -> bool:
        """Whether the case ran to its end and all its checks passed."""
        return not self.error and not self.failed and bool(self.checks)

    @property
    def reason(self) -> str:
        """Why it did not pass, in one line."""
        if self.error:
            return self.error
        if self.failed:
            return "; ".join(f"{check.name}: {check.detail}" for check in self.failed)
        return "" if self.checks else "the guest said nothing"


def judge(case: Case, transcript: Transcript, statistics: Statistics, msix: str) -> list[Check]:
    """Return the guest's checks and those from outside: missing ones, features, what it saw."""
    checks = list(transcript.checks)
    absent = missing(case, [check.name for check in checks])
    checks.append(Check("missing", not absent, ", ".join(absent) or "none"))
    if case.kind != "firmware":
        taken = set(matrix.taken(transcript.notes.get("features", "")))
        refused = matrix.expected(case, transcript.release or "0") - taken
        extra = taken & set(matrix.BITS) - set(case.features) - {"VERSION_1", "ACCESS_PLATFORM"}
        wrong = [f"no {name}" for name in sorted(refused)]
        wrong += [f"{name} was not offered" for name in sorted(extra)]
        checks.append(Check("features", not wrong, ", ".join(wrong) or "as offered"))
    if case.kind == "linux":
        ways = {"table": statistics.table_interrupts, "eventfd": statistics.eventfd_interrupts}
        checks.append(
            Check(
                "interrupts",
                ways[msix] > 0,
                f"{ways[msix]} by {msix}"
                + ("" if ways[msix] else "; does this QEMU treat MSI-X in another way?"),
            )
        )
    checks.append(Check("dma", statistics.faults == 0, f"{statistics.faults} faults"))
    if case.device == "net":
        told = f"{statistics.damaged} damaged, {statistics.repeated} TCP segments came twice"
        checks.append(Check("frames", statistics.damaged == 0, told))
    if case.device == "entropy":
        given = bytes.fromhex(statistics.given)
        checks.append(Check("bytes", *hwrng.compare(transcript.reads, given)))
    return checks
