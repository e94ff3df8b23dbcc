"""Breaches of the virtqueue rules by a device: what it does to memory."""

from __future__ import annotations

import struct

from ring_monitor_rig import Watched
from ring_mutants import (
    PACKED_USED,
    WRITE,
    Mutant,
    catalogue,
    element,
    id_of,
    packed_used,
    split_idx,
    split_used,
    use,
)

__all__ = ["DEVICE_MUTANTS"]

DEVICE_MUTANTS: list[Mutant] = []
_mutant = catalogue(DEVICE_MUTANTS)


@_mutant("packed-desc-01/split-desc-01")
def writes_a_readable_element(rig: Watched) -> None:
    rig.memory.device_write(element(rig, 0, "readable"), b"x")


@_mutant("packed-desc-02/split-desc-02")
def reads_a_writable_element(rig: Watched) -> None:
    rig.memory.device_read(element(rig, 1, "writable"), 1)


@_mutant("packed-supply-01/split-supply-01")
def writes_behind_the_buffer(rig: Watched) -> None:
    rig.memory.device_write(element(rig, 1, "writable"), bytes(21))


@_mutant("packed-supply-01/split-supply-01")
def writes_behind_the_used_entry(rig: Watched) -> None:
    rig.take()
    rig.take()
    where = rig.taken[1][1].writable[0].addr
    use(rig, 0, 0)
    use(rig, 1, 1 if rig.packed else 0)
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
    use(rig, 0, 1, 20)


@_mutant("fact-basic-virtqueue-01/split-used-02")
def payload_with_a_hole(rig: Watched) -> None:
    where = element(rig, 1, "writable")
    rig.memory.device_write(where, bytes(8))
    rig.memory.device_write(where + 9, bytes(11))
    use(rig, 0, 1, 20)


@_mutant("fact-packed-ring-04/split-used-02")
def used_length_beyond_the_buffer(rig: Watched) -> None:
    rig.memory.device_write(element(rig, 1, "writable"), bytes(20))
    use(rig, 0, 1, 21)


@_mutant("packed-desc-04", True)
def used_twice(rig: Watched) -> None:
    use(rig, 0, 0)
    use(rig, 1, 0)


@_mutant("fact-split-ring-03", False)
def used_element_twice(rig: Watched) -> None:
    head = id_of(rig, 0)
    for place in (0, 1):
        split_used(rig, place, head, 0)
        split_idx(rig, place + 1)


@_mutant("fact-packed-ring-05/fact-split-ring-03")
def used_id_of_nobody(rig: Watched) -> None:
    if rig.packed:
        packed_used(rig, 0, 0, 7, PACKED_USED)
    else:
        split_used(rig, 0, 1 << 16 | id_of(rig, 0), 0)
        split_idx(rig, 1)


@_mutant("fact-packed-ring-03", True)
def wrong_wrap_counter(rig: Watched) -> None:
    packed_used(rig, 0, 0, 0, 0)


@_mutant("fact-packed-ring-03", True)
def used_flags_with_next(rig: Watched) -> None:
    packed_used(rig, 0, 0, 0, PACKED_USED | 1)


@_mutant("fact-packed-ring-04", True)
def write_flag_with_nothing_writable(rig: Watched) -> None:
    packed_used(rig, 0, 0, 0, PACKED_USED | WRITE)


@_mutant("fact-packed-ring-06", True)
def next_used_entry_inside_the_list(rig: Watched) -> None:
    packed_used(rig, 1, 0, 0, PACKED_USED)
    packed_used(rig, 0, 0, 1, PACKED_USED)


@_mutant("fact-packed-ring-06", True)
def used_entry_in_the_wrong_slot(rig: Watched) -> None:
    packed_used(rig, 1, 0, 0, PACKED_USED)


@_mutant("packed-desc-04", True)
def writes_a_descriptor_of_the_driver(rig: Watched) -> None:
    packed_used(rig, 3, 0, 0, PACKED_USED)


@_mutant("split-used-01", False)
def idx_before_the_element(rig: Watched) -> None:
    split_idx(rig, 1)
    split_used(rig, 0, id_of(rig, 0), 0)


@_mutant("split-used-01", False)
def idx_between_id_and_len(rig: Watched) -> None:
    rig.memory.device_write(rig.driver.device_addr + 4, struct.pack("<I", id_of(rig, 0)))
    split_idx(rig, 1)


@_mutant("split-used-01", False)
def element_and_idx_in_one_write(rig: Watched) -> None:
    data = struct.pack("<HHII", 0, 1, id_of(rig, 0), 0)
    rig.memory.device_write(rig.driver.device_addr, data)


@_mutant("fact-split-ring-02", False)
def idx_goes_too_far(rig: Watched) -> None:
    split_idx(rig, 3)


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
        packed_used(rig, 0, 0, second, PACKED_USED)
        packed_used(rig, 3, 0, first, PACKED_USED)
    else:
        split_used(rig, 0, second, 0)
        split_idx(rig, 2)
        split_used(rig, 2, first, 0)
        split_idx(rig, 3)


@_mutant("fact-packed-inorder-01/fact-split-inorder-01", in_order=True)
def batch_over_an_empty_buffer(rig: Watched) -> None:
    rig.add([], [8])
    last = list(rig.watch.buffers)[-1]
    if rig.packed:
        packed_used(rig, 0, 0, last, PACKED_USED)
    else:
        split_used(rig, 0, last, 0)
        split_idx(rig, 3)


@_mutant("fact-split-inorder-01", False, in_order=True)
def idx_within_a_batch(rig: Watched) -> None:
    split_used(rig, 0, list(rig.watch.buffers)[1], 0)
    split_idx(rig, 1)
