"""Golden block device: requests on an image in memory [virtio 1.4 §5.2]."""

from __future__ import annotations

from collections.abc import Sequence

from virtio_model.blk_request import BlkLimits, RequestHeader, data_faults, decode_ranges
from virtio_model.device.chain import Chain
from virtio_model.device.queue import DeviceQueue
from virtio_model.errors import DriverBreach
from virtio_model.memory import GuestMemory
from virtio_model.spec.blk import (
    ID_BYTES,
    REQUEST_HEADER_SIZE,
    SECTOR_SIZE,
    SEGMENT_SIZE,
    SEGMENT_UNMAP,
    BlkFeature,
    RequestStatus,
    RequestType,
)
from virtio_model.spec.features import has

__all__ = ["GoldenBlk"]

_OK, _IOERR, _UNSUPP = RequestStatus.OK, RequestStatus.IOERR, RequestStatus.UNSUPP


class GoldenBlk:
    """Requests of any number of virtqueues, one at a time, answered to the last bit.

    A reply fills all writable bytes: data from the first one on, zeros where there is none or the
    request failed, and the status as the last. A request with no writable byte is not executed,
    and used with length 0. What comes in the wrong direction is ignored: readable data of IN,
    FLUSH and GET_ID. GET_ID gives as much of the 20 bytes as there is room for.

    A DISCARD zeroes its sectors, as WRITE_ZEROES does; `unmap` makes no difference. All ranges of
    a request are done, or none: flags that mean nothing, in any of them, are UNSUPP, whatever else
    is wrong.
    Without flushes a write is as final as with them.

    Parameters
    ----------
    memory, queues
        Guest memory, and the device side of each request queue.
    image
        The disk, whole sectors; changed in place.
    features
        What the driver has accepted.
    limits
        What the device configuration says; unless told, of the image's size and no other limit.
    serial
        Up to 20 bytes, the answer to GET_ID.
    strict
        A request that breaks a rule for drivers is a `DriverBreach`; else it is answered.
    """

    def __init__(
        self,
        memory: GuestMemory,
        queues: Sequence[DeviceQueue],
        image: bytearray,
        features: int = 0,
        *,
        limits: BlkLimits | None = None,
        serial: bytes = b"",
        strict: bool = True,
    ) -> None:
        self.limits = limits or BlkLimits(len(image) // SECTOR_SIZE)
        if self.limits.capacity * SECTOR_SIZE != len(image):
            raise ValueError("the image is not of the disk's capacity")
        if len(serial) > ID_BYTES:
            raise ValueError(f"an id has at most {ID_BYTES} bytes")
        self.memory = memory
        self.queues = queues
        self.image = image
        self.features = features
        self.serial = serial
        self.strict = strict

    def process(self, queue: int = 0, limit: int | None = None) -> int:
        """Answer what is available, at most `limit` requests; how many there were."""
        done = 0
        while limit is None or done < limit:
            chain = self.queues[queue].next_buffer()
            if chain is None:
                break
            self._serve(queue, chain)
            done += 1
        return done

    def _serve(self, queue: int, chain: Chain) -> None:
        readable, writable = chain.read_all(self.memory), chain.writable_length
        if self.strict:
            faults = data_faults(readable, writable, self.features, self.limits)
            if faults:
                raise DriverBreach("; ".join(faults), id=chain.id, queue=queue)
        self.queues[queue].complete(
            chain, chain.write_all(self.memory, self.answer(readable, writable))
        )

    def answer(self, readable: bytes, writable: int) -> bytes:
        """Execute a request, whatever it is; the bytes of its writable part."""
        if writable == 0:
            return b""
        status, data = self._execute(readable, writable - 1)
        return data.ljust(writable - 1, b"\0") + bytes([status])

    def _execute(self, readable: bytes, room: int) -> tuple[RequestStatus, bytes]:
        """Return the status and the data of a request; `room` is for data alone."""
        if len(readable) < REQUEST_HEADER_SIZE:
            return _IOERR, b""
        header, sent = RequestHeader.decode(readable), readable[REQUEST_HEADER_SIZE:]
        match header.type:
            case RequestType.IN:
                return self._read(header.sector, room)
            case RequestType.OUT:
                return self._write(header.sector, sent), b""
            case RequestType.GET_ID:
                return _OK, self.serial.ljust(ID_BYTES, b"\0")[:room]
            case RequestType.FLUSH if has(self.features, BlkFeature.FLUSH):
                return _OK, b""
            case RequestType.DISCARD if has(self.features, BlkFeature.DISCARD):
                return self._zero(header.type, sent), b""
            case RequestType.WRITE_ZEROES if has(self.features, BlkFeature.WRITE_ZEROES):
                return self._zero(header.type, sent), b""
        return _UNSUPP, b""

    def _refused(self, sector: int, length: int) -> bool:
        sectors, rest = divmod(length, SECTOR_SIZE)
        return bool(rest) or not self.limits.holds(sector, sectors)

    def _read(self, sector: int, length: int) -> tuple[RequestStatus, bytes]:
        if self._refused(sector, length):
            return _IOERR, b""
        start = sector * SECTOR_SIZE
        return _OK, bytes(self.image[start : start + length])

    def _write(self, sector: int, data: bytes) -> RequestStatus:
        if self.limits.read_only or self._refused(sector, len(data)):
            return _IOERR
        start = sector * SECTOR_SIZE
        self.image[start : start + len(data)] = data
        return _OK

    def _zero(self, kind: int, data: bytes) -> RequestStatus:
        longest, most = self.limits.ranges(kind)
        allowed = SEGMENT_UNMAP if kind == RequestType.WRITE_ZEROES else 0
        ragged = len(data) % SEGMENT_SIZE
        ranges = decode_ranges(data[: len(data) - ragged])
        if any(item.flags & ~allowed for item in ranges):
            return _UNSUPP
        if self.limits.read_only or ragged or len(ranges) > most:
            return _IOERR
        for item in ranges:
            if item.sectors > longest or not self.limits.holds(item.sector, item.sectors):
                return _IOERR
        for item in ranges:
            start, length = item.sector * SECTOR_SIZE, item.sectors * SECTOR_SIZE
            self.image[start : start + length] = bytes(length)
        return _OK
