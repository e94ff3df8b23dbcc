"""The golden block device behind the golden function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from guest.options import ServeOptions
from virtio_model.blk_request import BlkLimits
from virtio_model.device.blk import GoldenBlk
from virtio_model.device.make import GoldenQueue
from virtio_model.device.queue import DeviceQueue
from virtio_model.memory import GuestMemory
from virtio_model.spec import blk
from virtio_model.spec import features as feat
from virtio_model.spec.blk import BlkFeature

_FEATURES = (
    BlkFeature.SEG_MAX,
    BlkFeature.BLK_SIZE,
    BlkFeature.FLUSH,
    BlkFeature.CONFIG_WCE,
    BlkFeature.DISCARD,
    BlkFeature.WRITE_ZEROES,
)
_RANGE_SECTORS, _RANGES = 1 << 16, 16
_WRITEBACK_OFFSET = 0x20
_MIB = 1 << 20


def make(options: ServeOptions) -> BlkType:
    """Return the disk that was asked for."""
    image = bytearray(options.disk.read_bytes() if options.disk else b"")
    sectors = max(options.mebibytes * _MIB, len(image)) + 511 >> 9
    image.extend(bytes((sectors << 9) - len(image)))
    return BlkType(image, queues=options.queues, serial=b"golden")


class BlkType:
    """A disk in memory, as long as the image. `read_only` offers RO, several `queues` MQ.

    A driver's request that breaks a rule is answered with its status, as any disk does.
    """

    device_id = blk.DEVICE_ID
    class_code = 0x018000
    dependencies = blk.DEPENDENCIES

    def __init__(
        self, image: bytearray, *, queues: int = 1, read_only: bool = False, serial: bytes = b""
    ) -> None:
        self.image = image
        self.serial = serial
        self.queue_count = queues
        chosen = [*_FEATURES, *([BlkFeature.MQ] if queues > 1 else [])]
        self.features = feat.mask([*chosen, *([BlkFeature.RO] if read_only else [])])
        values = {
            "capacity": len(image) // blk.SECTOR_SIZE,
            "seg_max": 126,
            "blk_size": blk.SECTOR_SIZE,
            "writeback": 1,
            "num_queues": queues,
            "max_discard_sectors": _RANGE_SECTORS,
            "max_discard_seg": _RANGES,
            "discard_sector_alignment": 1,
            "max_write_zeroes_sectors": _RANGE_SECTORS,
            "max_write_zeroes_seg": _RANGES,
            "write_zeroes_may_unmap": 0,  # a disk in memory deallocates nothing
        }
        self.config = b"".join(
            values.get(field.name, 0).to_bytes(field.size, "little") for field in blk.CONFIG
        )
        self._limits = BlkLimits.of(values, self.features)
        self._blk: GoldenBlk | None = None

    def start(
        self, memory: GuestMemory, features: int, queues: Sequence[GoldenQueue | None]
    ) -> None:
        # A virtqueue that is not enabled is never processed.
        placed = cast(Sequence[DeviceQueue], queues)
        self._blk = GoldenBlk(
            memory,
            placed,
            self.image,
            features,
            limits=self._limits,
            serial=self.serial,
            strict=False,
        )

    def process(self, queue: int, limit: int) -> int:
        return self._blk.process(queue, limit) if self._blk else 0

    def write_config(self, offset: int, data: bytes) -> None:
        """The cache mode is the driver's; a disk in memory has none."""
        if offset == _WRITEBACK_OFFSET and data[0] <= 1:
            config = bytearray(self.config)
            config[offset] = data[0]
            self.config = bytes(config)
