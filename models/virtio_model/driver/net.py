"""Network driver: frames in and out of a pair of queues, whatever the transport."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from virtio_model.driver.framing import HEADER_ALONE, ONE_PIECE, Layout, lay_out
from virtio_model.driver.queue import DriverQueue, Used
from virtio_model.errors import DriverComplaint
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.net_header import NetHeader, receive_faults
from virtio_model.spec.features import has
from virtio_model.spec.net import NetFeature, header_size


@dataclass(frozen=True)
class Received:
    """A frame and the header it came with."""

    header: NetHeader
    frame: bytes
    buffers: int


@dataclass(frozen=True)
class _TxBuffer:
    layout: Layout
    cookie: Any


@dataclass(frozen=True)
class _RxBuffer:
    layout: Layout
    indirect: bool


class NetDriver:
    """Driver side of one receive and one transmit queue [virtio 1.4 §5.1.6].

    Kicks are the caller's business: ask the queues whether one is needed.
    """

    def __init__(
        self,
        memory: GuestMemory,
        allocator: Allocator,
        rx: DriverQueue,
        tx: DriverQueue,
        features: int = 0,
    ) -> None:
        self.memory = memory
        self.allocator = allocator
        self.rx = rx
        self.tx = tx
        self.features = features
        self.header_size = header_size(features)
        self.unused = 0
        """Receive buffers that came back with nothing in them; each was posted again."""

    def send(
        self,
        frame: bytes,
        *,
        cuts: Sequence[int] = HEADER_ALONE,
        indirect: bool = False,
        header: NetHeader | None = None,
        skew: int = 0,
        cookie: Any = None,
    ) -> int:
        """Make a frame available for transmission and return its buffer id.

        `cuts` are positions in header and frame together: (12,) keeps the header alone, () puts
        everything into one segment.
        """
        packet = (header or NetHeader()).encode().ljust(self.header_size, b"\0") + frame
        layout = lay_out(self.allocator, len(packet), cuts, skew=skew)
        layout.write(self.memory, packet)
        try:
            return self.tx.add(layout.segments, (), _TxBuffer(layout, cookie), indirect)
        except Exception:
            layout.free(self.allocator)
            raise

    def reap(self) -> list[Any]:
        """Free all transmitted buffers; the cookies that `send` was given, in order of use."""
        cookies = []
        while (used := self.tx.poll()) is not None:
            buffer: _TxBuffer = used.cookie
            buffer.layout.free(self.allocator)
            cookies.append(buffer.cookie)
        return cookies

    def post(
        self,
        length: int,
        *,
        cuts: Sequence[int] = ONE_PIECE,
        indirect: bool = False,
        skew: int = 0,
        fill: int | None = None,
    ) -> int:
        """Make a receive buffer of `length` bytes, header included, available.

        `fill` presets its bytes: a recognisable pattern shows what the device left out.
        """
        layout = lay_out(self.allocator, length, cuts, skew=skew)
        if fill is not None:
            layout.write(self.memory, bytes([fill]) * length)
        try:
            return self.rx.add((), layout.segments, _RxBuffer(layout, indirect), indirect)
        except Exception:
            layout.free(self.allocator)
            raise

    def receive(self) -> Received | None:
        """The next received frame, or None. Frees its buffers.

        A buffer with used length 0 holds no packet: it is counted and posted again.
        """
        used = self.rx.poll()
        while used is not None and used.length == 0:
            self.unused += 1
            buffer: _RxBuffer = used.cookie
            self.rx.add((), buffer.layout.segments, buffer, buffer.indirect)
            used = self.rx.poll()
        if used is None:
            return None
        data, full = self._take(used)
        if len(data) < self.header_size:
            raise DriverComplaint(
                "received less than a header", used=len(data), header=self.header_size
            )
        header = NetHeader.decode(data)
        if faults := receive_faults(header, self.features):
            raise DriverComplaint("; ".join(faults), header=header)
        buffers = header.num_buffers if has(self.features, NetFeature.MRG_RXBUF) else 1
        for number in range(1, buffers):
            used = self.rx.poll()
            if used is None:
                raise DriverComplaint(
                    "buffers of one packet were not used together",
                    found=number,
                    num_buffers=buffers,
                )
            if not full:
                raise DriverComplaint(
                    "a buffer before the packet's last was not filled", buffer=number - 1
                )
            more, full = self._take(used)
            data += more
        return Received(header, data[self.header_size :], buffers)

    def _take(self, used: Used) -> tuple[bytes, bool]:
        layout: Layout = used.cookie.layout
        data = layout.read(self.memory, used.length)
        full = used.length == layout.length
        layout.free(self.allocator)
        return data, full

    def take_back(self, queue: DriverQueue) -> list[Any]:
        """Reset one of the queues, free its buffers; the cookies of frames not transmitted."""
        cookies = []
        for buffer in queue.reset():
            if isinstance(buffer, _TxBuffer | _RxBuffer):
                buffer.layout.free(self.allocator)
            if isinstance(buffer, _TxBuffer):
                cookies.append(buffer.cookie)
        return cookies
