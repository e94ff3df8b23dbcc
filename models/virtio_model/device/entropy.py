"""Golden entropy device [virtio 1.4 §5.4], and the generator of the seeded source."""

from __future__ import annotations

from collections.abc import Callable

from virtio_model.device.queue import DeviceQueue
from virtio_model.errors import DriverBreach
from virtio_model.memory import GuestMemory

__all__ = ["GoldenEntropy", "SeededBytes"]

_MASK = (1 << 64) - 1


class SeededBytes:
    """The bytes of a device whose source is seeded: not random, the same after each reset.

    Words of Marsaglia's xorshift64 with the shifts 13, 7 and 17, little-endian. Hardware takes
    them in whole beats of `beat_bytes`, and throws away what a reply leaves of its last one.
    """

    def __init__(self, seed: int, beat_bytes: int) -> None:
        if not 0 < seed <= _MASK:
            raise ValueError(f"seed {seed:#x}: 64 bits and not 0")
        if beat_bytes < 8 or beat_bytes % 8:
            raise ValueError(f"beat of {beat_bytes} bytes: a multiple of 8")
        self.beat_bytes = beat_bytes
        self._state = seed

    def _word(self) -> bytes:
        x = self._state
        x ^= (x << 13) & _MASK
        x ^= x >> 7
        x ^= (x << 17) & _MASK
        self._state = x
        return x.to_bytes(8, "little")

    def __call__(self, length: int) -> bytes:
        """Return the next reply of `length` bytes."""
        words = -(-length // self.beat_bytes) * (self.beat_bytes // 8)
        return b"".join(self._word() for _ in range(words))[:length]


class GoldenEntropy:
    """Fills each buffer with bytes of `source`, at most `largest_reply` of them, in order.

    `source(length)` returns exactly `length` bytes. A buffer without room gets none; one that the
    device is asked to read from breaks a rule of the driver [virtio 1.4 §5.4.6.1].
    """

    def __init__(
        self,
        memory: GuestMemory,
        queue: DeviceQueue,
        source: Callable[[int], bytes],
        largest_reply: int = 4096,
    ) -> None:
        self.memory = memory
        self.queue = queue
        self.source = source
        self.largest_reply = largest_reply

    def process(self, limit: int | None = None) -> list[bytes]:
        """Answer what is available, at most `limit` requests; the bytes of each."""
        answers: list[bytes] = []
        while limit is None or len(answers) < limit:
            chain = self.queue.next_buffer()
            if chain is None:
                break
            if chain.readable:
                raise DriverBreach("readable element in an entropy buffer", id=chain.id)
            length = min(chain.writable_length, self.largest_reply)
            answer = self.source(length) if length else b""
            self.queue.complete(chain, chain.write_all(self.memory, answer))
            answers.append(answer)
        return answers
