"""A device with several queue pairs, and what its drivers see."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from system_helper import counter

from lib.net_system import NetSystem, small_config
from lib.sim import params
from virtio_model.spec.status import DeviceStatus
from virtio_rtl.config import DeviceConfig

__all__ = [
    "BUFFER",
    "PAIRS",
    "frames_of",
    "make_system",
    "nothing_broken",
    "pairs_config",
    "poll",
    "post",
    "sent_by",
]

PAIRS = 4
BUFFER = 1600


def pairs_config(name: str, wait_us: float = 4.0) -> DeviceConfig:
    """A small configuration with several pairs, and a vector for each virtqueue.

    wait_us: how long a received frame waits for a buffer.
    """
    return replace(
        small_config(name),
        queue_pairs=PAIRS,
        msix_vectors=2 * PAIRS + 1,
        receive_wait_us=wait_us,
    )


def make_system(dut: Any, **options: Any) -> NetSystem:
    """The system of this run's configuration."""
    return NetSystem(dut, pairs_config(params().config, params().wait_us), **options)


async def post(system: NetSystem, pair: int, count: int, length: int = BUFFER) -> None:
    """Give the receive virtqueue of a pair some buffers."""
    for _ in range(count):
        system.pairs[pair].net.post(length)
    await system.kick(2 * pair)


def poll(system: NetSystem, *pairs: int) -> None:
    """Reap the virtqueues of some pairs."""
    for pair in pairs:
        system.pairs[pair].poll()


def frames_of(system: NetSystem, pair: int) -> list[bytes]:
    """What a pair's driver has received."""
    return [got.frame for got in system.pairs[pair].received]


def sent_by(system: NetSystem, pair: int) -> list[bytes]:
    """What has left the device from a pair."""
    sink = system.sink
    return [frame for frame, dest in zip(sink.frames, sink.dests, strict=True) if dest == pair]


async def nothing_broken(system: NetSystem) -> None:
    """No rule was broken, by the device or in its eyes."""
    assert not await system.pci.status() & DeviceStatus.DEVICE_NEEDS_RESET
    assert await counter(system, "virtqueue_failed") == 0
    system.host.check()
