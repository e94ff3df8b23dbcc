"""Watching a packed virtqueue [virtio 1.4 §2.8]."""

from __future__ import annotations

import struct

from lib.ring_monitor.buffers import Buffer, Element
from lib.ring_monitor.queue import Event, Mode, QueueSetup, Shared, WatchedQueue
from lib.ring_monitor.regions import Kind
from virtio_model.spec.features import Feature
from virtio_model.spec.packed import DESC_SIZE, EVENT_SIZE, DescFlags

__all__ = ["PackedWatch"]

_DESC = struct.Struct("<QIHH")
_EVENT = struct.Struct("<HH")
_FLAGS_AT = 14
_BOTH = DescFlags.AVAIL | DescFlags.USED


class PackedWatch(WatchedQueue):
    """A packed virtqueue.

    Positions are descriptors counted since the virtqueue was enabled; slot and wrap counter
    follow from them. A used descriptor is looked at when its flags have been written and its
    turn has come: a device may write later ones first.
    """

    rows = {
        "framing": "drv-packed-sg-03",
        "chain": "drv-packed-sg-02",
        "twice": "packed-desc-04",
        "id": "fact-packed-ring-05",
        "length": "fact-packed-ring-04",
        "payload": "fact-basic-virtqueue-01",
        "batch": "fact-packed-inorder-01",
        "not exposed": "packed-supply-01",
        "readable": "packed-desc-01",
        "writable": "packed-desc-02",
        "driver area": "fact-packed-event-03",
        "silence": "fact-packed-event-01",
        "silence event": "fact-packed-event-02",
        "due": "fact-packed-event-01",
        "due event": "fact-packed-event-02",
        "kick silence": "fact-packed-event-01",
        "kick silence event": "fact-packed-event-02",
        "kick due": "fact-packed-event-01",
        "kick due event": "fact-packed-event-02",
    }

    def __init__(self, setup: QueueSetup, shared: Shared) -> None:
        super().__init__(setup, shared)
        self.circle = 2 * self.size
        self._touched: dict[int, float] = {}
        row = "drv-packed-align-01"
        self.add_area(Kind.DESC, setup.desc, DESC_SIZE * self.size, 16, row)
        self.add_area(Kind.DRIVER_AREA, setup.driver_area, EVENT_SIZE, 4, row)
        self.add_area(Kind.DEVICE_AREA, setup.device_area, EVENT_SIZE, 4, row)

    def _slot(self, position: int) -> tuple[int, int]:
        """Slot and wrap counter; both wrap counters start at 1."""
        return position % self.size, 1 ^ position // self.size % 2

    def _desc(self, slot: int) -> tuple[int, int, int, int]:
        found = self.memory.read(self.setup.desc + DESC_SIZE * slot, DESC_SIZE)
        address, length, buffer_id, flags = _DESC.unpack(found)
        return address, length, buffer_id, flags

    def _busy(self, slot: int) -> bool:
        """Whether a slot lies between used and available: the device's to write.

        Not whose descriptors they were: used ones go to the used position, out of order too.
        """
        return (slot - self.used) % self.size < self.avail - self.used

    @staticmethod
    def _bits(flags: int) -> tuple[int, int]:
        return int(bool(flags & DescFlags.AVAIL)), int(bool(flags & DescFlags.USED))

    # The driver's writes

    def start(self) -> None:
        self._take_available()

    def driver_wrote(self, kind: Kind, at: int, old: bytes, new: bytes) -> None:
        if kind is Kind.DRIVER_AREA:
            self._check_event(by_device=False)
            self.shared.wished(self, False)
            return
        if kind is not Kind.DESC:
            return
        for slot in range(at // DESC_SIZE, (at + len(new) - 1) // DESC_SIZE + 1):
            if self._busy(slot) and old != new:
                newest = slot in next(reversed(self.buffers.values())).slots
                body = at % DESC_SIZE < _FLAGS_AT
                if self._slot(self.avail)[0] == slot:
                    row, text = "drv-packed-desc-01", "made available again, not yet used"
                elif newest and body:
                    row, text = "drv-packed-supply-02", "body written behind the flags"
                else:
                    row, text = "drv-packed-desc-02", "changed while it is available"
                self.driver_breach(row, f"descriptor {slot} {text}", lost=True)
                return
        self._take_available()

    def _take_available(self) -> None:
        while not self.lost:
            slot, wrap = self._slot(self.avail)
            flags = self._desc(slot)[3]
            if self._busy(slot) or self._bits(flags) != (wrap, 1 ^ wrap):
                return
            buffer = self._walk()
            if buffer is None:
                return
            old = self.avail
            self.avail += len(buffer.slots)
            self.expose(buffer)
            self.shared.advanced(self, old, self.avail, False)

    def _walk(self) -> Buffer | None:
        """The buffer whose head is next; None if the driver broke it."""
        buffer = Buffer(0, [])
        while True:
            slot, wrap = self._slot(self.avail + len(buffer.slots))
            address, length, buffer.id, flags = self._desc(slot)
            if self._bits(flags) != (wrap, 1 ^ wrap):
                self.driver_breach(
                    "drv-packed-sg-06", f"head is available before descriptor {slot}", lost=True
                )
                return None
            if self._busy(slot) or slot in buffer.slots:
                self.driver_breach("drv-packed-sg-02", "list longer than the ring", lost=True)
                return None
            buffer.slots.append(slot)
            if flags & DescFlags.INDIRECT:
                if len(buffer.slots) > 1 or flags & DescFlags.NEXT:
                    row, text = "drv-packed-indirect-04", f"INDIRECT and NEXT at slot {slot}"
                    self.driver_breach(row, text, lost=True)
                    return None
                if not self._table(buffer, address, length):
                    return None
            else:
                writable = bool(flags & DescFlags.WRITE)
                buffer.elements.append(Element(address, length, writable))
            if not flags & DescFlags.NEXT:
                break
        if buffer.id in self.buffers:
            self.driver_breach("fact-packed-ring-05", f"id {buffer.id} is outstanding", lost=True)
            return None
        return buffer

    def _table(self, buffer: Buffer, address: int, length: int) -> bool:
        """Read an indirect table; False if the driver broke it."""
        if not self.has(Feature.INDIRECT_DESC):
            self.driver_breach("drv-packed-indirect-01", "INDIRECT was not negotiated", lost=True)
            return False
        if length % DESC_SIZE or not length:
            row, text = "fact-packed-indirect-01", f"indirect table of {length} bytes"
            self.driver_breach(row, text, lost=True)
            return False
        if length // DESC_SIZE > (self.shared.max_chain or self.size):
            row, text = "drv-packed-indirect-03", f"indirect table of {length} bytes"
            self.driver_breach(row, text, lost=True)
            return False
        buffer.tables.append((address, length))
        for entry in _DESC.iter_unpack(self.memory.read(address, length)):
            if entry[3] & ~DescFlags.WRITE:
                row, text = "drv-packed-indirect-02", f"flags {entry[3]:#x} in an indirect table"
                self.driver_breach(row, text)
            buffer.elements.append(Element(entry[0], entry[1], bool(entry[3] & DescFlags.WRITE)))
        return True

    # The device's writes

    def device_wrote(self, kind: Kind, at: int, length: int) -> None:
        if kind is Kind.DEVICE_AREA:
            self._check_event(by_device=True)
            self.shared.wished(self, True)
            return
        for slot in range(at // DESC_SIZE, (at + length - 1) // DESC_SIZE + 1):
            if not self._busy(slot):
                self.device_breach("packed-desc-04", f"wrote descriptor {slot}, which it gave back")
            elif at + length > DESC_SIZE * slot + _FLAGS_AT:
                self._touched.setdefault(slot, self.shared.report.now())
        self._take_used()

    def _take_used(self) -> None:
        while True:
            slot, wrap = self._slot(self.used)
            if slot not in self._touched:
                return
            _, length, buffer_id, flags = self._desc(slot)
            if self._bits(flags) == (wrap, 1 ^ wrap):
                del self._touched[slot]  # rewritten as it was
                return
            del self._touched[slot]
            if self._bits(flags) != (wrap, wrap):
                self.device_breach(
                    "fact-packed-ring-03", f"flags {flags:#06x} at slot {slot}, wrap counter {wrap}"
                )
                self.lost = True
                return
            if flags & ~(_BOTH | DescFlags.WRITE):
                self.device_breach("fact-packed-ring-03", f"used flags {flags:#06x}")
            if not self._finish(slot, buffer_id, length, bool(flags & DescFlags.WRITE)):
                return

    def _finish(self, slot: int, buffer_id: int, length: int, wrote: bool) -> bool:
        """A used descriptor's turn has come; False if it says nothing that can be followed."""
        batch = self.batch(buffer_id)
        if not batch:
            self.lost = True
            return False
        if wrote and not batch[-1].capacity:
            self.device_breach("fact-packed-ring-04", "WRITE set, but nothing is writable")
        if not wrote and length:
            self.device_breach("fact-packed-ring-04", f"len {length} although WRITE is clear")
        count = sum(len(buffer.slots) for buffer in batch)
        for skipped in range(self.used + 1, self.used + count):
            if self._touched.pop(skipped % self.size, None) is not None:
                text = f"slot {skipped % self.size} is inside the list of buffer {buffer_id}"
                self.device_breach("fact-packed-ring-06", text)
        self.finish_used(batch, length if wrote else 0)
        old = self.used
        self.used += count
        self.shared.advanced(self, old, self.used, True)
        return True

    def audit(self) -> None:
        for slot in self._touched:
            text = f"used descriptor in slot {slot}, due in slot {self._slot(self.used)[0]}"
            self.device_breach("fact-packed-ring-06", text)
        self._touched.clear()

    # Event suppression [virtio 1.4 §2.8.10]

    def _event(self, address: int) -> tuple[int, int]:
        place, flags = _EVENT.unpack(self.memory.read(address, EVENT_SIZE))
        return place, flags

    def _check_event(self, *, by_device: bool) -> None:
        breach = self.device_breach if by_device else self.driver_breach
        area = self.setup.device_area if by_device else self.setup.driver_area
        place, flags = self._event(area)
        if flags & ~3:
            breach("fact-packed-event-03", f"reserved bits in event flags {flags:#06x}")
        elif flags == 3 or (flags == 2 and not self.has(Feature.EVENT_IDX)):
            breach("fact-packed-event-01", f"event flags {flags}")
        elif flags == 2 and place & 0x7FFF >= self.size:
            breach("fact-packed-event-02", f"event for slot {place & 0x7FFF} of {self.size}")

    def _wishes(self, area: int) -> Event:
        place, flags = self._event(area)
        if flags & 3 != 2:
            return Event(Mode.NEVER if flags & 3 == 1 else Mode.ALWAYS)
        # Two laps tell every slot with its wrap counter apart; the first lap has wrap 1.
        return Event(Mode.EVENT, (place & 0x7FFF) + (0 if place >> 15 else self.size))

    def driver_wishes(self) -> Event:
        return self._wishes(self.setup.driver_area)

    def device_wishes(self) -> Event:
        return self._wishes(self.setup.device_area)

    def kick_data(self) -> int:
        slot, wrap = self._slot(self.avail)
        return slot | wrap << 15
