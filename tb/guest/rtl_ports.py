"""What stands at the ports of a simulated device that are not PCIe, by device type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from guest.net_peer import EchoPeer
from lib.axi_frames import AxiFrameSink, AxiFrameSource
from virtio_rtl.config import DeviceConfig


class Ports(Protocol):
    """The other side of a device's ports."""

    def activity(self) -> tuple[int, ...]:
        """Counters that change while something moves at the ports."""

    def poll(self) -> None:
        """Look at the descriptors; called every few cycles while simulated time moves on."""

    def fds(self) -> Sequence[int]:
        """Descriptors of the world outside that may wake the simulation."""


class Peer(Protocol):
    """The other end of a network device's wire."""

    def answer(self, frame: bytes) -> list[bytes]:
        """Take a frame; what comes back at once."""


class NoPorts:
    """A device that has nothing but PCIe."""

    def __init__(self, dut: Any, config: DeviceConfig) -> None:
        pass

    def activity(self) -> tuple[int, ...]:
        """Nothing moves."""
        return ()

    def poll(self) -> None:
        """Nothing to look at."""

    def fds(self) -> Sequence[int]:
        """Nothing to wait for."""
        return ()


class NetPorts:
    """A network of one peer: frames from the device go to it, its answers come back.

    `stall`: chance per cycle that a beat waits, on both ports. `frames` counts those to and from
    the peer.
    """

    def __init__(
        self, dut: Any, config: DeviceConfig, peer: Peer | None = None, *, stall: float = 0.0
    ) -> None:
        self.peer = peer or EchoPeer()
        self.frames = [0, 0]
        dut.link_up.value = 1
        self._sink = AxiFrameSink(dut, "net_tx", stall=stall)
        self._source = AxiFrameSource(dut, "net_rx", config.width, stall=stall)
        self._sink.on_frame = self._frame

    def _frame(self, frame: bytes) -> None:
        self.frames[0] += 1
        for answer in self.peer.answer(frame):
            self.send(answer)

    def send(self, frame: bytes) -> None:
        """Send a frame to the device."""
        self.frames[1] += 1
        self._source.send(frame)

    def activity(self) -> tuple[int, ...]:
        """Frames out, in, and under way."""
        return (*self.frames, self._source.sent)

    def poll(self) -> None:
        """Nothing to look at: the peer lives here."""

    def fds(self) -> Sequence[int]:
        """Nothing to wait for."""
        return ()


PORTS: dict[str, Callable[[Any, DeviceConfig], Ports]] = {
    "net": NetPorts,
    "blk": NoPorts,
    "entropy": NoPorts,
}
"""By device type. One that is not here has no ports."""
