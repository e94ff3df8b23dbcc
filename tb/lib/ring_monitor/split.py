"""Watching a split virtqueue [virtio 1.4 §2.7]."""

from __future__ import annotations

import struct

from lib.ring_monitor.buffers import Buffer, Element
from lib.ring_monitor.queue import Event, Mode, QueueSetup, Shared, WatchedQueue
from lib.ring_monitor.regions import Kind
from virtio_model.spec.features import Feature
from virtio_model.spec.split import (
    AVAIL_ELEM_SIZE,
    DESC_SIZE,
    RING_OFFSET,
    USED_ELEM_SIZE,
    DescFlags,
    avail_event_offset,
    avail_size,
    used_event_offset,
    used_size,
)

__all__ = ["SplitWatch"]

_DESC = struct.Struct("<QIHH")
_IDX_AT = 2
_CIRCLE = 1 << 16


class SplitWatch(WatchedQueue):
    """A split virtqueue.

    Positions are ring entries counted since the virtqueue was enabled; idx is their low 16 bits.
    """

    circle = _CIRCLE
    rows = {
        "framing": "drv-split-framing-01",
        "too long": "drv-split-desc-01",
        "chain": "drv-split-indirect-03",
        "twice": "fact-split-ring-03",
        "id": "fact-split-ring-03",
        "length": "split-used-02",
        "payload": "split-used-02",
        "batch": "fact-split-inorder-01",
        "not exposed": "split-supply-01",
        "readable": "split-desc-01",
        "writable": "split-desc-02",
        "driver area": "split-desc-04",
        "silence": "split-usednotif-02",
        "silence event": "split-usednotif-06",
        "due": "split-usednotif-03",
        "due event": "split-usednotif-05",
        "kick silence": "drv-split-availnotif-03",
        "kick silence event": "drv-split-availnotif-07",
        "kick due": "drv-split-availnotif-04",
        "kick due event": "drv-split-availnotif-06",
    }

    def __init__(self, setup: QueueSetup, shared: Shared) -> None:
        super().__init__(setup, shared)
        self._fresh: dict[int, int] = {}
        row = "drv-split-align-01"
        self.add_area(Kind.DESC, setup.desc, DESC_SIZE * self.size, 16, row)
        self.add_area(Kind.DRIVER_AREA, setup.driver_area, avail_size(self.size), 2, row)
        self.add_area(Kind.DEVICE_AREA, setup.device_area, used_size(self.size), 4, row)
        if self.size & (self.size - 1):
            self.driver_breach("fact-split-ring-01", f"size {self.size} is no power of two")

    # The driver's writes

    def start(self) -> None:
        if self.memory.read_u16(self.setup.device_area):
            self.driver_breach("drv-split-availnotif-01", "used.flags is not 0 to begin with")
        self._take_available()

    def driver_wrote(self, kind: Kind, at: int, old: bytes, new: bytes) -> None:
        end = at + len(new)
        if kind is Kind.DESC:
            for slot in range(at // DESC_SIZE, (end - 1) // DESC_SIZE + 1):
                if slot in self.owner and old != new:
                    text = f"descriptor {slot} changed while it is available"
                    self.driver_breach("drv-init-cleanup-01", text, lost=True)
                    return
        elif kind is Kind.DRIVER_AREA:
            self._driver_wrote_ring(at, end, old != new)

    def _driver_wrote_ring(self, at: int, end: int, changed: bool) -> None:
        if at < 2:
            flags = self.memory.read_u16(self.setup.driver_area)
            if flags > 1:
                self.driver_breach("drv-split-usednotif-01", f"avail.flags is {flags:#x}")
            elif flags and self.has(Feature.EVENT_IDX):
                self.driver_breach("drv-split-usednotif-03", "avail.flags 1 with EVENT_IDX")
            self.shared.wished(self, False)
        if end > used_event_offset(self.size):
            self.shared.wished(self, False)
        for buffer in self.buffers.values() if changed else ():
            where = RING_OFFSET + AVAIL_ELEM_SIZE * buffer.ring_slot
            if at < where + AVAIL_ELEM_SIZE and where < end:
                text = f"avail.ring[{buffer.ring_slot}] written behind avail.idx"
                self.driver_breach("drv-split-supply-04", text, lost=True)
                return
        if at < _IDX_AT + 2 and end > _IDX_AT:
            self._take_available()

    def _take_available(self) -> None:
        area = self.setup.driver_area
        step = (self.memory.read_u16(area + _IDX_AT) - self.avail) % _CIRCLE
        if step > self.size - len(self.buffers):
            back = step > _CIRCLE // 2
            text = (
                f"avail.idx went {'back' if back else 'on'} by {_CIRCLE - step if back else step}"
            )
            self.driver_breach("drv-split-avail-01", text, lost=True)
            return
        old = self.avail
        for position in range(old, old + step):
            slot = position % self.size
            head = self.memory.read_u16(area + RING_OFFSET + AVAIL_ELEM_SIZE * slot)
            buffer = self._walk(head)
            if buffer is None:
                return
            buffer.ring_slot = slot
            self.avail += 1
            self.expose(buffer)
        if step:
            self.shared.advanced(self, old, self.avail, False)

    def _bad(self, row: str, text: str) -> Buffer | None:
        """Note a breach that loses the ring; there is no buffer then."""
        self.driver_breach(row, text, lost=True)
        return None

    def _walk(self, head: int) -> Buffer | None:
        """The chain that starts at `head`; None if the driver broke it."""
        buffer = Buffer(head, [])
        at = head
        while True:
            if at >= self.size:
                return self._bad("fact-split-ring-01", f"descriptor {at} of {self.size}")
            if at in self.owner:
                return self._bad("drv-init-cleanup-01", f"descriptor {at} is still available")
            if at in buffer.slots:
                return self._bad("drv-split-desc-01", f"the chain of {head} loops to {at}")
            buffer.slots.append(at)
            entry = self.memory.read(self.setup.desc + DESC_SIZE * at, DESC_SIZE)
            address, length, flags, after = _DESC.unpack(entry)
            if flags & DescFlags.INDIRECT:
                if flags & DescFlags.NEXT:
                    return self._bad("drv-split-indirect-04", f"INDIRECT and NEXT in {at}")
                return buffer if self._table(buffer, address, length) else None
            buffer.elements.append(Element(address, length, bool(flags & DescFlags.WRITE)))
            if not flags & DescFlags.NEXT:
                return buffer
            if self.has(Feature.IN_ORDER) and after != (at + 1) % self.size:
                self.driver_breach("drv-split-desc-02", f"next of {at} is {after}")
            at = after

    def _table(self, buffer: Buffer, address: int, length: int) -> bool:
        """Follow an indirect table; False if the driver broke it."""
        if not self.has(Feature.INDIRECT_DESC):
            self._bad("drv-split-indirect-01", "INDIRECT was not negotiated")
        elif length % DESC_SIZE or not length:
            self._bad("fact-split-indirect-01", f"indirect table of {length} bytes")
        else:
            buffer.tables.append((address, length))
            table = list(_DESC.iter_unpack(self.memory.read(address, length)))
            return self._follow(buffer, table)
        return False

    def _follow(self, buffer: Buffer, table: list[tuple[int, ...]]) -> bool:
        seen: set[int] = set()
        at = 0
        while True:
            if at >= len(table):
                self._bad("fact-split-indirect-01", f"entry {at} of {len(table)} in a table")
                return False
            if at in seen:
                self._bad("drv-split-desc-01", f"an indirect table loops to entry {at}")
                return False
            seen.add(at)
            address, length, flags, after = table[at]
            if flags & DescFlags.INDIRECT:
                self._bad("drv-split-indirect-02", f"INDIRECT in entry {at} of a table")
                return False
            buffer.elements.append(Element(address, length, bool(flags & DescFlags.WRITE)))
            if not flags & DescFlags.NEXT:
                return True
            if self.has(Feature.IN_ORDER) and after != at + 1:
                self.driver_breach("drv-split-indirect-05", f"next of table entry {at} is {after}")
            at = after

    # The device's writes

    def device_wrote(self, kind: Kind, at: int, length: int) -> None:
        end = at + length
        area = self.setup.device_area
        if at < 2:
            self._check_flags(self.memory.read_u16(area))
            self.shared.wished(self, True)
        # Within one write the idx may be seen first: its elements must have been there before.
        if at < _IDX_AT + 2 and end > _IDX_AT:
            self._take_used(self.memory.read_u16(area + _IDX_AT))
        first = max(at - RING_OFFSET, 0) // USED_ELEM_SIZE
        behind = min(-(-(end - RING_OFFSET) // USED_ELEM_SIZE), self.size)
        for slot in range(first, behind):
            start = RING_OFFSET + USED_ELEM_SIZE * slot
            self._fresh[slot] = self._fresh.get(slot, 0) | self._halves(at, end, start)
        if end > avail_event_offset(self.size):
            self.shared.wished(self, True)

    @staticmethod
    def _halves(at: int, end: int, start: int) -> int:
        """Which of id (1) and len (2) of an element a write has reached."""
        return int(at < start + 4) | int(end > start + 4) << 1

    def _check_flags(self, flags: int) -> None:
        if flags > 1:
            self.device_breach("split-availnotif-01", f"used.flags is {flags:#x}")
        elif flags and self.has(Feature.EVENT_IDX):
            self.device_breach("split-availnotif-03", "used.flags is 1 with EVENT_IDX")

    def _take_used(self, idx: int) -> None:
        step = (idx - self.used) % _CIRCLE
        if step > len(self.buffers):
            text = f"used.idx went on by {step}, with {len(self.buffers)} buffers outstanding"
            self.device_breach("fact-split-ring-02", text)
            self.lost = True
            return
        old, target = self.used, self.used + step
        while self.used < target:
            slot = self.used % self.size
            if self._fresh.pop(slot, 0) != 3:
                self.device_breach("split-used-01", f"used.idx before used.ring[{slot}]")
                self.lost = True
                return
            where = self.setup.device_area + RING_OFFSET + USED_ELEM_SIZE * slot
            batch = self.batch(self.memory.read_u32(where))
            if not batch:
                self.lost = True
                return
            if self.used + len(batch) > target:
                text = f"used.idx stops within a batch of {len(batch)}"
                self.device_breach("fact-split-inorder-01", text)
                self.lost = True
                return
            self.finish_used(batch, self.memory.read_u32(where + 4))
            self.used += len(batch)
        if target > old:
            self.shared.advanced(self, old, self.used, True)

    # Event suppression [virtio 1.4 §2.7.7, §2.7.10]

    def _wishes(self, area: int, event_at: int) -> Event:
        if self.has(Feature.EVENT_IDX):
            return Event(Mode.EVENT, self.memory.read_u16(area + event_at))
        return Event(Mode.NEVER if self.memory.read_u16(area) & 1 else Mode.ALWAYS)

    def driver_wishes(self) -> Event:
        return self._wishes(self.setup.driver_area, used_event_offset(self.size))

    def device_wishes(self) -> Event:
        return self._wishes(self.setup.device_area, avail_event_offset(self.size))

    def kick_data(self) -> int:
        return self.avail % _CIRCLE
