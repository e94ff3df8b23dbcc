"""The devices of the long runs."""

from __future__ import annotations

from dataclasses import replace

from lib.hostile import hostile_config
from lib.net_system import small_config
from virtio_rtl.config import DeviceConfig

__all__ = ["HOSTILE", "PAIRS", "soak_config"]

HOSTILE = "hostile"
"""Two queue pairs: one for hostile drivers, one for their neighbour."""
PAIRS = "pairs"
"""Four queue pairs and fewer vectors than virtqueues: some share one."""


def soak_config(name: str) -> DeviceConfig:
    """A device by name: `PAIRS`, `HOSTILE`, or a named configuration, with small memories."""
    if name == HOSTILE:
        return hostile_config()
    if name != PAIRS:
        return small_config(name)
    config = small_config("net-x4")
    # A frame whose virtqueue has buffers is never dropped for the device's not having seen them.
    return replace(config, queue_pairs=4, msix_vectors=4, receive_wait_us=1000)
