"""Following the chain of a split virtqueue's buffer, and every rule of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from virtio_model.device.chain import Chain
from virtio_model.driver.queue import Segment
from virtio_model.errors import DriverBreach
from virtio_model.memory import GuestMemory
from virtio_model.rings.split import CHAIN_BYTES_MAX, DESC_SIZE, DescFlags, SplitDescriptor


@dataclass
class Walked:
    """A chain, its descriptor table entries, and its indirect table if it has one."""

    chain: Chain
    slots: list[int] = field(default_factory=list)
    table: Segment | None = None
    entries: int = 0


@dataclass(frozen=True)
class SplitWalk:
    """Reads chains out of a descriptor table [virtio 1.4 §2.7.5]."""

    memory: GuestMemory
    size: int
    desc: int
    indirect: bool
    in_order: bool
    max_chain: int

    def walk(self, head: int) -> Walked:
        """The chain that starts at `head`. DriverBreach where it breaks a rule."""
        found = Walked(Chain(head, 0))
        slot = head
        while True:
            if slot >= self.size:
                raise DriverBreach("descriptor outside the table", slot=slot, size=self.size)
            found.slots.append(slot)
            descriptor = self._fetch(self.desc, slot)
            if descriptor.flags & DescFlags.INDIRECT:
                self._walk_table(found, descriptor, slot)
                break
            self._append(found, descriptor, slot)
            if not descriptor.flags & DescFlags.NEXT:
                break
            if self.in_order and descriptor.next != (slot + 1) % self.size:
                raise DriverBreach(
                    "IN_ORDER: next is not the descriptor behind", slot=slot, next=descriptor.next
                )
            slot = descriptor.next
        found.chain.slots = len(found.slots)
        return found

    def _walk_table(self, found: Walked, pointer: SplitDescriptor, slot: int) -> None:
        # WRITE of the pointing descriptor means nothing [virtio 1.4 §2.7.5.3.2].
        if pointer.flags & DescFlags.NEXT:
            raise DriverBreach("INDIRECT together with NEXT", slot=slot, flags=pointer.flags)
        if not self.indirect:
            raise DriverBreach("INDIRECT without VIRTIO_F_INDIRECT_DESC", slot=slot)
        if pointer.len == 0 or pointer.len % DESC_SIZE:
            raise DriverBreach(
                "indirect table length is 0 or no multiple of 16", slot=slot, len=pointer.len
            )
        found.table = Segment(pointer.addr, pointer.len)
        count = pointer.len // DESC_SIZE
        at = 0
        while True:
            if at >= count:
                raise DriverBreach("next is outside the indirect table", at=at, entries=count)
            entry = self._fetch(pointer.addr, at)
            if entry.flags & DescFlags.INDIRECT:
                raise DriverBreach("INDIRECT inside an indirect table", at=at)
            self._append(found, entry, at)
            if not entry.flags & DescFlags.NEXT:
                break
            if self.in_order and entry.next != at + 1:
                raise DriverBreach(
                    "IN_ORDER: indirect table is not in order", at=at, next=entry.next
                )
            at = entry.next

    def _fetch(self, table: int, at: int) -> SplitDescriptor:
        return SplitDescriptor.decode(self.memory.device_read(table + DESC_SIZE * at, DESC_SIZE))

    def _append(self, found: Walked, descriptor: SplitDescriptor, at: int) -> None:
        found.entries += 1
        if found.entries > min(self.max_chain, self.size):
            raise DriverBreach("chain too long or a loop", at=at, max_chain=self.max_chain)
        chain, segment = found.chain, Segment(descriptor.addr, descriptor.len)
        if descriptor.flags & DescFlags.WRITE:
            chain.writable.append(segment)
        elif chain.writable:
            raise DriverBreach("readable element after a writable one", at=at)
        else:
            chain.readable.append(segment)
        if chain.readable_length + chain.writable_length > CHAIN_BYTES_MAX:
            raise DriverBreach("more than 2^32 bytes in a chain", id=chain.id)
