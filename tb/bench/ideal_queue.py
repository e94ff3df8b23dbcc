"""The ideal endpoint's side of a virtqueue: which requests its buffers need, and when."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from lib.pcie.host import memory_request
from lib.pcie.packet import MEM_WRITE, Packet
from virtio_model.rings.packed import DESC_SIZE, DescFlags

_DESCRIPTOR = struct.Struct("<QIHH")
_PAGE = 4096


def pieces(address: int, length: int, most: int) -> Iterator[tuple[int, int]]:
    """Cut a stretch of memory into requests of at most `most` bytes within 4 KiB."""
    end = address + length
    while address < end:
        size = min(most, end - address, _PAGE - address % _PAGE)
        yield address, size
        address += size


@dataclass
class _Buffer:
    """A buffer in the endpoint: its chain, and what is still to be asked for or to come."""

    slot: int
    raw: bytes  # its head descriptor
    count: int  # its descriptors
    requests: deque[tuple[int, int, int]]  # address, bytes, offset in the frame
    outstanding: int = 0
    begun: bool = False

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return not self.requests and not self.outstanding


@dataclass
class Read:
    """A read in flight; `buffer` is None for a read of descriptors."""

    queue: IdealQueue
    buffer: _Buffer | None
    address: int
    length: int
    offset: int
    data: bytearray = field(default_factory=bytearray)


class IdealQueue:
    """The endpoint's side of a packed virtqueue that is always full.

    kind: "transmit" reads the buffers, "receive" writes them. address, size: of the descriptor
    ring, in bytes and descriptors. read_bytes: of one read of descriptors; divides the ring.
    batch: used descriptors per write. payload: the start of every frame, to be sent or expected.

    It knows of a buffer only what the descriptors say, and gives them back in order.
    """

    def __init__(
        self,
        kind: Literal["transmit", "receive"],
        address: int,
        size: int,
        *,
        read_bytes: int,
        batch: int,
        payload: bytes,
        read_ahead: int = 512,
        mrrs: int = 512,
        mps: int = 256,
    ) -> None:
        self.kind = kind
        self.address = address
        self.size = size
        self.read_bytes = read_bytes
        self.batch = batch
        self.payload = payload
        self.read_ahead = max(read_ahead, 2 * read_bytes // DESC_SIZE)
        self.most = mrrs if kind == "transmit" else mps
        self.running = False
        self.started = 0  # frames whose first request was sent
        self._fetched = 0  # descriptors, requests in flight included
        self._ahead = 0  # of these, not yet used up by payload requests
        self._decoded = 0  # descriptors that became buffers
        self._fetches: deque[Read] = deque()
        self._chain: list[tuple[int, int]] = []
        self._head = b""
        self._waiting: deque[_Buffer] = deque()  # with requests left
        self._open: deque[_Buffer] = deque()  # not yet in a batch of used ones
        self._batch: list[_Buffer] = []
        self._used: deque[Packet] = deque()

    def used_write(self) -> Packet | None:
        """Return a write of used descriptors if one is due."""
        return self._used.popleft() if self._used else None

    def wants_fetch(self) -> bool:
        """Tell whether descriptors should be read now."""
        return self.running and self._ahead < self.read_ahead

    def fetch(self) -> Read:
        """Return the next read of descriptors."""
        at = self.address + self._fetched % self.size * DESC_SIZE
        read = Read(self, None, at, self.read_bytes, 0)
        self._fetched += self.read_bytes // DESC_SIZE
        self._ahead += self.read_bytes // DESC_SIZE
        self._fetches.append(read)
        return read

    def has_payload(self) -> bool:
        """Tell whether a payload request can be made."""
        return bool(self._waiting)

    def payload_write(self) -> Packet:
        """Return the next write of payload."""
        buffer, address, length, offset = self._next_request()
        packet = memory_request(MEM_WRITE, address, length, self.payload[offset : offset + length])
        self._retire(buffer)
        return packet

    def payload_read(self) -> Read:
        """Return the next read of payload."""
        buffer, address, length, offset = self._next_request()
        buffer.outstanding += 1
        return Read(self, buffer, address, length, offset)

    def _next_request(self) -> tuple[_Buffer, int, int, int]:
        buffer = self._waiting[0]
        self.started += not buffer.begun
        buffer.begun = True
        address, length, offset = buffer.requests.popleft()
        if not buffer.requests:
            self._waiting.popleft()
            self._ahead -= buffer.count
        return buffer, address, length, offset

    def answered(self, read: Read) -> None:
        """Take the bytes of a read of ours."""
        if read.buffer is None:
            while self._fetches and len(self._fetches[0].data) == self.read_bytes:
                self._decode(bytes(self._fetches.popleft().data))
            return
        expected = self.payload[read.offset : read.offset + read.length]
        assert read.data[: read.length] == expected, f"wrong bytes from {read.address:#x}"
        read.buffer.outstanding -= 1
        self._retire(read.buffer)

    def _decode(self, raw: bytes) -> None:
        for at in range(0, len(raw), DESC_SIZE):
            address, length, _, flags = _DESCRIPTOR.unpack_from(raw, at)
            if not self._chain:
                self._head = raw[at : at + DESC_SIZE]
            self._chain.append((address, length))
            self._decoded += 1
            if not flags & DescFlags.NEXT:
                self._make_buffer()

    def _make_buffer(self) -> None:
        requests: deque[tuple[int, int, int]] = deque()
        offset = 0
        for address, length in self._chain:
            for start, size in pieces(address, length, self.most):
                requests.append((start, size, offset))
                offset += size
        count = len(self._chain)
        buffer = _Buffer((self._decoded - count) % self.size, self._head, count, requests)
        self._waiting.append(buffer)
        self._open.append(buffer)
        self._chain = []

    def _retire(self, buffer: _Buffer) -> None:
        """Give finished buffers back, in order and by whole batches."""
        if not buffer.done:
            return
        while self._open and self._open[0].done:
            self._batch.append(self._open.popleft())
            if len(self._batch) == self.batch:
                self._give_back()

    def _give_back(self) -> None:
        run: list[_Buffer] = []
        for buffer in self._batch:
            if buffer.slot == 0 and run:  # the ring ends here, and so does the write
                self._write_used(run)
                run = []
            run.append(buffer)
            if buffer.count > 1:  # the next used descriptor is as far away as the chain is long
                self._write_used(run)
                run = []
        if run:
            self._write_used(run)
        self._batch = []

    def _write_used(self, run: list[_Buffer]) -> None:
        address = self.address + run[0].slot * DESC_SIZE
        data = b"".join(buffer.raw for buffer in run)
        if len(run) == 1:  # `addr` means nothing in a used descriptor
            address, data = address + 8, data[8:]
        for start, size in pieces(address, len(data), _PAGE):
            part = data[start - address :][:size]
            self._used.append(memory_request(MEM_WRITE, start, size, part))
