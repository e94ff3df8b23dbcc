"""Driver side of a packed virtqueue, checking everything that the device does to it."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from typing import Any

from virtio_model.driver.packed_checks import Outstanding, check_used
from virtio_model.driver.packed_events import PackedEvents
from virtio_model.driver.packed_ring import ShadowedRing
from virtio_model.driver.queue import Segment, Used, check_buffer
from virtio_model.errors import QueueFull
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.rings.packed import (
    DESC_SIZE,
    EVENT_SIZE,
    QUEUE_SIZE_MAX,
    DescFlags,
    PackedDescriptor,
    advance,
    avail_bits,
    is_used,
    pack_off_wrap,
)
from virtio_model.spec.packed import DESC_ALIGN, DEVICE_AREA_ALIGN, DRIVER_AREA_ALIGN


class PackedQueue:
    """Driver side of a packed virtqueue [virtio 1.4 §2.8].

    It writes memory in the order of Linux (virtqueue_add_packed), so a device that fetches
    between any two writes sees what it would see under Linux.
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
        shuffle_ids: random.Random | None = None,
    ) -> None:
        """Allocate and grant the three areas.

        `indirect`, `event_idx` and `in_order` say which features were negotiated.
        `max_chain` is the device's limit on a list; queue size unless told.
        `strict` also complains about what drivers ignore in used descriptors (`check_used`).
        `shuffle_ids` draws buffer ids at random, and fills the ids that a device must not read
        (indirect tables, all of a chain but its last descriptor) with noise: in Linux's order
        id and slot coincide for long, and Linux writes the same id into the whole chain.
        """
        if not 1 <= size <= QUEUE_SIZE_MAX:
            raise ValueError(f"queue size {size} is not in 1..{QUEUE_SIZE_MAX}")
        self.memory = memory
        self.size = size
        self.indirect = indirect
        self.in_order = in_order
        self.max_chain = size if max_chain is None else max_chain
        self.strict = strict
        self.frozen = False
        self._allocator = allocator
        self._shuffle = shuffle_ids
        self.desc_addr = allocator.alloc(DESC_SIZE * size, DESC_ALIGN)
        self.driver_addr = allocator.alloc(EVENT_SIZE, DRIVER_AREA_ALIGN)
        self.device_addr = allocator.alloc(EVENT_SIZE, DEVICE_AREA_ALIGN)
        self._ring_windows = [
            memory.grant(self.desc_addr, DESC_SIZE * size, writable=True),
            memory.grant(self.driver_addr, EVENT_SIZE),
            memory.grant(self.device_addr, EVENT_SIZE, writable=True, readable=False),
        ]
        self._ring = ShadowedRing(memory, self.desc_addr, size)
        self._events = PackedEvents(memory, self.driver_addr, self.device_addr, size, event_idx)
        # In the order of adding: IN_ORDER lets one used descriptor stand for all before it.
        self._outstanding: dict[int, Outstanding] = {}
        self._taken: deque[Used] = deque()
        self._start()

    def _start(self) -> None:
        self._ring.clear()
        self._events.clear()
        self._free_ids = list(range(self.size - 1, -1, -1))
        self._free_slots = self.size
        # Both wrap counters start at 1 [virtio 1.4 §2.8.1].
        self._avail = (0, 1)
        self._used = (0, 1)

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
        self._start()
        self.frozen = False
        return cookies

    def close(self) -> list[Any]:
        """`reset`, then give the three areas back. The queue is dead afterwards."""
        cookies = self.reset()
        for window in self._ring_windows:
            self.memory.revoke(window)
        for addr in (self.desc_addr, self.driver_addr, self.device_addr):
            self._allocator.free(addr)
        return cookies

    @property
    def free_slots(self) -> int:
        """Slots that the driver may fill."""
        return self._free_slots

    @property
    def outstanding(self) -> int:
        """Buffers that the device holds."""
        return len(self._outstanding)

    @property
    def avail_position(self) -> tuple[int, int]:
        """Slot and wrap counter of the next descriptor to be made available."""
        return self._avail

    @property
    def used_position(self) -> tuple[int, int]:
        """Where the next used descriptor is due."""
        return self._used

    # Supplying buffers [virtio 1.4 §2.8.21]

    def add(
        self,
        readable: Sequence[tuple[int, int]],
        writable: Sequence[tuple[int, int]],
        cookie: Any = None,
        indirect: bool = False,
    ) -> int:
        """Make a buffer available and return its buffer id.

        Segments are (address, length) pairs; what is readable has been filled in already.
        Raises QueueFull, with nothing written, where the buffer does not fit.
        """
        segments = [(Segment(*segment), 0) for segment in readable]
        segments += [(Segment(*segment), int(DescFlags.WRITE)) for segment in writable]
        check_buffer(self, [segment.length for segment, _ in segments], indirect)
        slots = 1 if indirect else len(segments)
        if slots > self._free_slots:
            raise QueueFull("too few free slots", needed=slots, free=self._free_slots)

        windows = [
            self.memory.grant(*segment, writable=bool(write), readable=not write)
            for segment, write in segments
        ]
        table = None
        chain = segments
        if indirect:
            table, length = self._write_table(segments)
            windows.append(self.memory.grant(table, length))
            chain = [(Segment(table, length), int(DescFlags.INDIRECT))]
        buffer_id = self._take_id()
        capacity = sum(length for _, length in writable)
        self._outstanding[buffer_id] = Outstanding(
            cookie, slots, capacity, bool(writable), windows, table
        )
        self._free_slots -= slots
        self._write_chain(chain, buffer_id)
        return buffer_id

    def _take_id(self) -> int:
        ids = self._free_ids
        if self._shuffle is not None:
            at = self._shuffle.randrange(len(ids))
            ids[at], ids[-1] = ids[-1], ids[at]
        return ids.pop()

    def _unread_id(self, usual: int) -> int:
        return usual if self._shuffle is None else self._shuffle.randrange(1 << 16)

    def _write_table(self, segments: list[tuple[Segment, int]]) -> Segment:
        length = DESC_SIZE * len(segments)
        table = self._allocator.alloc(length, DESC_ALIGN)
        for at, (segment, flags) in enumerate(segments):
            entry = PackedDescriptor(segment.addr, segment.length, self._unread_id(0), flags)
            self.memory.write(table + DESC_SIZE * at, entry.encode())
        return Segment(table, length)

    def _write_chain(self, segments: list[tuple[Segment, int]], buffer_id: int) -> None:
        head = self._avail[0]
        head_flags = 0
        last = len(segments) - 1
        for at, (segment, flags) in enumerate(segments):
            index, wrap = self._avail
            flags |= avail_bits(wrap) | (int(DescFlags.NEXT) if at < last else 0)
            if at == 0:
                head_flags = flags
            else:
                self._ring.write_flags(index, flags)
            shown = buffer_id if at == last else self._unread_id(buffer_id)
            self._ring.write_body(index, PackedDescriptor(*segment, shown, flags))
            self._avail = advance(index, wrap, 1, self.size)
        # The head's flags expose the whole chain, so they come last [virtio 1.4 §2.8.17].
        self._ring.write_flags(head, head_flags)

    # Notifications, both ways [virtio 1.4 §2.8.10, §2.8.21.2]

    def needs_kick(self) -> bool:
        """Whether what was added since the last call needs an available buffer notification."""
        return self._events.needs_kick(self._avail)

    def notification_data(self) -> int:
        """{next_wrap, next_off}: the upper 16 bits of a kick with data [virtio 1.4 §2.9]."""
        return pack_off_wrap(*self._avail)

    def disable_interrupts(self) -> None:
        """Ask for no used buffer notifications. One may still be on its way."""
        self._events.disable()

    def enable_interrupts(self, after: int = 0) -> bool:
        """Ask for used buffer notifications; True if used buffers already wait.

        With EVENT_IDX, for the used descriptor `after` slots beyond the one due next.
        """
        self._events.enable(advance(*self._used, after, self.size))
        return bool(self._taken) or self._ring.peek_used(*self._used) is not None

    # Receiving used buffers [virtio 1.4 §2.8.22]

    def poll(self) -> Used | None:
        """The next used buffer, or None. Raises DeviceBreach where the device broke a rule."""
        if self._taken:
            return self._taken.popleft()
        used = self._ring.peek_used(*self._used)
        if used is None:
            return None
        check_used(self._ring, self._used, used, self._outstanding, strict=self.strict)
        returned = self._returned(used.id, self._outstanding)
        slots = sum(self._outstanding[buffer_id].slots for buffer_id in returned)
        index, wrap = self._used
        self._ring.check_untouched(
            advance(index, wrap, skipped, self.size)[0] for skipped in range(1, slots)
        )
        self._ring.accept(index, used)
        self._used = advance(index, wrap, slots, self.size)
        self._free_slots += slots
        self._events.follow(self._used)
        for buffer_id in returned:
            buffer = self._outstanding.pop(buffer_id)
            self._release(buffer)
            self._free_ids.append(buffer_id)
            # Buffers skipped by an IN_ORDER batch were used completely [virtio 1.4 §2.8.8].
            length = used.len if buffer_id == used.id else buffer.capacity
            self._taken.append(Used(buffer.cookie, buffer_id, length))
        return self._taken.popleft()

    def _returned(self, buffer_id: int, outstanding: dict[int, Outstanding]) -> list[int]:
        """The buffers that a used descriptor with this id stands for."""
        if not self.in_order:
            return [buffer_id]
        order = list(outstanding)
        return order[: order.index(buffer_id) + 1]

    def _release(self, buffer: Outstanding) -> None:
        for window in buffer.windows:
            self.memory.revoke(window)
        if buffer.table is not None:
            self._allocator.free(buffer.table)

    def audit(self) -> None:
        """Check every slot of the ring; to be called while the device is quiet.

        Used descriptors that wait to be polled are followed as `poll` would follow them; every
        other slot must hold exactly what the driver left in it.
        """
        waiting: set[int] = set()
        position = self._used
        held = dict(self._outstanding)
        while held:
            used = self._ring.slot(position[0])
            if not is_used(used.flags, position[1]) or used.id not in held:
                break
            waiting.add(position[0])
            slots = sum(held.pop(buffer_id).slots for buffer_id in self._returned(used.id, held))
            position = advance(*position, slots, self.size)
        self._ring.check_untouched(index for index in range(self.size) if index not in waiting)
