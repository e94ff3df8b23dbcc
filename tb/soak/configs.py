"""The devices of the long runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lib.blk_system import blk_config
from lib.disk import DiskDevice
from lib.hostile import hostile_config
from lib.net_system import small_config
from virtio_rtl.config import DeviceConfig
from virtio_rtl.top import VirtioDevice

__all__ = ["BLK", "DISK", "HOSTILE", "PAIRS", "TYPES", "soak_config", "soak_device"]

TYPES = ("net", "blk")
"""Device types."""
HOSTILE = "hostile"
"""A net device with two queue pairs: one for hostile drivers, one for their neighbour."""
PAIRS = "pairs"
"""Four queue pairs and fewer vectors than virtqueues: some share one."""
BLK = "blk"
"""A block device on on-chip memory with four virtqueues and fewer vectors, for both kinds."""
DISK = "disk"
"""One on AXI4 memory with three virtqueues, at double width."""


def soak_config(name: str) -> DeviceConfig:
    """A device by name: one of those above, or a named configuration, with small memories."""
    if name == HOSTILE:
        return hostile_config()
    if name == BLK:
        return hostile_config(device="blk")
    if name == DISK:
        return blk_config(
            "net-x8",
            num_queues=3,
            capacity_sectors=240,
            backend="axi4",
            axi_base=0x4_0000,
            axi_burst_bytes=512,
            max_discard_sectors=9,
            max_write_zeroes_sectors=60,
        )
    if name != PAIRS:
        return small_config(name)
    config = small_config("net-x4")
    # A frame whose virtqueue has buffers is never dropped for the device's not having seen them.
    return replace(config, queue_pairs=4, msix_vectors=4, receive_wait_us=1000)


def soak_device(config: DeviceConfig) -> Any:
    """The device, with what it needs around it."""
    outside = config.device == "blk" and config.blk.backend == "axi4"
    return DiskDevice(config) if outside else VirtioDevice(config)
