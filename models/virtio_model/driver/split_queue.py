"""Driver side of a split virtqueue, checking everything that the device does to it."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from typing import Any

from virtio_model.driver.free_list import FreeList, FreePolicy
from virtio_model.driver.queue import Segment, Used, check_buffer
from virtio_model.driver.split_checks import SplitOutstanding, check_used, check_used_idx
from virtio_model.driver.split_events import SplitEvents
from virtio_model.driver.split_rings import SplitRings
from virtio_model.driver.split_table import DrawnTable, Element, PlainTable, link
from virtio_model.errors import QueueFull
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.rings.split import (
    DESC_ALIGN,
    DESC_SIZE,
    INDEX_MASK,
    DescFlags,
    check_size,
    moved,
)


class SplitQueue:
    """Driver side of a split virtqueue [virtio 1.4 §2.7].

    It writes memory in the order of Linux (virtqueue_add_split): descriptors, the entry of the
    available ring, then idx. Its interface is that of `PackedQueue`.
    """

    def __init__(
        self,
        memory: GuestMemory,
        allocator: Allocator,
        size: int,
        *,
        indirect: bool = True,
        event_idx: bool = False,
        in_order: bool = False,
        max_chain: int | None = None,
        strict: bool = True,
        policy: FreePolicy | None = None,
        mixed: bool = False,
        shuffle_ids: random.Random | None = None,
    ) -> None:
        """Allocate and grant the three areas.

        `indirect`, `event_idx` and `in_order` say which features were negotiated.
        `max_chain` is the device's limit on a list; queue size unless told.
        `strict` also complains about used.flags that drivers ignore (`SplitEvents`).
        `policy` chooses free descriptors (`FreePolicy`); unless told, fifo with IN_ORDER, else
        random with `shuffle_ids`, else linux.
        `mixed`: an indirect buffer of `shuffle_ids` may keep some elements in front of its table.
        `shuffle_ids` draws what a driver is free to choose and a device must not care about: the
        order of indirect tables, entries behind their end, `next` where NEXT is clear, WRITE on
        the descriptor of a table.
        """
        check_size(size)
        if in_order and policy not in (None, "fifo"):
            raise ValueError("IN_ORDER takes the descriptor table in order: policy fifo")
        self.memory = memory
        self.size = size
        self.indirect = indirect
        self.in_order = in_order
        self.max_chain = size if max_chain is None else max_chain
        self.strict = strict
        self.frozen = False
        self._allocator = allocator
        self._mixed = mixed
        self._draw = shuffle_ids
        if policy is None:
            policy = "fifo" if in_order else "linux" if shuffle_ids is None else "random"
        self._free = FreeList(size, policy, shuffle_ids or random.Random(0))
        self._table = PlainTable() if shuffle_ids is None else DrawnTable(shuffle_ids, in_order)
        self._rings = SplitRings(memory, allocator, size)
        self.desc_addr = self._rings.desc_addr
        self.driver_addr = self._rings.avail_addr
        self.device_addr = self._rings.used_addr
        self._events = SplitEvents(self._rings, event_idx)
        # In the order of adding: IN_ORDER lets one used element stand for all before it.
        self._outstanding: dict[int, SplitOutstanding] = {}
        self._taken: deque[Used] = deque()
        self._avail = 0
        self._used = 0
        self._seen = 0

    def reset(self) -> list[Any]:
        """Take all buffers back after a device or queue reset and start over.

        Returns the cookies of the buffers that had not come back, oldest first.
        """
        cookies = [used.cookie for used in self._taken]
        for buffer in self._outstanding.values():
            self._release(buffer)
            cookies.append(buffer.cookie)
        self._outstanding.clear()
        self._taken.clear()
        self._free.refill(range(self.size))
        self._rings.clear()
        self._events.clear()
        self._avail = self._used = self._seen = 0
        self.frozen = False
        return cookies

    def close(self) -> list[Any]:
        """`reset`, then give the three areas back. The queue is dead afterwards."""
        cookies = self.reset()
        self._rings.close()
        return cookies

    @property
    def free_slots(self) -> int:
        """Entries of the descriptor table that the driver may fill."""
        return len(self._free)

    @property
    def outstanding(self) -> int:
        """Buffers that the device holds."""
        return len(self._outstanding)

    @property
    def avail_index(self) -> int:
        """Available index of the next buffer, modulo 2^16."""
        return self._avail

    @property
    def used_index(self) -> int:
        """Used index of the next used element, modulo 2^16."""
        return self._used

    # Supplying buffers [virtio 1.4 §2.7.13]

    def add(
        self,
        readable: Sequence[tuple[int, int]],
        writable: Sequence[tuple[int, int]],
        cookie: Any = None,
        indirect: bool = False,
    ) -> int:
        """Make a buffer available and return its id, the head of its chain.

        Segments are (address, length) pairs; what is readable has been filled in already.
        Raises QueueFull, with nothing written, where the buffer does not fit.
        """
        elements = [Element(Segment(*segment), 0) for segment in readable]
        elements += [Element(Segment(*segment), int(DescFlags.WRITE)) for segment in writable]
        check_buffer(self, [segment.length for segment, _ in elements], indirect)
        direct = self._direct(len(elements)) if indirect else len(elements)
        slots = direct + indirect
        if slots > len(self._free):
            raise QueueFull("too few free slots", needed=slots, free=len(self._free))
        windows = [
            self.memory.grant(*segment, writable=bool(flags), readable=not flags)
            for segment, flags in elements
        ]
        table = None
        chain = elements[:direct]
        if indirect:
            table, length = self._write_table(elements[direct:])
            windows.append(self.memory.grant(table, length))
            flags = int(DescFlags.INDIRECT) | self._table.pointer_flags()
            chain.append(Element(Segment(table, length), flags))
        where = self._free.take(slots)
        capacity = sum(length for _, length in writable)
        self._outstanding[where[0]] = SplitOutstanding(
            cookie, where, capacity, bool(writable), windows, table
        )
        for slot, descriptor in link(chain, where, self._table.unread_next):
            self._rings.write_descriptor(slot, descriptor)
        self._rings.write_avail_entry(self._avail, where[0])
        self._avail = (self._avail + 1) & INDEX_MASK
        # The index exposes the entry and all behind it, so it comes last [virtio 1.4 §2.7.13.3].
        self._rings.write_avail_idx(self._avail)
        return where[0]

    def _direct(self, count: int) -> int:
        """How many elements of an indirect buffer stay in front of its table."""
        if self._draw is None or not self._mixed or count >= self.max_chain:
            return 0
        return self._draw.randint(0, max(0, min(count, len(self._free)) - 1))

    def _write_table(self, elements: Sequence[Element]) -> Segment:
        entries = self._table.entries(elements, self.max_chain)
        length = DESC_SIZE * len(entries)
        table = self._allocator.alloc(length, DESC_ALIGN)
        for at, entry in enumerate(entries):
            self.memory.write(table + DESC_SIZE * at, entry.encode())
        return Segment(table, length)

    # Notifications, both ways [virtio 1.4 §2.7.7, §2.7.10]

    def needs_kick(self) -> bool:
        """Whether what was added since the last call needs an available buffer notification."""
        return self._events.needs_kick(self._avail, strict=self.strict)

    def notification_data(self) -> int:
        """The available index: the upper 16 bits of a kick with data [virtio 1.4 §2.9]."""
        return self._avail

    def disable_interrupts(self) -> None:
        """Ask for no used buffer notifications. One may still be on its way."""
        self._events.disable(self._used)

    def enable_interrupts(self, after: int = 0) -> bool:
        """Ask for used buffer notifications; True if used buffers already wait.

        With EVENT_IDX, for the used element `after` places beyond the one due next.
        """
        self._events.enable(self._used + after)
        return bool(self._taken) or self._rings.used_idx() != self._used

    # Receiving used buffers [virtio 1.4 §2.7.14]

    def poll(self) -> Used | None:
        """The next used buffer, or None. Raises DeviceBreach where the device broke a rule."""
        if self._taken:
            return self._taken.popleft()
        self._look()
        if self._seen == self._used:
            return None
        used = self._rings.final_element(self._used)
        check_used(self._rings, self._used, used, self._outstanding)
        returned = self._returned(used.id)
        if len(returned) > moved(self._used, self._seen):
            self._rings.breach(
                "used element stands for more buffers than used idx shows",
                self._used,
                buffers=len(returned),
            )
        self._used = (self._used + len(returned)) & INDEX_MASK
        self._events.follow(self._used)
        for buffer_id in returned:
            buffer = self._outstanding.pop(buffer_id)
            self._release(buffer)
            self._free.give(buffer.slots)
            # Buffers skipped by an IN_ORDER batch were used completely [virtio 1.4 §2.7.9].
            length = used.len if buffer_id == used.id else buffer.capacity
            self._taken.append(Used(buffer.cookie, buffer_id, length))
        return self._taken.popleft()

    def _look(self) -> None:
        """Take over where used idx stands now."""
        found = self._rings.used_idx()
        if found == self._seen:
            return
        check_used_idx(self._used, self._seen, found, len(self._outstanding))
        self._rings.show(self._seen, found)
        self._seen = found

    def _returned(self, buffer_id: int) -> list[int]:
        """The buffers that a used element with this id stands for."""
        if not self.in_order:
            return [buffer_id]
        order = list(self._outstanding)
        return order[: order.index(buffer_id) + 1]

    def _release(self, buffer: SplitOutstanding) -> None:
        for window in buffer.windows:
            self.memory.revoke(window)
        if buffer.table is not None:
            self._allocator.free(buffer.table)

    def audit(self) -> None:
        """Check the three areas; to be called while the device is quiet.

        Used elements behind used idx, as far as buffers are outstanding, may hold anything.
        """
        self._look()
        if self.strict:
            self._events.check_flags()
        shown = moved(self._used, self._seen)
        self._rings.check_untouched(self._seen, len(self._outstanding) - shown)
