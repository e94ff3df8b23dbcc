"""Notifications of a split virtqueue, driver side [virtio 1.4 §2.7.7, §2.7.10]."""

from __future__ import annotations

from virtio_model.driver.split_rings import SplitRings
from virtio_model.errors import DeviceBreach
from virtio_model.rings.split import (
    AVAIL_NO_INTERRUPT,
    INDEX_MASK,
    USED_NO_NOTIFY,
    need_event,
)


class SplitEvents:
    """Asks for interrupts in the available ring; finds in the used ring whether to kick."""

    def __init__(self, rings: SplitRings, event_idx: bool) -> None:
        self.rings = rings
        self.event_idx = event_idx
        self._enabled = True
        self._kicked = 0

    def clear(self) -> None:
        """The rings are zero again: interrupts enabled, nothing kicked."""
        self._enabled = True
        self._kicked = 0

    def check_flags(self) -> None:
        """Complain about used.flags that no device may write [virtio 1.4 §2.7.10.2]."""
        flags = self.rings.used_flags()
        if self.event_idx and flags:
            raise DeviceBreach("used.flags is not 0 although EVENT_IDX was negotiated", flags=flags)
        if flags & ~USED_NO_NOTIFY:
            raise DeviceBreach("reserved bits set in used.flags", flags=flags)

    def needs_kick(self, avail: int, *, strict: bool) -> bool:
        """Whether the progress to `avail` since the last call needs a notification."""
        old, self._kicked = self._kicked, avail
        if strict:
            self.check_flags()
        if self.event_idx:
            return need_event(self.rings.avail_event(), old, avail)
        return not self.rings.used_flags() & USED_NO_NOTIFY

    def disable(self, used: int) -> None:
        """Ask for no interrupts; with EVENT_IDX by the index that is farthest away."""
        self._enabled = False
        if self.event_idx:
            # avail.flags stays 0 [virtio 1.4 §2.7.7.1].
            self.rings.write_used_event((used - 1) & INDEX_MASK)
        else:
            self.rings.write_avail_flags(AVAIL_NO_INTERRUPT)

    def enable(self, event: int) -> None:
        """Ask for interrupts; with EVENT_IDX, for the used element of index `event`."""
        self._enabled = True
        if self.event_idx:
            self.rings.write_used_event(event & INDEX_MASK)
        else:
            self.rings.write_avail_flags(0)

    def follow(self, used: int) -> None:
        """Move the event on after a used buffer was taken, as Linux does on every one."""
        if self.event_idx and self._enabled:
            self.rings.write_used_event(used)
