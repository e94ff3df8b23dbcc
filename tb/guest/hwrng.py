"""What a guest has read from /dev/hwrng, held against what the source of the device gave."""

from __future__ import annotations

from collections.abc import Sequence

_BUFFER = 64
"""Bytes of the kernel's buffer on x86: a line of the cache."""


def runs(reads: Sequence[bytes]) -> list[bytes]:
    """Return what the kernel's buffer held, filling by filling, as far as it was read.

    Each read takes bytes from the *end* of what is left in the buffer, and only an empty buffer is
    filled anew (`rng_dev_read` in drivers/char/hw_random/core.c). So a filling is a run of bytes
    of the device, but short reads get it from behind.
    """
    found: list[bytes] = []
    left = 0
    for read in reads:
        place = 0
        while place < len(read):
            if not left:
                found.append(b"")
                left = _BUFFER
            count = min(left, len(read) - place)
            found[-1] = read[place : place + count] + found[-1]
            left -= count
            place += count
    return found


def compare(lines: Sequence[str], given: bytes) -> tuple[bool, str]:
    """Return whether a guest's reads are bytes of the source, each once and in order; and a text.

    lines: a read each, in hexadecimal digits. Bytes may be left out between two fillings of the
    kernel's buffer: the kernel takes some for its own pool, and what a driver holds at its end is
    lost.
    """
    try:
        reads = [bytes.fromhex(line) for line in lines]
    except ValueError:
        return False, "a line that is not of hexadecimal digits"
    if not any(reads):
        return False, "the guest told none"
    place = count = 0
    for run in runs(reads):
        at = given.find(run, place)
        if at < 0:
            why = "twice, or out of order" if run in given else "no such run in the source"
            return False, f"{run[:16].hex()}... after {count:,} right bytes: {why}"
        place, count = at + len(run), count + len(run)
    return True, f"{count:,} bytes in {len(reads)} reads are the source's, in order"
