"""The block device of the demo: a named configuration with a disk as large as the image."""

from __future__ import annotations

from dataclasses import replace

from demo.request_config import request_config
from virtio_rtl.config import DeviceConfig
from virtio_rtl.config_blk import SECTOR_BYTES

__all__ = ["DEFAULT", "disk_config"]

DEFAULT = "blk-x8"


def disk_config(name: str, image_bytes: int) -> DeviceConfig:
    """Return the configuration for an image; name as for `request_config`."""
    base = request_config("blk", name)
    disk = replace(
        base.blk,
        backend="axi4",
        capacity_sectors=image_bytes // SECTOR_BYTES,
        blk_size=SECTOR_BYTES,
    )
    return replace(base, blk=disk)
