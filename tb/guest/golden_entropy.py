"""The golden entropy device behind the golden function."""

from __future__ import annotations

import random
from collections.abc import Sequence

from virtio_model.device.make import GoldenQueue
from virtio_model.memory import GuestMemory
from virtio_model.spec import entropy

_GIVEN_MAX = 1 << 20


class EntropyType:
    """Fills every buffer from a generator with a seed: the same bytes in every run.

    `given` are the first bytes that the driver got.
    """

    device_id = entropy.DEVICE_ID
    class_code = 0xFF0000
    features = 0
    dependencies = entropy.DEPENDENCIES
    queue_count = 1
    config = b""

    def __init__(self, seed: int = 1) -> None:
        self._draw = random.Random(seed)
        self.given = bytearray()
        self._memory: GuestMemory
        self._queue: GoldenQueue | None = None

    def start(
        self, memory: GuestMemory, features: int, queues: Sequence[GoldenQueue | None]
    ) -> None:
        self._memory, self._queue = memory, queues[entropy.REQUEST_QUEUE]

    def process(self, queue: int, limit: int) -> int:
        done = 0
        while self._queue and done < limit and (chain := self._queue.next_buffer()):
            data = self._draw.randbytes(chain.writable_length)
            self._queue.complete(chain, chain.write_all(self._memory, data))
            self.given += data[: _GIVEN_MAX - len(self.given)]
            done += 1
        return done

    def write_config(self, offset: int, data: bytes) -> None:
        """There is no device configuration."""
