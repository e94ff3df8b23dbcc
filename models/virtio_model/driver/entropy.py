"""Entropy driver: random bytes into buffers of one queue, whatever the transport."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from virtio_model.driver.framing import WHOLE, Framing, Layout, lay_out
from virtio_model.driver.queue import DriverQueue
from virtio_model.errors import DriverComplaint
from virtio_model.memory import Allocator, GuestMemory

__all__ = ["EntropyDriver", "RandomBytes"]


@dataclass(frozen=True)
class RandomBytes:
    """What a device put into a buffer.

    `rest` are the bytes of the buffer behind the data: to be ignored, since nobody vouches for
    them.
    """

    cookie: Any
    data: bytes
    rest: bytes


@dataclass(frozen=True)
class _Buffer:
    layout: Layout
    cookie: Any


class EntropyDriver:
    """Driver side of the request queue [virtio 1.4 §5.4.6].

    Buffers have writable segments only, preset to `FILL`. How many bytes arrived is what the used
    length says; none is a `DriverComplaint`. Kicks are the caller's business: ask the queue
    whether one is needed.
    """

    FILL = 0xA5

    def __init__(self, memory: GuestMemory, allocator: Allocator, queue: DriverQueue) -> None:
        self.memory = memory
        self.allocator = allocator
        self.queue = queue

    def request(self, length: int, *, framing: Framing = WHOLE, cookie: Any = None) -> int:
        """Make a buffer of `length` bytes available; its id. `framing.writable` cuts it."""
        layout = lay_out(self.allocator, length, framing.writable, skew=framing.skew)
        layout.write(self.memory, bytes([self.FILL]) * length)
        try:
            return self.queue.add((), layout.segments, _Buffer(layout, cookie), framing.indirect)
        except Exception:
            layout.free(self.allocator)
            raise

    def poll(self) -> RandomBytes | None:
        """The next buffer that came back, or None. Frees it."""
        used = self.queue.poll()
        if used is None:
            return None
        buffer: _Buffer = used.cookie
        data = buffer.layout.read(self.memory, buffer.layout.length)
        buffer.layout.free(self.allocator)
        if used.length == 0:
            raise DriverComplaint("a buffer came back without a random byte", id=used.id)
        return RandomBytes(buffer.cookie, data[: used.length], data[used.length :])

    def take_back(self) -> list[Any]:
        """Reset the queue, free its buffers; the cookies of requests not answered."""
        cookies = []
        for buffer in self.queue.reset():
            if isinstance(buffer, _Buffer):
                buffer.layout.free(self.allocator)
                cookies.append(buffer.cookie)
        return cookies
