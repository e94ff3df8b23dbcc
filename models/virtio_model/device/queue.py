"""What every golden device-side queue offers, whatever its ring format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from virtio_model.device.chain import Chain


class DeviceQueue(Protocol):
    """The device side of a virtqueue, as the golden devices see it."""

    size: int

    def next_buffer(self) -> Chain | None:
        """Take the next available buffer, or None. DriverBreach where it breaks a rule."""

    def complete(self, chain: Chain, length: int = 0) -> None:
        """Mark a held buffer used, with `length` bytes written."""

    def complete_batch(self, chains: Sequence[Chain], length: int = 0) -> None:
        """Mark the oldest held buffers used by one entry, `length` bytes in the last."""

    def should_interrupt(self) -> bool:
        """Whether what was used since the last call needs a notification."""

    def enable_notifications(self, enabled: bool = True) -> None:
        """Publish whether the driver should kick; with EVENT_IDX, for the next buffer."""
