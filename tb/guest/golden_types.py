"""What a golden device type is to the golden function, and the table of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from virtio_model.device.make import GoldenQueue
from virtio_model.memory import GuestMemory
from virtio_model.spec.features import Dependencies


class UnwatchedMemory(GuestMemory):
    """Guest memory for golden queues that serve a real driver.

    A golden queue watches that nobody changes the bytes of a buffer that it holds. A file system
    does so rightly, in pages that are on their way to a disk. The watch looks at addresses from
    `base` to `end` only; here there are none.
    """

    def __init__(self, memory: GuestMemory) -> None:
        super().__init__(0, raise_faults=False)
        self._memory = memory

    def read(self, addr: int, length: int) -> bytes:
        return self._memory.device_read(addr, length)

    def write(self, addr: int, data: bytes) -> None:
        self._memory.device_write(addr, data)

    def device_read(self, addr: int, length: int) -> bytes:
        return self._memory.device_read(addr, length)

    def device_write(self, addr: int, data: bytes) -> None:
        self._memory.device_write(addr, data)

    def device_may(self, addr: int, length: int, writing: bool) -> bool:
        return self._memory.device_may(addr, length, writing)


class GoldenType(Protocol):
    """A device type behind the golden function.

    `features` are the type's own feature bits to offer, `config` the bytes of its device
    configuration.
    """

    device_id: int
    class_code: int
    features: int
    dependencies: Dependencies
    queue_count: int
    config: bytes

    def start(
        self, memory: GuestMemory, features: int, queues: Sequence[GoldenQueue | None]
    ) -> None:
        """Begin, or go on with other queues; None is a virtqueue that is not enabled."""

    def process(self, queue: int, limit: int) -> int:
        """Do what is available in an enabled virtqueue, at most `limit` buffers; how many."""

    def write_config(self, offset: int, data: bytes) -> None:
        """Take a driver's write to the device configuration."""
