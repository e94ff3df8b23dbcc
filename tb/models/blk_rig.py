"""A block driver and a golden block device over one guest memory, for the tests here."""

from __future__ import annotations

from dataclasses import dataclass, field

from virtio_model.blk_request import BlkLimits
from virtio_model.device.blk import GoldenBlk
from virtio_model.device.make import make_device_queue
from virtio_model.driver.blk import BlkDriver
from virtio_model.driver.make import make_queue
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.spec.blk import BlkFeature
from virtio_model.spec.features import Feature, mask

SPLIT = mask([Feature.INDIRECT_DESC])
PACKED = mask([Feature.INDIRECT_DESC, Feature.RING_PACKED])
ALL = mask([BlkFeature.FLUSH, BlkFeature.DISCARD, BlkFeature.WRITE_ZEROES])
SERIAL = b"a disk of the tests"


@dataclass
class BlkRig:
    """Both sides of a block device with `count` queues and a disk of `capacity` sectors."""

    features: int = ALL
    ring: int = PACKED
    size: int = 8
    count: int = 2
    capacity: int = 16
    read_only: bool = False
    strict: bool = True
    limits: BlkLimits = field(init=False)

    def __post_init__(self) -> None:
        self.memory = GuestMemory(1 << 20, base=0x2000)
        self.allocator = Allocator(self.memory)
        self.limits = BlkLimits(
            self.capacity,
            read_only=self.read_only,
            max_discard_sectors=9,
            max_discard_seg=2,
            max_write_zeroes_sectors=7,
            max_write_zeroes_seg=3,
        )
        self.image = bytearray(bytes(range(256)) * 2 * self.capacity)
        queues = [
            make_queue(self.memory, self.allocator, self.size, self.ring) for _ in range(self.count)
        ]
        self.driver = BlkDriver(
            self.memory, self.allocator, queues, self.features, limits=self.limits
        )
        self.device = GoldenBlk(
            self.memory,
            [make_device_queue(self.memory, queue, self.ring) for queue in queues],
            self.image,
            self.features,
            limits=self.limits,
            serial=SERIAL,
            strict=self.strict,
        )
