"""What every driver-side queue offers, whatever its ring format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol


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

    @property
    def free_slots(self) -> int: ...

    def add(
        self,
        readable: Sequence[tuple[int, int]],
        writable: Sequence[tuple[int, int]],
        cookie: Any = None,
        indirect: bool = False,
    ) -> int: ...

    def poll(self) -> Used | None: ...

    def needs_kick(self) -> bool: ...

    def notification_data(self) -> int: ...
