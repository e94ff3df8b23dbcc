"""The network device that a guest gets in RTL, and the network at its port."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from guest.net_peer import EchoPeer, Peer
from guest.options import ServeOptions
from guest.rtl_config import BASE
from guest.rtl_ports import Ports
from lib.axi_frames import AxiFrameSink, AxiFrameSource
from virtio_rtl.config import DeviceConfig


def config(_: ServeOptions) -> DeviceConfig:
    """Return the configuration."""
    return replace(BASE, name="guest-net", device="net")


def ports(dut: Any, config: DeviceConfig, _: ServeOptions) -> Ports:
    """Return the network with the peer that echoes."""
    return NetPorts(dut, config)


class NetPorts(Ports):
    """A network of one peer: frames from the device go to it, its answers come back.

    `stall`: chance per cycle that a beat waits, on both ports. `frames` counts those from and to
    the device.
    """

    def __init__(
        self, dut: Any, config: DeviceConfig, peer: Peer | None = None, *, stall: float = 0.0
    ) -> None:
        self.peer = peer = peer or EchoPeer()
        self._answer = peer.answer
        self.frames = [0, 0]
        dut.link_up.value = 1
        self._sink = AxiFrameSink(dut, "net_tx", stall=stall)
        self._source = AxiFrameSource(dut, "net_rx", config.width, stall=stall)
        self._sink.on_frame = self._frame

    def _frame(self, frame: bytes) -> None:
        self.frames[0] += 1
        for answer in self._answer(frame):
            self.frames[1] += 1
            self._source.send(answer)

    def activity(self) -> tuple[int, ...]:
        """Beats out and in: a long frame takes a while in which nothing else moves."""
        return self._sink.beats, self._source.beats, self.frames[1]
