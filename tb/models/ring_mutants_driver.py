"""Breaches of the virtqueue rules by a driver; the rig is that of `ring_mutants`."""

from __future__ import annotations

import struct

from ring_monitor_rig import Watched
from ring_mutants import Mutant, avail_entry, catalogue, free_desc, id_of

__all__ = ["DRIVER_MUTANTS"]

NEXT, WRITE, INDIRECT = 1, 2, 4

DRIVER_MUTANTS: list[Mutant] = []
_mutant = catalogue(DRIVER_MUTANTS)


def _table(rig: Watched, *entries: tuple[int, int]) -> int:
    """An indirect table of entries (flags, next)."""
    address = rig.allocator.alloc(16 * len(entries))
    for at, (flags, after) in enumerate(entries):
        tail = struct.pack("<QIHH", address, 4, *((0, flags) if rig.packed else (flags, after)))
        rig.memory.write(address + 16 * at, tail)
    return address


@_mutant("drv-packed-desc-02/drv-init-cleanup-01")
def changes_an_available_descriptor(rig: Watched) -> None:
    slot = 0 if rig.packed else id_of(rig, 0)
    rig.memory.write_u32(rig.driver.desc_addr + 16 * slot + 8, 5)


@_mutant("drv-packed-supply-02", True)
def body_behind_the_flags(rig: Watched) -> None:
    at = rig.driver.desc_addr + 48
    rig.memory.write_u16(at + 12, 3)
    rig.memory.write_u16(at + 14, 0x80)
    rig.memory.write_u64(at, 0x4000_0100)


@_mutant("drv-packed-sg-06", True)
def head_before_the_rest(rig: Watched) -> None:
    free_desc(rig, 0x4000_0100, 4, NEXT)


@_mutant("drv-split-supply-04", False)
def idx_before_the_entry(rig: Watched) -> None:
    area = rig.driver.driver_addr
    free = next(slot for slot in range(4) if slot not in rig.watch.owner)
    rig.memory.write_u16(area + 4 + 2 * 2, free)
    rig.memory.write_u16(area + 2, 3)
    rig.memory.write_u16(area + 4 + 2 * 2, free ^ 1)


@_mutant("drv-split-avail-01", False)
def idx_goes_back(rig: Watched) -> None:
    rig.memory.write_u16(rig.driver.driver_addr + 2, 1)


@_mutant("drv-split-avail-01", False)
def idx_jumps(rig: Watched) -> None:
    rig.memory.write_u16(rig.driver.driver_addr + 2, 2 + 5)


@_mutant("fact-split-ring-01", False)
def head_out_of_range(rig: Watched) -> None:
    avail_entry(rig, 4)


@_mutant("drv-init-cleanup-01", False)
def head_is_still_available(rig: Watched) -> None:
    avail_entry(rig, id_of(rig, 0))


@_mutant("drv-split-desc-01", False)
def chain_loops(rig: Watched) -> None:
    free = next(slot for slot in range(4) if slot not in rig.watch.owner)
    free_desc(rig, 0x4000_0100, 4, NEXT, free)


@_mutant("fact-split-ring-01", False)
def next_out_of_range(rig: Watched) -> None:
    free_desc(rig, 0x4000_0100, 4, NEXT, 4)


@_mutant("drv-split-indirect-02", False)
def table_in_a_table(rig: Watched) -> None:
    free_desc(rig, _table(rig, (INDIRECT, 0)), 16, INDIRECT)


@_mutant("drv-packed-indirect-02", True)
def flags_in_a_table(rig: Watched) -> None:
    free_desc(rig, _table(rig, (NEXT, 0)), 16, INDIRECT)


@_mutant("drv-split-desc-01", False)
def table_loops(rig: Watched) -> None:
    free_desc(rig, _table(rig, (NEXT, 1), (NEXT, 0)), 32, INDIRECT)


@_mutant("drv-packed-indirect-04/drv-split-indirect-04")
def indirect_with_next(rig: Watched) -> None:
    free_desc(rig, _table(rig, (0, 0)), 16, INDIRECT | NEXT)


@_mutant("drv-packed-indirect-01/drv-split-indirect-01", indirect=False)
def indirect_without_the_feature(rig: Watched) -> None:
    free_desc(rig, _table(rig, (0, 0)), 16, INDIRECT)


@_mutant("fact-packed-indirect-01/fact-split-indirect-01")
def table_of_seventeen_bytes(rig: Watched) -> None:
    free_desc(rig, _table(rig, (0, 0)), 17, INDIRECT)


@_mutant("drv-packed-indirect-03", True)
def table_longer_than_allowed(rig: Watched) -> None:
    free_desc(rig, _table(rig, *[(0, 0)] * 5), 80, INDIRECT)


@_mutant("drv-split-indirect-03", False)
def chain_longer_than_the_queue(rig: Watched) -> None:
    entries = [(NEXT, at + 1) for at in range(4)] + [(0, 0)]
    free_desc(rig, _table(rig, *entries), 80, INDIRECT)


@_mutant("drv-packed-sg-03/drv-split-framing-01")
def readable_behind_writable(rig: Watched) -> None:
    free_desc(rig, _table(rig, (WRITE | (0 if rig.packed else NEXT), 1), (0, 0)), 32, INDIRECT)


@_mutant("drv-split-desc-01", False)
def more_than_four_gigabytes(rig: Watched) -> None:
    table = _table(rig, (NEXT, 1), (0, 0))
    for at in (0, 16):
        rig.memory.write_u32(table + at + 8, 0xFFFF_FFFF)
    free_desc(rig, table, 32, INDIRECT)


@_mutant("drv-packed-desc-01", True)
def slot_of_a_buffer_not_yet_used(rig: Watched) -> None:
    rig.add([4], [])
    rig.memory.write_u32(rig.driver.desc_addr + 8, 5)


@_mutant("fact-packed-ring-05", True)
def id_of_an_available_buffer(rig: Watched) -> None:
    at = rig.driver.desc_addr + 48
    rig.memory.write(at, struct.pack("<QIH", 0x4000_0100, 4, next(iter(rig.watch.buffers))))
    rig.memory.write_u16(at + 14, 0x80)


@_mutant("drv-split-desc-02", False, in_order=True)
def next_not_the_following_slot(rig: Watched) -> None:
    free_desc(rig, 0x4000_0100, 4, NEXT, 2)


@_mutant("drv-split-indirect-05", False, in_order=True)
def table_not_in_sequence(rig: Watched) -> None:
    free_desc(rig, _table(rig, (NEXT, 2), (0, 0), (0, 0)), 48, INDIRECT)


@_mutant("drv-split-usednotif-01", False)
def avail_flags_of_two(rig: Watched) -> None:
    rig.memory.write_u16(rig.driver.driver_addr, 2)


@_mutant("drv-split-usednotif-03", False, event_idx=True)
def avail_flags_with_event_idx(rig: Watched) -> None:
    rig.memory.write_u16(rig.driver.driver_addr, 1)


@_mutant("fact-packed-event-03", True)
def reserved_driver_event_flags(rig: Watched) -> None:
    rig.memory.write_u16(rig.driver.driver_addr + 2, 8)


@_mutant("fact-packed-event-01", True)
def driver_event_without_event_idx(rig: Watched) -> None:
    rig.memory.write_u16(rig.driver.driver_addr + 2, 2)


@_mutant("drv-packed-desc-03/fact-drv-notify-01")
def kick_with_wrong_data(rig: Watched) -> None:
    rig.monitor.kick(0, 0x1234)


@_mutant("fact-packed-event-01/drv-split-availnotif-03")
def kick_although_disabled(rig: Watched) -> None:
    rig.device.enable_notifications(False)
    rig.add([4], [])
    rig.monitor.kick(0)


@_mutant("drv-init-suspend-04")
def kick_after_asking_for_suspend(rig: Watched) -> None:
    rig.monitor.life.ask_suspend()
    rig.monitor.kick(0)


@_mutant("drv-init-suspend-03")
def buffer_after_asking_for_suspend(rig: Watched) -> None:
    rig.monitor.life.ask_suspend()
    rig.add([4], [])
