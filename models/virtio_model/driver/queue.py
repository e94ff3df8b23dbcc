"""What every driver-side queue offers, whatever its ring format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from virtio_model.errors import DriverMisuse, QueueFull

BUFFER_BYTES_MAX = 1 << 32


class Segment(NamedTuple):
    """One element of a buffer: a stretch of guest memory."""

    addr: int
    length: int


@dataclass(frozen=True)
class Used:
    """A buffer that came back."""

    cookie: Any
    id: int
    length: int


class DriverQueue(Protocol):
    """The driver side of a virtqueue, as the transport and the device drivers see it."""

    size: int
    desc_addr: int
    driver_addr: int
    device_addr: int
    indirect: bool
    in_order: bool
    max_chain: int
    frozen: bool
    """Set while the device is suspended: nothing may be made available."""

    @property
    def free_slots(self) -> int:
        """Descriptors that the driver may fill."""

    @property
    def outstanding(self) -> int:
        """Buffers that the device holds."""

    def add(
        self,
        readable: Sequence[tuple[int, int]],
        writable: Sequence[tuple[int, int]],
        cookie: Any = None,
        indirect: bool = False,
    ) -> int:
        """Make a buffer available and return its id. QueueFull where it does not fit."""

    def poll(self) -> Used | None:
        """The next used buffer, or None. DeviceBreach where the device broke a rule."""

    def needs_kick(self) -> bool:
        """Whether what was added since the last call needs a notification."""

    def notification_data(self) -> int:
        """{next_wrap, next_off}: the upper 16 bits of a kick with data [virtio 1.4 §2.9]."""

    def disable_interrupts(self) -> None:
        """Ask for no used buffer notifications. One may still be on its way."""

    def enable_interrupts(self, after: int = 0) -> bool:
        """Ask for used buffer notifications; True if used buffers already wait.

        With EVENT_IDX, for the one `after` positions beyond the one due next.
        """

    def reset(self) -> list[Any]:
        """Take all buffers back after a reset and start over; the cookies, oldest first."""

    def close(self) -> list[Any]:
        """`reset`, then give the ring memory back. The queue is dead afterwards."""

    def audit(self) -> None:
        """Check all ring memory; to be called while the device is quiet."""


def check_buffer(queue: DriverQueue, lengths: Sequence[int], indirect: bool) -> None:
    """Raise for a buffer that no driver may make available in this queue.

    `lengths` are those of its elements, in bytes.
    """
    if queue.frozen:
        raise DriverMisuse("no buffer may be made available while the device is suspended")
    if not lengths:
        raise ValueError("a buffer has at least one segment")
    if indirect and not queue.indirect:
        raise ValueError("VIRTIO_F_INDIRECT_DESC was not negotiated")
    if sum(lengths) > BUFFER_BYTES_MAX:
        raise ValueError("a buffer has at most 2^32 bytes")
    if len(lengths) > queue.max_chain:
        raise QueueFull(
            "the list is longer than the device allows",
            segments=len(lengths),
            max_chain=queue.max_chain,
        )
