"""Golden network device: one receive and one transmit queue [virtio 1.4 §5.1]."""

from __future__ import annotations

from virtio_model.device.chain import Chain
from virtio_model.device.queue import DeviceQueue
from virtio_model.errors import DriverBreach
from virtio_model.memory import GuestMemory
from virtio_model.net_header import NetHeader, ethernet_header, transmit_faults
from virtio_model.spec.net import GsoType, header_size


class GoldenNet:
    """Frames between a driver's queues and the wire, in order and without offloads.

    A received frame takes exactly one buffer (no MRG_RXBUF). One that finds no buffer, or one too
    short for it, is dropped whole, since a truncated frame must never look like a good one; the
    buffer is given back with length 0. With `mtu`, a driver that sends more than that and an
    Ethernet header (with a VLAN tag, four bytes more) breaks a rule [virtio 1.4 §5.1.4]. `ignored`
    are faults of `transmit_faults` that it lets pass.
    """

    def __init__(
        self,
        memory: GuestMemory,
        rx: DeviceQueue,
        tx: DeviceQueue,
        features: int = 0,
        mtu: int | None = None,
        ignored: frozenset[str] = frozenset(),
    ) -> None:
        self.memory = memory
        self.rx = rx
        self.tx = tx
        self.features = features
        self.mtu = mtu
        self.ignored = ignored
        self.header_size = header_size(features)
        self.dropped_no_buffer = 0
        self.dropped_too_long = 0

    def process_tx(self, limit: int | None = None) -> list[bytes]:
        """Transmit what is available, at most `limit` frames, and mark it used."""
        frames: list[bytes] = []
        while limit is None or len(frames) < limit:
            chain = self.tx.next_buffer()
            if chain is None:
                break
            frames.append(self._transmit(chain))
            # Nothing is written into a transmit buffer: len 0, WRITE clear.
            self.tx.complete(chain, 0)
        return frames

    def _transmit(self, chain: Chain) -> bytes:
        if chain.writable:
            raise DriverBreach("writable element in a transmit buffer", id=chain.id)
        packet = chain.read_all(self.memory)
        if len(packet) < self.header_size:
            raise DriverBreach(
                "transmit buffer shorter than its header", id=chain.id, length=len(packet)
            )
        header = NetHeader.decode(packet)
        faults = transmit_faults(header, self.features)
        if faults := [fault for fault in faults if fault not in self.ignored]:
            raise DriverBreach("; ".join(faults), id=chain.id)
        frame = packet[self.header_size :]
        if self.mtu is not None and header.gso_type == GsoType.NONE:
            if len(frame) > self.mtu + ethernet_header(frame):
                raise DriverBreach("frame above the MTU", id=chain.id, length=len(frame))
        return frame

    def receive(self, frame: bytes) -> bool:
        """Deliver a frame from the wire; False if it was dropped."""
        chain = self.rx.next_buffer()
        if chain is None:
            self.dropped_no_buffer += 1
            return False
        if chain.readable:
            raise DriverBreach("readable element in a receive buffer", id=chain.id)
        header = NetHeader(num_buffers=1).encode().ljust(self.header_size, b"\0")
        packet = header + frame
        if len(packet) > chain.writable_length:
            self.dropped_too_long += 1
            self.rx.complete(chain, 0)
            return False
        self.rx.complete(chain, chain.write_all(self.memory, packet))
        return True
