"""Errors that the host injects into the accesses of the device."""

from __future__ import annotations

from dataclasses import dataclass, field

KINDS = {
    "ur": "reads complete with Unsupported Request; writes are lost",
    "ca": "reads complete with Completer Abort; writes are lost",
    "late_ca": "the first completion has data, the second is Completer Abort",
    "poison": "completions carry data marked as poisoned",
    "drop": "reads are never answered; writes are lost",
    "duplicate": "every completion comes twice",
    "unexpected": "a completion that nobody asked for comes before the answer",
}


@dataclass
class Fault:
    """Accesses that touch [start, end) fail as `kind` says, `count` times (None: always)."""

    start: int
    end: int
    kind: str
    count: int | None = None
    hits: int = field(default=0)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"fault {self.kind!r}; there are {', '.join(KINDS)}")


class FaultList:
    """All the faults that are armed."""

    def __init__(self) -> None:
        self.armed: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Arm a fault."""
        self.armed.append(fault)
        return fault

    def clear(self) -> None:
        """Disarm all faults."""
        self.armed.clear()

    def hit(self, start: int, end: int) -> str | None:
        """Return the kind of fault that an access to [start, end) meets, and count it."""
        for fault in self.armed:
            if start < fault.end and fault.start < end and fault.count != fault.hits:
                fault.hits += 1
                return fault.kind
        return None
