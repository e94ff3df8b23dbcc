"""Breaches of the virtqueue rules, each with the row by which the monitor must tell it.

A mutant gets a rig of four slots with two buffers: 10 readable bytes in slot 0, and in slots 1
and 2 one with 10 readable and 20 writable bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ring_monitor_rig import LIMIT, VECTOR, Watched

__all__ = ["MUTANTS", "Mutant"]

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


MUTANTS: list[Mutant] = []


def _mutant(row: str, packed: bool | None = None, /, **options: Any) -> Callable[[Any], Any]:
    """Enter a deed for a format; `row` may be two rows, "packed row/split row"."""

    def enter(deed: Any) -> Any:
        names = row.split("/")
        for kind in (True, False) if packed is None else (packed,):
            MUTANTS.append(Mutant(names[0 if kind else -1], kind, deed, options))
        return deed

    return enter


def _element(rig: Watched, buffer: int, which: str) -> int:
    layout = getattr(rig.flying[buffer], which)
    return int(layout.segments[0].addr)


def _packed_used(rig: Watched, slot: int, length: int, buffer: int, flags: int) -> None:
    data = struct.pack("<QIHH", 0, length, buffer, flags)
    rig.memory.device_write(rig.driver.desc_addr + 16 * slot, data)


def _split_used(rig: Watched, slot: int, head: int, length: int) -> None:
    rig.memory.device_write(rig.driver.device_addr + 4 + 8 * slot, struct.pack("<II", head, length))


def _split_idx(rig: Watched, idx: int) -> None:
    rig.memory.device_write(rig.driver.device_addr + 2, struct.pack("<H", idx))


def _use(rig: Watched, place: int, buffer: int, length: int = 0, slot: int | None = None) -> None:
    """Give a buffer back as entry number `place`, in slot `slot` of a packed ring."""
    if rig.packed:
        flags = PACKED_USED | (WRITE if length else 0)
        _packed_used(rig, place if slot is None else slot, length, buffer, flags)
    else:
        _split_used(rig, place, _head(rig, buffer), length)
        _split_idx(rig, place + 1)


def _head(rig: Watched, number: int) -> int:
    return list(rig.watch.buffers)[number] if number < len(rig.watch.buffers) else number


def _avail_entry(rig: Watched, head: int) -> None:
    """Publish a head behind the driver's back."""
    area = rig.driver.driver_addr
    idx = rig.memory.read_u16(area + 2)
    rig.memory.write_u16(area + 4 + 2 * (idx % rig.size), head)
    rig.memory.write_u16(area + 2, (idx + 1) % (1 << 16))


def _free_desc(rig: Watched, address: int, length: int, flags: int, after: int = 0) -> None:
    """Make a descriptor available in the free slot 3 of either ring."""
    if rig.packed:
        at = rig.driver.desc_addr + 48
        rig.memory.write(at, struct.pack("<QIH", address, length, 3))
        rig.memory.write_u16(at + 14, flags | 0x80)
    else:
        free = next(slot for slot in range(4) if slot not in rig.watch.owner)
        entry = struct.pack("<QIHH", address, length, flags, after)
        rig.memory.write(rig.driver.desc_addr + 16 * free, entry)
        _avail_entry(rig, free)


# The device and memory


@_mutant("packed-desc-01/split-desc-01")
def writes_a_readable_element(rig: Watched) -> None:
    rig.memory.device_write(_element(rig, 0, "readable"), b"x")


@_mutant("packed-desc-02/split-desc-02")
def reads_a_writable_element(rig: Watched) -> None:
    rig.memory.device_read(_element(rig, 1, "writable"), 1)


@_mutant("packed-supply-01/split-supply-01")
def writes_behind_the_buffer(rig: Watched) -> None:
    rig.memory.device_write(_element(rig, 1, "writable"), bytes(21))


@_mutant("packed-supply-01/split-supply-01")
def writes_behind_the_used_entry(rig: Watched) -> None:
    rig.take()
    rig.take()
    where = rig.taken[1][1].writable[0].addr
    _use(rig, 0, 0)
    _use(rig, 1, 1 if rig.packed else 0)
    rig.memory.device_write(where, b"x")


@_mutant("packed-supply-01/split-supply-01")
def reads_a_buffer_not_yet_available(rig: Watched) -> None:
    rig.memory.device_read(rig.allocator.alloc(16), 16)


@_mutant("split-desc-04", False)
def writes_the_descriptor_table(rig: Watched) -> None:
    rig.memory.device_write(rig.driver.desc_addr, bytes(2))


@_mutant("split-desc-04/split-desc-04", False)
def writes_the_available_ring(rig: Watched) -> None:
    rig.memory.device_write(rig.driver.driver_addr + 4, bytes(2))


@_mutant("fact-packed-event-03", True)
def writes_the_driver_area(rig: Watched) -> None:
    rig.memory.device_write(rig.driver.driver_addr, bytes(4))


# The device and used entries


@_mutant("fact-basic-virtqueue-01/split-used-02")
def used_before_payload(rig: Watched) -> None:
    _use(rig, 0, 1, 20)


@_mutant("fact-basic-virtqueue-01/split-used-02")
def payload_with_a_hole(rig: Watched) -> None:
    where = _element(rig, 1, "writable")
    rig.memory.device_write(where, bytes(8))
    rig.memory.device_write(where + 9, bytes(11))
    _use(rig, 0, 1, 20)


@_mutant("fact-packed-ring-04/split-used-02")
def used_length_beyond_the_buffer(rig: Watched) -> None:
    rig.memory.device_write(_element(rig, 1, "writable"), bytes(20))
    _use(rig, 0, 1, 21)


@_mutant("packed-desc-04", True)
def used_twice(rig: Watched) -> None:
    _use(rig, 0, 0)
    _use(rig, 1, 0)


@_mutant("fact-split-ring-03", False)
def used_element_twice(rig: Watched) -> None:
    head = _head(rig, 0)
    for place in (0, 1):
        _split_used(rig, place, head, 0)
        _split_idx(rig, place + 1)


@_mutant("fact-packed-ring-05/fact-split-ring-03")
def used_id_of_nobody(rig: Watched) -> None:
    if rig.packed:
        _packed_used(rig, 0, 0, 7, PACKED_USED)
    else:
        _split_used(rig, 0, 1 << 16 | _head(rig, 0), 0)
        _split_idx(rig, 1)


@_mutant("fact-packed-ring-03", True)
def wrong_wrap_counter(rig: Watched) -> None:
    _packed_used(rig, 0, 0, 0, 0)


@_mutant("fact-packed-ring-03", True)
def used_flags_with_next(rig: Watched) -> None:
    _packed_used(rig, 0, 0, 0, PACKED_USED | 1)


@_mutant("fact-packed-ring-04", True)
def write_flag_with_nothing_writable(rig: Watched) -> None:
    _packed_used(rig, 0, 0, 0, PACKED_USED | WRITE)


@_mutant("fact-packed-ring-06", True)
def next_used_entry_inside_the_list(rig: Watched) -> None:
    _packed_used(rig, 1, 0, 0, PACKED_USED)
    _packed_used(rig, 0, 0, 1, PACKED_USED)


@_mutant("fact-packed-ring-06", True)
def used_entry_in_the_wrong_slot(rig: Watched) -> None:
    _packed_used(rig, 1, 0, 0, PACKED_USED)


@_mutant("packed-desc-04", True)
def writes_a_descriptor_of_the_driver(rig: Watched) -> None:
    _packed_used(rig, 3, 0, 0, PACKED_USED)


@_mutant("split-used-01", False)
def idx_before_the_element(rig: Watched) -> None:
    _split_idx(rig, 1)
    _split_used(rig, 0, _head(rig, 0), 0)


@_mutant("split-used-01", False)
def idx_between_id_and_len(rig: Watched) -> None:
    rig.memory.device_write(rig.driver.device_addr + 4, struct.pack("<I", _head(rig, 0)))
    _split_idx(rig, 1)


@_mutant("split-used-01", False)
def element_and_idx_in_one_write(rig: Watched) -> None:
    data = struct.pack("<HHII", 0, 1, _head(rig, 0), 0)
    rig.memory.device_write(rig.driver.device_addr, data)


@_mutant("fact-split-ring-02", False)
def idx_goes_too_far(rig: Watched) -> None:
    _split_idx(rig, 3)


@_mutant("split-availnotif-01", False)
def used_flags_of_two(rig: Watched) -> None:
    rig.memory.device_write(rig.driver.device_addr, b"\x02\0")


@_mutant("split-availnotif-03", False, event_idx=True)
def used_flags_with_event_idx(rig: Watched) -> None:
    rig.memory.device_write(rig.driver.device_addr, b"\x01\0")


@_mutant("resv-feat-05", in_order=True)
def used_out_of_order(rig: Watched) -> None:
    rig.add([5], [])
    first, second, _ = list(rig.watch.buffers)
    if rig.packed:
        _packed_used(rig, 0, 0, second, PACKED_USED)
        _packed_used(rig, 3, 0, first, PACKED_USED)
    else:
        _split_used(rig, 0, second, 0)
        _split_idx(rig, 2)
        _split_used(rig, 2, first, 0)
        _split_idx(rig, 3)


@_mutant("fact-packed-inorder-01/fact-split-inorder-01", in_order=True)
def batch_over_an_empty_buffer(rig: Watched) -> None:
    rig.add([], [8])
    last = list(rig.watch.buffers)[-1]
    if rig.packed:
        _packed_used(rig, 0, 0, last, PACKED_USED)
    else:
        _split_used(rig, 0, last, 0)
        _split_idx(rig, 3)


@_mutant("fact-split-inorder-01", False, in_order=True)
def idx_within_a_batch(rig: Watched) -> None:
    _split_used(rig, 0, list(rig.watch.buffers)[1], 0)
    _split_idx(rig, 1)


# The device's event suppression and interrupts


@_mutant("fact-packed-event-03", True)
def reserved_event_flags(rig: Watched) -> None:
    rig.memory.device_write(rig.driver.device_addr, struct.pack("<HH", 0, 4))


@_mutant("fact-packed-event-01", True)
def event_for_a_slot_without_event_idx(rig: Watched) -> None:
    rig.memory.device_write(rig.driver.device_addr, struct.pack("<HH", 0, 2))


@_mutant("fact-packed-event-02", True, event_idx=True)
def event_outside_of_the_ring(rig: Watched) -> None:
    rig.memory.device_write(rig.driver.device_addr, struct.pack("<HH", 4, 2))


@_mutant("fact-packed-event-01/split-usednotif-03")
def interrupt_before_used(rig: Watched) -> None:
    rig.monitor.interrupt(VECTOR)
    _use(rig, 0, 0)


@_mutant("fact-packed-event-01/split-usednotif-02")
def interrupt_although_disabled(rig: Watched) -> None:
    rig.driver.disable_interrupts()
    _use(rig, 0, 0)
    rig.monitor.interrupt(VECTOR)


@_mutant("fact-packed-event-02/split-usednotif-06", event_idx=True)
def interrupt_before_the_event(rig: Watched) -> None:
    rig.driver.enable_interrupts(1)
    _use(rig, 0, 0)
    rig.monitor.interrupt(VECTOR)


@_mutant("fact-packed-event-01/split-usednotif-03")
def interrupt_forgotten(rig: Watched) -> None:
    _use(rig, 0, 0)
    for _ in range(int(LIMIT) + 2):
        rig.memory.device_read(rig.driver.desc_addr, 16)


@_mutant("fact-packed-event-02/split-usednotif-05", event_idx=True)
def interrupt_for_the_event_forgotten(rig: Watched) -> None:
    rig.driver.enable_interrupts()
    _use(rig, 0, 0)
    for _ in range(int(LIMIT) + 2):
        rig.memory.device_read(rig.driver.desc_addr, 16)


@_mutant("pci-usednotif-01")
def interrupt_by_a_vector_of_nobody(rig: Watched) -> None:
    rig.monitor.interrupt(VECTOR + 1)


# The device's life


@_mutant("basic-status-01", live=False)
def access_before_driver_ok(rig: Watched) -> None:
    rig.memory.device_read(rig.driver.desc_addr, 16)


@_mutant("basic-reset-02")
def access_behind_the_reset(rig: Watched) -> None:
    rig.monitor.ask_reset()
    rig.memory.device_read(rig.driver.desc_addr, 16)
    rig.monitor.reset_done()
    rig.memory.device_read(rig.driver.desc_addr, 16)


@_mutant("basic-vqreset-01")
def access_behind_the_queue_reset(rig: Watched) -> None:
    rig.monitor.ask_queue_reset(0)
    rig.monitor.queue_reset_done(0)
    rig.memory.device_read(_element(rig, 0, "readable"), 10)


@_mutant("basic-vqreset-01")
def interrupt_behind_the_queue_reset(rig: Watched) -> None:
    _use(rig, 0, 0)
    rig.monitor.ask_queue_reset(0)
    rig.monitor.queue_reset_done(0)
    rig.monitor.interrupt(VECTOR)


@_mutant("init-suspend-03")
def access_while_suspended(rig: Watched) -> None:
    rig.monitor.life.ask_suspend()
    rig.monitor.life.suspended()
    rig.memory.device_read(rig.driver.desc_addr, 16)
