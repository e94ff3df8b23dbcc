"""Bytes of /dev/hwrng against those of the source: a kernel in Python reads, the check compares."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from guest import hwrng

SIZES = [256, 256, 4096, 4096, *range(1, 65), 32, 256, 100, 7, 300]


class Kernel:
    """rng_dev_read of Linux, over a device whose bytes are `stream`; some go to the pool."""

    def __init__(self, stream: bytes, seed: int = 1) -> None:
        self._stream = stream
        self._place = 0
        self._buffer = b""
        self._draw = random.Random(seed)

    def _from_device(self, size: int) -> bytes:
        self._place += size
        return self._stream[self._place - size : self._place]

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            if not self._buffer:
                if self._draw.random() < 0.2:
                    self._from_device(self._draw.choice([16, 64, 128]))
                self._buffer = self._from_device(64)
            count = min(size - len(data), len(self._buffer))
            data += self._buffer[len(self._buffer) - count :]
            self._buffer = self._buffer[: len(self._buffer) - count]
        return data


def lines(stream: bytes, sizes: Sequence[int] = SIZES, seed: int = 1) -> list[str]:
    """What a guest tells."""
    kernel = Kernel(stream, seed)
    return [kernel.read(size).hex() for size in sizes]


GIVEN = random.Random(5).randbytes(40_000)


@pytest.mark.parametrize("seed", range(5))
def test_reads_of_all_sizes_are_found_in_order(seed: int) -> None:
    right, said = hwrng.compare(lines(GIVEN, seed=seed), GIVEN)
    assert right, said
    assert said == f"{sum(SIZES):,} bytes in {len(SIZES)} reads are the source's, in order"


@pytest.mark.parametrize("at", [0, 63, 300, 5000, 8704, 9000, 10500])
def test_a_byte_that_the_source_did_not_give(at: int) -> None:
    """In the first block, in a long one, in the short ones: each byte read is looked at."""
    told = "".join(lines(GIVEN))
    changed = told[: 2 * at] + f"{int(told[2 * at], 16) ^ 1:x}" + told[2 * at + 1 :]
    place, reads = 0, []
    for size in SIZES:
        reads.append(changed[place : place + 2 * size])
        place += 2 * size
    right, said = hwrng.compare(reads, GIVEN)
    assert not right
    assert said.endswith(": no such run in the source")


@pytest.mark.parametrize("at", [64, 1024, 9984])
def test_bytes_that_come_twice(at: int) -> None:
    """The device gives 64 bytes again, later or at once."""
    for late in (0, 2048):
        twice = GIVEN[: at + late] + GIVEN[at - 64 : at] + GIVEN[at + late :]
        kernel = Kernel(twice)
        kernel._draw.random = lambda: 1.0  # type: ignore[method-assign]  # none to the pool
        right, said = hwrng.compare([kernel.read(64).hex() for _ in range(250)], GIVEN)
        assert not right
        assert said.endswith(": twice, or out of order")


def test_short_reads_come_from_the_end_of_a_filling() -> None:
    stream = bytes(range(128))
    reads = [stream[63:64], stream[61:63], stream[:61] + stream[126:]]
    assert hwrng.runs(reads) == [stream[:64], stream[126:]]
    assert hwrng.compare([read.hex() for read in reads], stream)[0]
    # As if they came from its begin.
    assert not hwrng.compare([stream[:1].hex(), stream[1:64].hex()], stream)[0]


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ([], "the guest told none"),
        ([""], "the guest told none"),
        (["00zz"], "a line that is not of hexadecimal digits"),
        (["000"], "a line that is not of hexadecimal digits"),
    ],
)
def test_nothing_told_is_no_comparison(told: list[str], said: str) -> None:
    assert hwrng.compare(told, GIVEN) == (False, said)
