"""The golden entropy device behind the golden function."""

from __future__ import annotations

from collections.abc import Sequence

from guest.options import ServeOptions
from virtio_model.device.entropy import GoldenEntropy, SeededBytes
from virtio_model.device.make import GoldenQueue
from virtio_model.memory import GuestMemory
from virtio_model.spec import entropy

_BEAT_BYTES = 16
_GIVEN_MAX = 1 << 23


def make(options: ServeOptions) -> EntropyType:
    """Return the source of the seed that was asked for."""
    return EntropyType(options.seed)


class EntropyType:
    """Fills every buffer from the seeded source: the same bytes in every run.

    `given` are the first bytes that the source gave, whatever the device made of them. A device
    reset does not start the source again, so that what a guest reads over its life never repeats.
    """

    device_id = entropy.DEVICE_ID
    class_code = 0xFF0000
    features = 0
    dependencies = entropy.DEPENDENCIES
    queue_count = 1
    config = b""

    def __init__(self, seed: int = 1) -> None:
        self.given = bytearray()
        self._source = SeededBytes(seed, _BEAT_BYTES)
        self._entropy: GoldenEntropy | None = None

    def start(
        self, memory: GuestMemory, features: int, queues: Sequence[GoldenQueue | None]
    ) -> None:
        queue = queues[entropy.REQUEST_QUEUE]
        self._entropy = GoldenEntropy(memory, queue, self._give) if queue else None

    def _give(self, length: int) -> bytes:
        data = self._source(length)
        self.given += data[: _GIVEN_MAX - len(self.given)]
        return data

    def process(self, queue: int, limit: int) -> int:
        return len(self._entropy.process(limit)) if self._entropy else 0

    def write_config(self, offset: int, data: bytes) -> None:
        """There is no device configuration."""
