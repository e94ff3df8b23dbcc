"""What a hostile driver does, step by step, as data.

Addresses are absolute; nothing depends on what the device answers, so a list of actions repeats.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "Action",
    "BusFault",
    "Config",
    "Flip",
    "FunctionReset",
    "Incoming",
    "Kick",
    "Register",
    "Wait",
    "Write",
]


@dataclass(frozen=True)
class Wait:
    """Let so many cycles pass."""

    cycles: int


@dataclass(frozen=True)
class Write:
    """Write guest memory; `note` says what it is."""

    address: int
    data: bytes
    note: str


@dataclass(frozen=True)
class Flip:
    """Exclusive-or guest memory with `data`: a change under the device's eyes."""

    address: int
    data: bytes


@dataclass(frozen=True)
class Kick:
    """Write the notify structure: `size` bytes at the place of a virtqueue."""

    queue: int
    value: int
    size: int


@dataclass(frozen=True)
class Register:
    """A memory write to BAR 0: whole dwords, with any byte enables for the first and last."""

    offset: int
    data: bytes
    first: int
    last: int
    note: str = ""


@dataclass(frozen=True)
class Config:
    """Write configuration space: the PCI command register, or MSI-X control."""

    register: str
    value: int


@dataclass(frozen=True)
class FunctionReset:
    """Initiate a function level reset, and program again what it clears, `cycles` later."""

    cycles: int


@dataclass(frozen=True)
class Incoming:
    """A frame arrives for the hostile pair."""

    length: int
    bad: bool = False


@dataclass(frozen=True)
class BusFault:
    """Reads that touch [start, end) fail as `kind` says, `count` times."""

    start: int
    end: int
    kind: str
    count: int


Action = Wait | Write | Flip | Kick | Register | Config | FunctionReset | Incoming | BusFault
