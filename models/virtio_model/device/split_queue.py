"""Device side of a split virtqueue, checking the driver [virtio 1.4 §2.7]."""

from __future__ import annotations

from collections.abc import Sequence

from virtio_model.device.chain import Chain
from virtio_model.device.held import Held, HeldBuffers, Watch
from virtio_model.device.split_walk import SplitWalk, Walked
from virtio_model.errors import DriverBreach
from virtio_model.memory import GuestMemory
from virtio_model.rings.split import (
    AVAIL_ALIGN,
    AVAIL_NO_INTERRUPT,
    DESC_ALIGN,
    DESC_SIZE,
    FLAGS_OFFSET,
    IDX_OFFSET,
    INDEX_MASK,
    USED_ALIGN,
    USED_NO_NOTIFY,
    UsedElement,
    avail_entry_offset,
    avail_event_offset,
    check_size,
    moved,
    need_event,
    used_entry_offset,
    used_event_offset,
)


class DeviceSplitQueue:
    """Golden device side: one buffer at a time, completed in any order.

    `in_order`: VIRTIO_F_IN_ORDER was negotiated; buffers are completed in the order of fetching,
    several by one used element if wanted (`complete_batch`).
    """

    def __init__(
        self,
        memory: GuestMemory,
        size: int,
        desc: int,
        driver_area: int,
        device_area: int,
        *,
        indirect: bool = True,
        event_idx: bool = False,
        in_order: bool = False,
        max_chain: int | None = None,
    ) -> None:
        """Take over a queue that a driver has just set up."""
        check_size(size)
        for area, align in (
            (desc, DESC_ALIGN),
            (driver_area, AVAIL_ALIGN),
            (device_area, USED_ALIGN),
        ):
            if area % align:
                raise DriverBreach("misaligned area", addr=area, align=align)
        if flags := memory.read_u16(device_area + FLAGS_OFFSET):
            raise DriverBreach("used.flags is not 0 in a new used ring", flags=flags)
        self.memory = memory
        self.size = size
        self.desc = desc
        self.driver_area = driver_area
        self.device_area = device_area
        self.event_idx = event_idx
        self.in_order = in_order
        limit = size if max_chain is None else max_chain
        self._walk = SplitWalk(memory, size, desc, indirect, in_order, limit)
        self._avail = 0
        self._shown = 0
        self._used = 0
        self._notified = 0
        self._next_slot = 0
        self._held = HeldBuffers(in_order)

    # Available buffers [virtio 1.4 §2.7.6, §2.7.13]

    def _read_u16(self, addr: int) -> int:
        return int.from_bytes(self.memory.device_read(addr, 2), "little")

    def _look(self) -> None:
        """Read the available index, which only moves on, by no more than there is room for."""
        found = self._read_u16(self.driver_area + IDX_OFFSET)
        if moved(self._used, found) > self.size:
            raise DriverBreach(
                "available idx moved back or beyond the ring", idx=found, used=self._used
            )
        if moved(self._used, found) < moved(self._used, self._shown):
            raise DriverBreach("available idx moved back", idx=found, before=self._shown)
        self._shown = found

    def next_buffer(self) -> Chain | None:
        """Take the next available buffer, or None."""
        self._look()
        if self._shown == self._avail:
            return None
        head = self._read_u16(self.driver_area + avail_entry_offset(self._avail, self.size))
        walked = self._walk.walk(head)
        if again := self._held.places() & set(walked.slots):
            raise DriverBreach(
                "the driver reused a descriptor that the device still holds", slot=min(again)
            )
        if self.in_order:
            if head != self._next_slot:
                raise DriverBreach(
                    "IN_ORDER: descriptor table is not used in order",
                    head=head,
                    due=self._next_slot,
                )
            self._next_slot = (head + len(walked.slots)) % self.size
        self._avail = (self._avail + 1) & INDEX_MASK
        self._held.add(Held(walked.chain, walked.slots, self._watch(walked)))
        return walked.chain

    def _watch(self, walked: Walked) -> Watch:
        stretches = [(self.desc + DESC_SIZE * slot, DESC_SIZE) for slot in walked.slots]
        if walked.table is not None:
            stretches.append(walked.table)
        return Watch(self.memory, [*stretches, *walked.chain.readable])

    # Used buffers [virtio 1.4 §2.7.8, §2.7.14]

    def complete(self, chain: Chain, length: int = 0) -> None:
        """Mark a held buffer used, with `length` bytes written."""
        self.complete_batch([chain], length)

    def complete_batch(self, chains: Sequence[Chain], length: int = 0) -> None:
        """Mark the oldest held buffers used by one used element [virtio 1.4 §2.7.9].

        It stands in the place of the first, names the last, and `length` is the last one's:
        the others count as used completely. Then idx moves on by as many as there are.
        """
        for held in self._held.take(chains, length):
            held.watch.check()
        at = self.device_area + used_entry_offset(self._used, self.size)
        self.memory.device_write(at, UsedElement(chains[-1].id, length).encode())
        self._used = (self._used + len(chains)) & INDEX_MASK
        self.memory.device_write(self.device_area + IDX_OFFSET, self._used.to_bytes(2, "little"))

    # Notifications [virtio 1.4 §2.7.7, §2.7.10]

    def should_interrupt(self) -> bool:
        """Whether what was used since the last call needs a notification."""
        flags = self._read_u16(self.driver_area + FLAGS_OFFSET)
        if flags & ~AVAIL_NO_INTERRUPT or (self.event_idx and flags):
            raise DriverBreach("invalid avail.flags", flags=flags)
        old, self._notified = self._notified, self._used
        if self.event_idx:
            event = self._read_u16(self.driver_area + used_event_offset(self.size))
            return need_event(event, old, self._used)
        return old != self._used and not flags

    def enable_notifications(self, enabled: bool = True) -> None:
        """Publish whether the driver should kick; with EVENT_IDX, for the next buffer."""
        if self.event_idx:
            # The index that is farthest away stands for never.
            event = self._avail if enabled else (self._avail - 1) & INDEX_MASK
            at = self.device_area + avail_event_offset(self.size)
            self.memory.device_write(at, event.to_bytes(2, "little"))
        else:
            flags = 0 if enabled else USED_NO_NOTIFY
            self.memory.device_write(self.device_area + FLAGS_OFFSET, flags.to_bytes(2, "little"))
