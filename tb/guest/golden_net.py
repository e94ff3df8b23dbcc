"""The golden network device behind the golden function, with a peer on its wire."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from guest.net_peer import EchoPeer, Peer
from guest.options import ServeOptions
from virtio_model.device.make import GoldenQueue
from virtio_model.device.net import GoldenNet
from virtio_model.memory import GuestMemory
from virtio_model.net_header import NUM_BUFFERS_ON_TRANSMIT
from virtio_model.spec import features as feat
from virtio_model.spec import net
from virtio_model.spec.net import NetFeature, NetStatus

_RX, _TX = 0, 1
_IGNORED = frozenset({NUM_BUFFERS_ON_TRANSMIT})
"""DPDK's driver sends a received frame on with the header that it came with."""


def make(_: ServeOptions) -> NetType:
    """Return the network device with the peer that echoes."""
    return NetType()


class NetType:
    """One receive and one transmit queue. A frame that finds no buffer is lost."""

    device_id = net.DEVICE_ID
    class_code = 0x020000
    features = feat.mask([NetFeature.MAC, NetFeature.STATUS, NetFeature.MTU])
    dependencies = net.DEPENDENCIES
    queue_count = 2

    def __init__(
        self,
        peer: Peer | None = None,
        mac: bytes = b"\x02\x00\x00\x00\x00\x01",
        mtu: int = 9000,
    ) -> None:
        self.peer = peer or EchoPeer()
        self.mtu = mtu
        self.config = mac + struct.pack("<HHH", NetStatus.LINK_UP, 1, mtu)
        self._net: GoldenNet | None = None
        self.frames = 0

    def start(
        self, memory: GuestMemory, features: int, queues: Sequence[GoldenQueue | None]
    ) -> None:
        rx, tx = queues[_RX], queues[_TX]
        mtu = self.mtu if feat.has(features, NetFeature.MTU) else None
        if rx and tx:
            self._net = GoldenNet(memory, rx, tx, features, mtu, ignored=_IGNORED)
        else:
            self._net = None

    def process(self, queue: int, limit: int) -> int:
        if self._net is None or queue != _TX:
            return 0
        frames = self._net.process_tx(limit)
        self.frames += len(frames)
        for frame in frames:
            for answer in self.peer.answer(frame):
                self._net.receive(answer)
        return len(frames)

    def write_config(self, offset: int, data: bytes) -> None:
        """Nothing here is the driver's to write."""
