"""What stands at the ports of a simulated device that are not PCIe, by device type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from guest.net_peer import EchoPeer, Peer
from guest.options import ServeOptions
from lib.axi_frames import AxiFrameSink, AxiFrameSource
from lib.port import reader
from lib.streams import StreamSource
from virtio_model.device.entropy import SeededBytes
from virtio_rtl.config import DeviceConfig


class Ports:
    """The other side of a device's ports; this one is that of a device that has nothing but PCIe.

    All of them are made before reset, from the device, its configuration and what was asked for.
    `peer` is the other end of a network device's wire.
    """

    peer: Peer | None = None

    @property
    def given(self) -> bytes:
        """Of an entropy source: the first bytes that the device got from it."""
        return b""

    def activity(self) -> tuple[int, ...]:
        """Counters that change while something moves at the ports."""
        return ()

    def poll(self) -> None:
        """Look at the world outside; called every few cycles while simulated time moves on."""

    def fds(self) -> Sequence[int]:
        """Descriptors of the world outside that may wake the simulation."""
        return ()


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


class BlkPorts(Ports):
    """A disk that is simulated with the device, see `guest.rtl_device.GuestDevice`."""

    def __init__(self, dut: Any) -> None:
        self._beats = reader(dut.disk_beats)

    def activity(self) -> tuple[int, ...]:
        """Beats on the bus of the disk: some requests take long without a word to the host."""
        return (self._beats(),)


class EntropyPorts(Ports):
    """A source of words that are the same in every run with one seed, and never start again."""

    _WAITING = 512
    _GIVEN_MAX = 1 << 23

    def __init__(self, dut: Any, config: DeviceConfig, seed: int = 1) -> None:
        self._size = config.entropy.word_bits // 8
        self._bytes = SeededBytes(seed, 8)
        self._source = StreamSource(dut, "entropy")
        self._sent = bytearray()
        self._queued = 0
        self.poll()

    def poll(self) -> None:
        """Keep words waiting."""
        missing = self._WAITING - (self._queued - self._source.count)
        if missing < self._WAITING // 2:
            return
        data = self._bytes(missing * self._size)
        self._sent += data[: self._GIVEN_MAX - len(self._sent)]
        self._queued += missing
        self._source.queue(
            int.from_bytes(data[at : at + self._size], "little")
            for at in range(0, len(data), self._size)
        )

    @property
    def given(self) -> bytes:
        """The bytes of all words that the device took, and perhaps of the next ones."""
        return bytes(self._sent)

    def activity(self) -> tuple[int, ...]:
        """Words that the device took."""
        return (self._source.count,)


PORTS: dict[str, Callable[[Any, DeviceConfig, ServeOptions], Ports]] = {
    "net": lambda dut, config, _: NetPorts(dut, config),
    "blk": lambda dut, *_: BlkPorts(dut),
    "entropy": lambda dut, config, options: EntropyPorts(dut, config, options.seed),
}
"""By device type. One that is not here has no ports."""
