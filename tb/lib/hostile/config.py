"""The device that hostile runs are for, and the system around it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lib.hostile.arena import MEMORY_BYTES
from lib.net_system import NetSystem, small_config
from lib.pcie.latency import ReadLatency
from virtio_rtl.config import DeviceConfig

__all__ = ["hostile_config", "make_hostile_system"]


def hostile_config(name: str = "net-x4") -> DeviceConfig:
    """Two queue pairs, small memories, and time-outs of a length that a run can wait for."""
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


def make_hostile_system(dut: Any, config: DeviceConfig, **options: Any) -> NetSystem:
    """A fast host: of a run's cycles, few are to be waiting."""
    latency = ReadLatency(100, (40, 300))
    return NetSystem(dut, config, latency=latency, memory_bytes=MEMORY_BYTES, **options)
