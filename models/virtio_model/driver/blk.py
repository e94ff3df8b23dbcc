"""Block driver: requests on any number of queues, whatever the transport."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from virtio_model.blk_request import BlkLimits, Range, RequestHeader, data_faults, encode_ranges
from virtio_model.driver.framing import Framing, Layout, lay_out
from virtio_model.driver.queue import DriverQueue, Segment, Used
from virtio_model.errors import DriverComplaint, DriverMisuse
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.spec.blk import (
    ID_BYTES,
    REQUEST_HEADER_SIZE,
    SECTOR_SIZE,
    RequestStatus,
    RequestType,
)

__all__ = ["PIECES", "BlkDone", "BlkDriver", "BlkWithdrawn"]

PIECES = Framing(readable=(REQUEST_HEADER_SIZE,), writable=(-1,))
"""Header, data and status in segments of their own, as most drivers have them."""

_FILL = 0xA5
"""What stands in the writable part before; no status has this value."""


@dataclass(frozen=True)
class BlkDone:
    """A request that was answered; `data` are the writable bytes before the status."""

    cookie: Any
    status: RequestStatus
    data: bytes


@dataclass(frozen=True)
class BlkWithdrawn:
    """A request that was taken back after a reset; `room` are its writable segments."""

    cookie: Any
    room: tuple[Segment, ...]


@dataclass(frozen=True)
class _Request:
    readable: Layout
    writable: Layout
    sent: bytes
    cookie: Any


class BlkDriver:
    """Driver side of the request queues [virtio 1.4 §5.2.6].

    Requests are sent by `read`, `write`, `flush`, `get_id`, `discard` and `write_zeroes`, each
    with its queue, framing and cookie; many may be in flight. `poll` takes the answers. What no
    driver may ask for is a `DriverMisuse`, and nothing is sent; `send` does as it is told. Kicks
    are the caller's business: ask the queues whether one is needed.

    A `DriverComplaint`: the used length is not that of the writable part, the last writable byte
    is no status, or the readable part was changed.
    """

    def __init__(
        self,
        memory: GuestMemory,
        allocator: Allocator,
        queues: Sequence[DriverQueue],
        features: int = 0,
        *,
        limits: BlkLimits,
    ) -> None:
        self.memory = memory
        self.allocator = allocator
        self.queues = list(queues)
        self.features = features
        self.limits = limits

    def read(self, sector: int, sectors: int, queue: int = 0, **how: Any) -> int:
        """Read sectors; the buffer id. `how`: framing and cookie, as for `send`."""
        header = RequestHeader(RequestType.IN, sector)
        return self._send(header, b"", sectors * SECTOR_SIZE, queue, how)

    def write(self, sector: int, data: bytes, queue: int = 0, **how: Any) -> int:
        """Write whole sectors."""
        return self._send(RequestHeader(RequestType.OUT, sector), data, 0, queue, how)

    def flush(self, queue: int = 0, **how: Any) -> int:
        """Have what was written made permanent."""
        return self._send(RequestHeader(RequestType.FLUSH), b"", 0, queue, how)

    def get_id(self, queue: int = 0, **how: Any) -> int:
        """Ask for the id of the disk, 20 bytes."""
        return self._send(RequestHeader(RequestType.GET_ID), b"", ID_BYTES, queue, how)

    def discard(self, ranges: Sequence[Range], queue: int = 0, **how: Any) -> int:
        """Tell that the content of sectors is not needed any more."""
        header = RequestHeader(RequestType.DISCARD)
        return self._send(header, encode_ranges(ranges), 0, queue, how)

    def write_zeroes(self, ranges: Sequence[Range], queue: int = 0, **how: Any) -> int:
        """Zero sectors."""
        header = RequestHeader(RequestType.WRITE_ZEROES)
        return self._send(header, encode_ranges(ranges), 0, queue, how)

    def _send(
        self, header: RequestHeader, data: bytes, room: int, queue: int, how: dict[str, Any]
    ) -> int:
        readable, writable = header.encode() + data, room + 1
        if faults := data_faults(readable, writable, self.features, self.limits):
            raise DriverMisuse("; ".join(faults), type=header.type, sector=header.sector)
        return self.send(readable, writable, queue, **how)

    def send(
        self,
        readable: bytes,
        writable: int,
        queue: int = 0,
        *,
        framing: Framing = PIECES,
        cookie: Any = None,
    ) -> int:
        """Make any bytes available as a request, with `writable` bytes of room; the buffer id.

        The last writable byte is for the status. `framing` cuts both parts.
        """
        parts = []
        try:
            for length, cuts in ((len(readable), framing.readable), (writable, framing.writable)):
                parts.append(lay_out(self.allocator, length, cuts, skew=framing.skew))
            sent, room = parts
            sent.write(self.memory, readable)
            room.write(self.memory, bytes([_FILL]) * writable)
            request = _Request(sent, room, readable, cookie)
            return self.queues[queue].add(sent.segments, room.segments, request, framing.indirect)
        except Exception:
            for part in parts:
                part.free(self.allocator)
            raise

    def poll(self, queue: int = 0) -> BlkDone | None:
        """The next request that was answered, or None. Frees its buffer.

        Of a request without a writable byte the status is OK, since there is none.
        """
        used = self.queues[queue].poll()
        if used is None:
            return None
        request: _Request = used.cookie
        answer = self._answer(used, request)
        request.readable.free(self.allocator)
        request.writable.free(self.allocator)
        if not answer:
            return BlkDone(request.cookie, RequestStatus.OK, b"")
        return BlkDone(request.cookie, RequestStatus(answer[-1]), answer[:-1])

    def _answer(self, used: Used, request: _Request) -> bytes:
        """Return all writable bytes, after a look at them."""
        room = request.writable.length
        if used.length != room:
            raise DriverComplaint(
                "the used length is not that of the writable part", used=used.length, room=room
            )
        if request.readable.read(self.memory, len(request.sent)) != request.sent:
            raise DriverComplaint("the readable part of a request was changed", id=used.id)
        answer = request.writable.read(self.memory, room)
        if room and answer[-1] not in (
            RequestStatus.OK,
            RequestStatus.IOERR,
            RequestStatus.UNSUPP,
        ):
            raise DriverComplaint("the last writable byte is no status", status=answer[-1])
        return answer

    def take_back(self, queue: DriverQueue) -> list[Any]:
        """Reset one of the queues, free its buffers; the cookies of requests not answered."""
        return [request.cookie for request in self.withdraw(queue)]

    def withdraw(self, queue: DriverQueue) -> list[BlkWithdrawn]:
        """As `take_back`; the requests, whose memory is free, but holds what was written there."""
        taken = []
        for request in queue.reset():
            if isinstance(request, _Request):
                request.readable.free(self.allocator)
                request.writable.free(self.allocator)
                taken.append(BlkWithdrawn(request.cookie, request.writable.segments))
        return taken
