"""Accesses to registers and configuration space that no driver makes, as actions."""

from __future__ import annotations

import random

from lib.hostile.actions import Action, Config, FunctionReset, Kick, Register, Wait
from lib.hostile.arena import ARENA
from virtio_rtl.regs.maps import COMMON_CONFIG, COUNTERS, DEVICE_CONFIG, ISR, MSIX, NOTIFY

__all__ = ["intrusion", "stray_kick"]

_ADDRESSES = range(0x20, 0x38)
"""Fields of common configuration that hold addresses: written in whole dwords, with values whose
every combination is known, so that it can be judged what the device makes of them."""


def stray_kick(draw: random.Random, queues: int) -> Kick:
    """A kick for any virtqueue or none, with any value and size."""
    queue = draw.choice((*range(queues), queues, 0x3FE, draw.randrange(0x400)))
    value = draw.choice((queue, 0x8000 | queue, draw.getrandbits(16), draw.getrandbits(32)))
    size = draw.choice((1, 2, 2, 4))
    return Kick(queue, value & (1 << 8 * size) - 1, size)


def _address_half(draw: random.Random, upper: bool) -> bytes:
    if upper:
        return draw.choice((0, 1, 1, 1, 0xFFFF_FFFF)).to_bytes(4, "little")
    value = (ARENA + draw.randrange(0, 0x1000)) & draw.choice((-16, -16, -4, -1))
    return (value & 0xFFFF_FFFF).to_bytes(4, "little")


def _common(draw: random.Random) -> Register:
    offset = draw.choice((0x14, 0x14, 0x16, 0x18, 0x1C, 0x38, draw.randrange(0, 0x48))) & ~3
    if offset in _ADDRESSES:
        return Register(offset, _address_half(draw, bool(offset & 4)), 15, 0, "address")
    data = draw.choice(
        (
            draw.randbytes(4),
            bytes(4),
            b"\x01\0\0\0",
            b"\0\0\x01\0",
            bytes([draw.getrandbits(8)] * 4),
        )
    )
    return Register(offset, data, draw.getrandbits(4), 0, "common configuration")


def _vector(draw: random.Random) -> Register:
    """Mask, data or address of an entry of the MSI-X table, or pending bits."""
    if draw.random() < 0.2:
        return Register(0xC000 + 4 * draw.randrange(4), draw.randbytes(4), 15, 0, "pending bits")
    entry = MSIX.start + 16 * draw.choice((*range(5), 5, 1023))
    part = draw.choice((0, 4, 8, 12, 12, 12))
    if part < 8:
        data = _address_half(draw, part == 4)
        return Register(entry + part, data, 15, 0, "address")
    return Register(entry + part, draw.randbytes(4), draw.getrandbits(4), 0, "vector")


def _anywhere(draw: random.Random) -> Register:
    """Regions without addresses, several dwords, any byte enables."""
    region = draw.choice((ISR, DEVICE_CONFIG, NOTIFY, NOTIFY, COUNTERS))
    count = draw.choice((1, 1, 2, 5, 32))
    start = draw.choice((0, 0, 4, 8, draw.randrange(0, 0xF00))) & ~3
    last = draw.getrandbits(4) if count > 1 else 0
    return Register(
        region.start + start, draw.randbytes(4 * count), draw.getrandbits(4), last, region.name
    )


def _status(draw: random.Random) -> Register:
    value = draw.choice((0, 0, 0, 1, 3, 11, 15, 31, 16, 0x80, 0x40, draw.getrandbits(8)))
    return Register(0x14, bytes([value, 0, 0, 0]), 1, 0, "device status")


def _queue_reset(draw: random.Random) -> list[Action]:
    """Of any virtqueue, perhaps several times, perhaps enabled again at once."""
    queue = draw.choice((0, 1, 2, 3, 4, 0xFFFF))
    select = Register(0x14, b"\0\0" + queue.to_bytes(2, "little"), 12, 0, "queue_select")
    reset = Register(0x38, b"\0\0\1\0", 12, 0, "queue_reset")
    enable = Register(COMMON_CONFIG.start + 0x1C, b"\1\0\0\0", 3, 0, "queue_enable")
    done: list[Action] = [select, reset]
    for _ in range(draw.randrange(3)):
        done += [Wait(draw.randrange(150)), draw.choice((reset, enable))]
    return done


def intrusion(draw: random.Random, queues: int) -> list[Action]:
    """One of them."""
    kind = draw.randrange(20)
    if kind < 6:
        return [_common(draw)]
    if kind < 9:
        return [_vector(draw)]
    if kind < 11:
        return [_anywhere(draw)]
    if kind < 14:
        return [_status(draw)]
    if kind < 16:
        return _queue_reset(draw)
    if kind < 17:
        return [Config("command", draw.choice((2, 2, 6, 0x402, 0x406)))]
    if kind < 18:
        return [Config("msix", draw.choice((0, 0x4000, 0x8000, 0xC000)))]
    if kind < 19 and draw.random() < 0.5:
        return [FunctionReset(1200)]
    return [stray_kick(draw, queues)]
