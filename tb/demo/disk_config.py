"""The block device of the demo: a named configuration with a disk as large as the image."""

from __future__ import annotations

from dataclasses import replace

from virtio_rtl.config import NAMED_CONFIGS, DeviceConfig, named_config
from virtio_rtl.config_blk import SECTOR_BYTES

__all__ = ["SHOWN", "disk_config"]

DEFAULT = "blk-x8"

SHOWN = (
    "name", "device", "width", "clock_mhz", "lanes", "generation", "queue_size_max",
    "msix_vectors", "read_tags", "read_slot_bytes", "fetch_batch", "read_ahead",
    "completion_timeout_us",
)  # fmt: skip
"""Fields of the configuration that mean something to a block device."""


def disk_config(name: str, image_bytes: int) -> DeviceConfig:
    """Return the configuration for an image.

    name: of a block device; or of a net device, of which link, width and rings are taken.
    """
    if name.startswith("blk-") and name not in NAMED_CONFIGS:
        name = name.replace("blk-", "net-", 1)
    base = named_config(name)
    disk = replace(
        base.blk,
        backend="axi4",
        capacity_sectors=image_bytes // SECTOR_BYTES,
        blk_size=SECTOR_BYTES,
    )
    name = base.name.replace("net-", "blk-", 1)
    return replace(base, name=name, device="blk", queue_pairs=1, msix_vectors=3, blk=disk)
