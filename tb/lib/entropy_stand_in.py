"""The bytes that a ring-oscillator source gives when a generator stands in for its rings."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from virtio_rtl.config_entropy import PROPORTION_WINDOW, EntropyConfig

__all__ = ["StandInBytes", "stand_in_samples"]

_MASK = (1 << 64) - 1


def stand_in_samples(config: EntropyConfig) -> Iterator[int]:
    """Raw samples since a reset; for ever the same one when the stand-in has stuck."""
    state, steps = 88172645463325252, 0
    last = config.stand_in_samples * config.sample_cycles
    # A tap is sampled three cycles before its sample shows, and rings start a cycle late.
    wait = config.sample_cycles - 4
    while True:
        for _ in range(wait):
            if not last or steps < last:
                state ^= (state << 13) & _MASK
                state ^= state >> 7
                state ^= (state << 17) & _MASK
                steps += 1
        wait = config.sample_cycles
        yield (state & ((1 << config.rings) - 1)).bit_count() & 1


class StandInBytes:
    """The bytes since a reset, as long as none was dropped for want of room.

    Hardware takes them in whole beats of `beat_bytes`, and throws away what a reply leaves of its
    last one.
    """

    def __init__(self, config: EntropyConfig, beat_bytes: int) -> None:
        self.beat_bytes = beat_bytes
        self._bits = self._unbiased(stand_in_samples(config))

    @staticmethod
    def _unbiased(samples: Iterator[int]) -> Iterator[int]:
        """Von Neumann's rule, behind the start-up test."""
        tested = islice(samples, PROPORTION_WINDOW, None)
        for first, second in zip(tested, tested, strict=False):
            if first != second:
                yield first

    def __call__(self, length: int) -> bytes:
        """Return the next reply of `length` bytes."""
        count = -(-length // self.beat_bytes) * self.beat_bytes * 8
        bits = islice(self._bits, count)
        whole = sum(bit << place for place, bit in enumerate(bits))
        return whole.to_bytes(count // 8, "little")[:length]
