"""The entropy device that a guest gets in RTL, and the source at its port."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from guest.options import ServeOptions
from guest.rtl_config import BASE
from guest.rtl_ports import Ports
from lib.streams import StreamSource
from virtio_model.device.entropy import SeededBytes
from virtio_rtl.config import DeviceConfig
from virtio_rtl.config_entropy import EntropyConfig


def config(_: ServeOptions) -> DeviceConfig:
    """Return the configuration."""
    source = EntropyConfig(source="port", word_bits=64)
    return replace(BASE, name="guest-entropy", device="entropy", entropy=source)


def ports(dut: Any, config: DeviceConfig, options: ServeOptions) -> Ports:
    """Return the source of the seed that was asked for."""
    return EntropyPorts(dut, config, options.seed)


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
