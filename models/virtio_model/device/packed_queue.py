"""Device side of a packed virtqueue, checking the driver [virtio 1.4 §2.8]."""

from __future__ import annotations

from collections.abc import Sequence

from virtio_model.device.chain import Chain
from virtio_model.device.held import Held, HeldBuffers, Watch
from virtio_model.driver.queue import Segment
from virtio_model.errors import DriverBreach
from virtio_model.memory import GuestMemory
from virtio_model.rings.packed import (
    DESC_SIZE,
    EVENT_SIZE,
    QUEUE_SIZE_MAX,
    DescFlags,
    EventFlags,
    EventSuppression,
    PackedDescriptor,
    advance,
    event_reached,
    is_available,
    used_bits,
)
from virtio_model.spec.packed import DESC_ALIGN, DEVICE_AREA_ALIGN, DRIVER_AREA_ALIGN


class DevicePackedQueue:
    """Golden device side: one buffer at a time, completed in any order.

    `in_order`: VIRTIO_F_IN_ORDER was negotiated; buffers are completed in the order of fetching,
    several by one used descriptor if wanted (`complete_batch`).
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
        if not 1 <= size <= QUEUE_SIZE_MAX:
            raise ValueError(f"queue size {size} is not in 1..{QUEUE_SIZE_MAX}")
        for area, align in (
            (desc, DESC_ALIGN),
            (driver_area, DRIVER_AREA_ALIGN),
            (device_area, DEVICE_AREA_ALIGN),
        ):
            if area % align:
                raise DriverBreach("misaligned area", addr=area, align=align)
        self.memory = memory
        self.size = size
        self.desc = desc
        self.driver_area = driver_area
        self.device_area = device_area
        self.indirect = indirect
        self.event_idx = event_idx
        self.max_chain = size if max_chain is None else max_chain
        self._avail = (0, 1)
        self._used = (0, 1)
        self._notified = (0, 1)
        self._held = HeldBuffers(in_order)

    def _fetch(self, index: int) -> PackedDescriptor:
        return PackedDescriptor.decode(
            self.memory.device_read(self.desc + DESC_SIZE * index, DESC_SIZE)
        )

    def next_buffer(self) -> Chain | None:
        """Take the next available buffer, or None [virtio 1.4 §2.8.6, §2.8.7]."""
        index, wrap = self._avail
        head = self._fetch(index)
        if not is_available(head.flags, wrap):
            return None
        chain = self._walk(head)
        if chain.slots + self._held.slots() > self.size:
            raise DriverBreach("the driver reused a slot that the device still holds", slot=index)
        self._avail = advance(index, wrap, chain.slots, self.size)
        slots = [(index + at) % self.size for at in range(chain.slots)]
        self._watch(chain, head, slots)
        return chain

    def _watch(self, chain: Chain, head: PackedDescriptor, slots: list[int]) -> None:
        stretches = [(self._place(slot), DESC_SIZE) for slot in slots]
        if head.flags & DescFlags.INDIRECT:
            stretches.append((head.addr, head.len))
        watch = Watch(self.memory, [*stretches, *chain.readable])
        self._held.add(Held(chain, slots, watch))

    def _place(self, slot: int) -> int:
        return self.desc + DESC_SIZE * slot

    def _walk(self, head: PackedDescriptor) -> Chain:
        index, wrap = self._avail
        if head.flags & DescFlags.INDIRECT:
            if head.flags & DescFlags.NEXT:
                raise DriverBreach("INDIRECT together with NEXT", slot=index, flags=head.flags)
            return self._walk_table(head, index)
        chain = Chain(head.id, 1)
        descriptor = head
        self._append(chain, descriptor, index)
        while descriptor.flags & DescFlags.NEXT:
            chain.slots += 1
            if chain.slots > min(self.max_chain, self.size):
                raise DriverBreach("chain too long", slot=index, max_chain=self.max_chain)
            index, wrap = advance(index, wrap, 1, self.size)
            descriptor = self._fetch(index)
            if not is_available(descriptor.flags, wrap):
                raise DriverBreach(
                    "descriptor inside a chain is not available", slot=index, flags=descriptor.flags
                )
            if descriptor.flags & DescFlags.INDIRECT:
                raise DriverBreach("INDIRECT inside a NEXT chain", slot=index)
            self._append(chain, descriptor, index)
        # The buffer id of a chain is the last descriptor's.
        chain.id = descriptor.id
        return chain

    def _walk_table(self, head: PackedDescriptor, index: int) -> Chain:
        if not self.indirect:
            raise DriverBreach("INDIRECT without VIRTIO_F_INDIRECT_DESC", slot=index)
        if head.len == 0 or head.len % DESC_SIZE:
            raise DriverBreach(
                "indirect table length is 0 or no multiple of 16", slot=index, len=head.len
            )
        count = head.len // DESC_SIZE
        if count > self.max_chain:
            raise DriverBreach(
                "chain too long", slot=index, entries=count, max_chain=self.max_chain
            )
        table = self.memory.device_read(head.addr, head.len)
        chain = Chain(head.id, 1)
        for at in range(count):
            entry = PackedDescriptor.decode(table[DESC_SIZE * at : DESC_SIZE * (at + 1)])
            self._append(chain, entry, at)
        return chain

    @staticmethod
    def _append(chain: Chain, descriptor: PackedDescriptor, index: int) -> None:
        segment = Segment(descriptor.addr, descriptor.len)
        if descriptor.flags & DescFlags.WRITE:
            chain.writable.append(segment)
        elif chain.writable:
            raise DriverBreach("readable element after a writable one", slot=index)
        else:
            chain.readable.append(segment)

    def complete(self, chain: Chain, length: int = 0) -> None:
        """Mark a held buffer used, with `length` bytes written."""
        self.complete_batch([chain], length)

    def complete_batch(self, chains: Sequence[Chain], length: int = 0) -> None:
        """Mark the oldest held buffers used by one used descriptor [virtio 1.4 §2.8.8].

        It stands in the place of the first, names the last, and `length` is the last one's:
        the others count as used completely.

        One write of 16 bytes; addr, unused in a used descriptor, is 0. WRITE is set iff data
        was written, and of the other flags only AVAIL and USED are ever set
        [virtio 1.4 §2.8.3, §2.8.4].
        """
        for held in self._held.take(chains, length):
            held.watch.check()
        index, wrap = self._used
        slots = sum(chain.slots for chain in chains)
        # Slots that the used position passes are the driver's again, whoever had them.
        passed = [self._place((index + at) % self.size) for at in range(slots)]
        for held in self._held.entries:
            held.watch.forget(passed)
        flags = used_bits(wrap) | (int(DescFlags.WRITE) if length else 0)
        used = PackedDescriptor(0, length, chains[-1].id, flags)
        self.memory.device_write(self._place(index), used.encode())
        self._used = advance(index, wrap, slots, self.size)

    def should_interrupt(self) -> bool:
        """Whether what was used since the last call needs a notification [§2.8.10]."""
        event = EventSuppression.decode(self.memory.device_read(self.driver_area, EVENT_SIZE))
        old, self._notified = self._notified, self._used
        if old == self._used:
            return False
        # The upper bits of the flags are reserved, and a device ignores what is reserved.
        mode = event.flags & 0x3
        if mode == EventFlags.DESC and self.event_idx:
            return event_reached((event.offset, event.wrap), old, self._used, self.size)
        if mode in (EventFlags.ENABLE, EventFlags.DISABLE):
            return mode == EventFlags.ENABLE
        raise DriverBreach("invalid driver event suppression flags", flags=event.flags)

    def enable_notifications(self, enabled: bool = True) -> None:
        """Publish whether the driver should kick; DESC mode for the next slot if negotiated."""
        if not enabled:
            event = EventSuppression(flags=EventFlags.DISABLE)
        elif self.event_idx:
            event = EventSuppression(*self._avail, flags=EventFlags.DESC)
        else:
            event = EventSuppression(flags=EventFlags.ENABLE)
        self.memory.device_write(self.device_area, event.encode())
