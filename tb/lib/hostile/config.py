"""The device that hostile runs are for, and the system around it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lib.blk_system import BlkSystem, blk_config
from lib.device_system import DeviceSystem
from lib.hostile.arena import MEMORY_BYTES
from lib.hostile.scenes import HOSTILE_SECTORS
from lib.net_system import NetSystem, small_config
from lib.pcie.latency import ReadLatency
from virtio_rtl.config import DeviceConfig

__all__ = ["HostileBlkSystem", "hostile_config", "make_hostile_system"]

_OWN_SECTORS = 8


def hostile_config(name: str = "net-x4", device: str = "net") -> DeviceConfig:
    """Four virtqueues, small memories; a net device with time-outs that a run can wait for."""
    if device == "blk":
        disk = blk_config(name, num_queues=4, capacity_sectors=2 * HOSTILE_SECTORS)
        return replace(disk, msix_vectors=4)
    return replace(
        small_config(name),
        queue_pairs=2,
        queue_size_max=64,
        msix_vectors=5,
        completion_timeout_us=4,
        receive_wait_us=1.0,
        mtu=1500,
        max_frame=1518,
    )


class HostileBlkSystem(BlkSystem):
    """A block device of which the neighbour has two virtqueues, and a few sectors for each."""

    stale = True
    """The golden disk may be another one, in the neighbour's sectors."""

    def part(self, index: int) -> range:
        """Eight sectors of those that no hostile driver names."""
        start = HOSTILE_SECTORS + index % 2 * 3 * _OWN_SECTORS
        return range(start, start + _OWN_SECTORS)


def make_hostile_system(dut: Any, config: DeviceConfig, **options: Any) -> DeviceSystem:
    """A fast host: of a run's cycles, few are to be waiting."""
    latency = ReadLatency(100, (40, 300))
    make = HostileBlkSystem if config.device == "blk" else NetSystem
    return make(dut, config, latency=latency, memory_bytes=MEMORY_BYTES, **options)
