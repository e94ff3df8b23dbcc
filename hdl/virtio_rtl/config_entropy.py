"""What is fixed when an entropy device is generated."""

from dataclasses import dataclass
from math import ceil, exp, lgamma, log

__all__ = ["FALSE_ALARM_BITS", "PROPORTION_WINDOW", "EntropyConfig"]

PROPORTION_WINDOW = 1024
"""Samples in a window of the adaptive proportion test, for binary sources. [SP 800-90B §4.4.2]"""

FALSE_ALARM_BITS = 40
"""A good source fails a health test with a probability of at most 2 to the power of minus this.

The recommended range is 20 to 40; sources of some million samples a second take the upper end.
[SP 800-90B §4.3]
"""

_SOURCES = ("port", "seeded", "ring_oscillator")


@dataclass(frozen=True)
class EntropyConfig:
    """The entropy device's part of a configuration. [virtio 1.4 §5.4]

    Parameters
    ----------
    source
        Where the bytes come from. ``"port"``: a stream port of the device. ``"seeded"``: a
        generator that starts with ``seed`` after each reset; for simulation, **not random**.
        ``"ring_oscillator"``: rings of inverters, with health tests.
    largest_reply
        Bytes given for one request at most, 1 to 65536.
    dry_after_us
        If the source gives nothing for so long when the device is to be suspended while a request
        waits, it counts as failed; 0.1 to 10000000. For rings it is at least what ``first_beat_us``
        says and half as much more.
    word_bits
        ``"port"``: bits of a word, a power of two from 8 to the width of the datapath.
    seed
        ``"seeded"``: start of the generator, 64 bits and not 0.
    rings, ring_stages
        ``"ring_oscillator"``: number of rings, 1 to 64, and inverters of the shortest ones, odd.
    sample_cycles
        ``"ring_oscillator"``: cycles of the core's clock from sample to sample, 4 to 65536.
    min_entropy
        ``"ring_oscillator"``: min-entropy in bits that each sample has at least, 0.1 to 1; from
        an assessment of the source on the board that it runs on. Makes the cut-offs of the health
        tests.
    stand_in
        ``"ring_oscillator"``: build a generator in place of the rings, for simulation,
        **not random**. It may be slower than ``dry_after_us`` allows, so that a test sees a source
        that is dry.
    stand_in_samples
        Samples after which the stand-in sticks, for tests of failures; 0: never.
    """

    source: str = "port"
    largest_reply: int = 4096
    dry_after_us: float = 1000
    word_bits: int = 32
    seed: int = 1
    rings: int = 16
    ring_stages: int = 5
    sample_cycles: int = 16
    min_entropy: float = 0.5
    stand_in: bool = False
    stand_in_samples: int = 0

    def __post_init__(self) -> None:
        def require(condition: bool, field: str, rule: str) -> None:
            if not condition:
                # Here, for the configuration of the whole device is made of this one.
                from .config import ConfigError

                raise ConfigError(f"entropy.{field} = {getattr(self, field)!r}: {rule}")

        def within(field: str, low: float, high: float) -> None:
            require(low <= getattr(self, field) <= high, field, f"{low} to {high}")

        require(self.source in _SOURCES, "source", f"one of {', '.join(_SOURCES)}")
        within("largest_reply", 1, 65536)
        within("dry_after_us", 0.1, 10_000_000)
        words = (8, 16, 32, 64, 128, 256, 512)
        require(self.word_bits in words, "word_bits", "a power of two from 8 to 512")
        require(0 < self.seed < 1 << 64, "seed", "64 bits and not 0")
        within("rings", 1, 64)
        within("ring_stages", 3, 99)
        require(self.ring_stages % 2 == 1, "ring_stages", "an odd number")
        within("sample_cycles", 4, 65536)
        within("min_entropy", 0.1, 1)
        within("stand_in_samples", 0, 1 << 32)

    def first_beat_us(self, width: int, clock_mhz: float) -> float:
        """How long rings take from a reset to their first beat: the start-up test and its bits.

        Of two samples a bit comes if they differ: the mean, with all the bias that ``min_entropy``
        allows; so it is four samples a bit to 16.
        """
        often = 2**-self.min_entropy
        samples = PROPORTION_WINDOW + width / (often * (1 - often))
        return samples * self.sample_cycles / clock_mhz

    @property
    def repetition_cutoff(self) -> int:
        """Samples in a row with one value at which the source fails. [SP 800-90B §4.4.1]"""
        return 1 + ceil(FALSE_ALARM_BITS / self.min_entropy)

    @property
    def proportion_cutoff(self) -> int:
        """Samples in a window with its first value at which it fails. [SP 800-90B §4.4.2]"""
        return 1 + _critical_binomial(
            PROPORTION_WINDOW, 2**-self.min_entropy, 2.0**-FALSE_ALARM_BITS
        )


def _critical_binomial(trials: int, chance: float, alpha: float) -> int:
    """Smallest number that is exceeded in ``trials`` with a probability of at most ``alpha``."""
    above = 0.0
    for count in range(trials, -1, -1):
        ways = lgamma(trials + 1) - lgamma(count + 1) - lgamma(trials - count + 1)
        above += exp(ways + count * log(chance) + (trials - count) * log(1 - chance))
        if above > alpha:
            return count
    return 0
