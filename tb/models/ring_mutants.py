"""Breaches of the virtqueue rules: what one is, and what several of them do.

A mutant gets a rig of four slots with two buffers: 10 readable bytes in slot 0, and in slots 1
and 2 one with 10 readable and 20 writable bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ring_monitor_rig import Watched

__all__ = [
    "PACKED_USED",
    "WRITE",
    "Mutant",
    "avail_entry",
    "catalogue",
    "element",
    "free_desc",
    "id_of",
    "packed_used",
    "split_idx",
    "split_used",
    "use",
]

PACKED_USED = 0x8080
WRITE = 2


@dataclass(frozen=True)
class Mutant:
    """One wrong deed."""

    row: str
    packed: bool
    deed: Callable[[Watched], Any]
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{'packed' if self.packed else 'split'}-{self.row}-{self.deed.__name__}"


def catalogue(mutants: list[Mutant]) -> Callable[..., Callable[[Any], Any]]:
    """A decorator that enters deeds into a list.

    Its arguments: a row, or two as "packed row/split row"; whether for packed virtqueues alone
    (True), split ones alone (False) or both; options of the rig.
    """

    def mutant(row: str, packed: bool | None = None, /, **options: Any) -> Callable[[Any], Any]:
        def enter(deed: Any) -> Any:
            names = row.split("/")
            for kind in (True, False) if packed is None else (packed,):
                mutants.append(Mutant(names[0 if kind else -1], kind, deed, options))
            return deed

        return enter

    return mutant


def element(rig: Watched, buffer: int, which: str) -> int:
    """Address of a buffer's first segment, "readable" or "writable"."""
    layout = getattr(rig.flying[buffer], which)
    return int(layout.segments[0].addr)


def packed_used(rig: Watched, slot: int, length: int, buffer: int, flags: int) -> None:
    """Write a used descriptor as the device would."""
    data = struct.pack("<QIHH", 0, length, buffer, flags)
    rig.memory.device_write(rig.driver.desc_addr + 16 * slot, data)


def split_used(rig: Watched, slot: int, head: int, length: int) -> None:
    """Write a used element as the device would."""
    rig.memory.device_write(rig.driver.device_addr + 4 + 8 * slot, struct.pack("<II", head, length))


def split_idx(rig: Watched, idx: int) -> None:
    """Write the used index as the device would."""
    rig.memory.device_write(rig.driver.device_addr + 2, struct.pack("<H", idx))


def use(rig: Watched, place: int, buffer: int, length: int = 0, slot: int | None = None) -> None:
    """Give a buffer back as entry number `place`, in slot `slot` of a packed ring."""
    if rig.packed:
        flags = PACKED_USED | (WRITE if length else 0)
        packed_used(rig, place if slot is None else slot, length, buffer, flags)
    else:
        split_used(rig, place, id_of(rig, buffer), length)
        split_idx(rig, place + 1)


def id_of(rig: Watched, number: int) -> int:
    """Id of an outstanding buffer by its age."""
    return list(rig.watch.buffers)[number] if number < len(rig.watch.buffers) else number


def avail_entry(rig: Watched, head: int) -> None:
    """Publish a head behind the driver's back."""
    area = rig.driver.driver_addr
    idx = rig.memory.read_u16(area + 2)
    rig.memory.write_u16(area + 4 + 2 * (idx % rig.size), head)
    rig.memory.write_u16(area + 2, (idx + 1) % (1 << 16))


def free_desc(rig: Watched, address: int, length: int, flags: int, after: int = 0) -> None:
    """Make a descriptor available in the free slot 3 of either ring."""
    if rig.packed:
        at = rig.driver.desc_addr + 48
        rig.memory.write(at, struct.pack("<QIH", address, length, 3))
        rig.memory.write_u16(at + 14, flags | 0x80)
    else:
        free = next(slot for slot in range(4) if slot not in rig.watch.owner)
        entry = struct.pack("<QIHH", address, length, flags, after)
        rig.memory.write(rig.driver.desc_addr + 16 * free, entry)
        avail_entry(rig, free)
