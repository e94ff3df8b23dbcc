"""A buffer as the device sees it, whatever the ring format."""

from __future__ import annotations

from dataclasses import dataclass, field

from virtio_model.driver.queue import Segment
from virtio_model.memory import GuestMemory


@dataclass
class Chain:
    """The readable and writable segments of one buffer, in order."""

    id: int
    slots: int
    readable: list[Segment] = field(default_factory=list)
    writable: list[Segment] = field(default_factory=list)

    @property
    def readable_length(self) -> int:
        return sum(length for _, length in self.readable)

    @property
    def writable_length(self) -> int:
        return sum(length for _, length in self.writable)

    def read_all(self, memory: GuestMemory) -> bytes:
        """All readable bytes joined: framing never reaches a device [virtio 1.4 §2.7.4]."""
        return b"".join(memory.device_read(*segment) for segment in self.readable)

    def write_all(self, memory: GuestMemory, data: bytes) -> int:
        """Lay bytes over the writable segments; the count of bytes written."""
        written = 0
        for addr, length in self.writable:
            piece = data[written : written + length]
            if not piece:
                break
            memory.device_write(addr, piece)
            written += len(piece)
        return written
