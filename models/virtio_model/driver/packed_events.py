"""Event suppression of a packed virtqueue, driver side [virtio 1.4 §2.8.10]."""

from __future__ import annotations

from virtio_model.errors import DeviceBreach
from virtio_model.memory import GuestMemory
from virtio_model.rings.packed import (
    EVENT_FLAGS_MASK,
    EVENT_SIZE,
    EventFlags,
    EventSuppression,
    event_reached,
    pack_off_wrap,
)

Position = tuple[int, int]


class PackedEvents:
    """Writes the driver area, reads the device area."""

    def __init__(
        self, memory: GuestMemory, driver_addr: int, device_addr: int, size: int, event_idx: bool
    ) -> None:
        self.memory = memory
        self.driver_addr = driver_addr
        self.device_addr = device_addr
        self.size = size
        self.event_idx = event_idx
        self._flags = EventFlags.ENABLE
        self._kicked: Position = (0, 1)
        self.clear()

    def clear(self) -> None:
        """Both structures zero (notifications enabled), nothing kicked."""
        self.memory.write(self.driver_addr, bytes(EVENT_SIZE))
        self.memory.write(self.device_addr, bytes(EVENT_SIZE))
        self._flags = EventFlags.ENABLE
        self._kicked = (0, 1)

    def needs_kick(self, avail: Position) -> bool:
        """Whether the progress to `avail` since the last call needs a notification."""
        event = EventSuppression.decode(self.memory.read(self.device_addr, EVENT_SIZE))
        old, self._kicked = self._kicked, avail
        if event.flags & ~EVENT_FLAGS_MASK:
            raise DeviceBreach(
                "reserved bits set in the device event suppression flags", flags=event.flags
            )
        if event.flags == EventFlags.DESC:
            if not self.event_idx:
                raise DeviceBreach(
                    "device asks for DESC events without VIRTIO_F_EVENT_IDX", flags=event.flags
                )
            if event.offset >= self.size:
                raise DeviceBreach(
                    "device event offset is outside the ring", offset=event.offset, size=self.size
                )
            return event_reached((event.offset, event.wrap), old, avail, self.size)
        if event.flags not in (EventFlags.ENABLE, EventFlags.DISABLE):
            raise DeviceBreach(
                "reserved value in the device event suppression flags", flags=event.flags
            )
        return event.flags == EventFlags.ENABLE

    def disable(self) -> None:
        self._write_flags(EventFlags.DISABLE)

    def enable(self, event: Position) -> None:
        """Ask for notifications; with EVENT_IDX, for the used descriptor at `event`."""
        if self.event_idx:
            self._write_position(event)
            self._write_flags(EventFlags.DESC)
        else:
            self._write_flags(EventFlags.ENABLE)

    def follow(self, used: Position) -> None:
        """Move the event on after a used buffer was taken, as Linux does on every one."""
        if self._flags == EventFlags.DESC:
            self._write_position(used)

    def _write_position(self, event: Position) -> None:
        self.memory.write_u16(self.driver_addr, pack_off_wrap(*event))

    def _write_flags(self, flags: EventFlags) -> None:
        self._flags = flags
        self.memory.write_u16(self.driver_addr + 2, flags)
