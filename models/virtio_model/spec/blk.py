"""Block device: ids, features, configuration, requests [virtio 1.4 §5.2]."""

from __future__ import annotations

from enum import IntEnum

from virtio_model.spec.features import Dependencies, needs
from virtio_model.spec.fields import Field

DEVICE_ID = 2
SECTOR_SIZE = 512


class BlkFeature(IntEnum):
    """Feature bit numbers [virtio 1.4 §5.2.3]."""

    BARRIER = 0
    """Legacy only."""
    SIZE_MAX = 1
    SEG_MAX = 2
    GEOMETRY = 4
    RO = 5
    BLK_SIZE = 6
    SCSI = 7
    """Legacy only."""
    FLUSH = 9
    TOPOLOGY = 10
    CONFIG_WCE = 11
    MQ = 12
    DISCARD = 13
    WRITE_ZEROES = 14
    LIFETIME = 15
    SECURE_ERASE = 16
    ZONED = 17


DEPENDENCIES: Dependencies = {BlkFeature.CONFIG_WCE: needs([BlkFeature.FLUSH])}

# Device configuration [virtio 1.4 §5.2.4]
CONFIG_SIZE = 96
_CFG = "5.2.4"


def _f(name: str, offset: int, bits: int, feature: str, *, writable: bool = False) -> Field:
    return Field(name, offset, bits, "RW" if writable else "R", section=_CFG, description=feature)


CONFIG: tuple[Field, ...] = (
    _f("capacity", 0x00, 64, "512-byte sectors."),
    _f("size_max", 0x08, 32, "SIZE_MAX."),
    _f("seg_max", 0x0C, 32, "SEG_MAX."),
    _f("cylinders", 0x10, 16, "GEOMETRY."),
    _f("heads", 0x12, 8, "GEOMETRY."),
    _f("sectors", 0x13, 8, "GEOMETRY."),
    _f("blk_size", 0x14, 32, "BLK_SIZE."),
    _f("physical_block_exp", 0x18, 8, "TOPOLOGY: log2 of logical blocks per physical one."),
    _f("alignment_offset", 0x19, 8, "TOPOLOGY."),
    _f("min_io_size", 0x1A, 16, "TOPOLOGY."),
    _f("opt_io_size", 0x1C, 32, "TOPOLOGY."),
    _f("writeback", 0x20, 8, "CONFIG_WCE: 0 write-through, 1 write-back.", writable=True),
    _f("unused0", 0x21, 8, ""),
    _f("num_queues", 0x22, 16, "MQ."),
    _f("max_discard_sectors", 0x24, 32, "DISCARD."),
    _f("max_discard_seg", 0x28, 32, "DISCARD."),
    _f("discard_sector_alignment", 0x2C, 32, "DISCARD."),
    _f("max_write_zeroes_sectors", 0x30, 32, "WRITE_ZEROES."),
    _f("max_write_zeroes_seg", 0x34, 32, "WRITE_ZEROES."),
    _f("write_zeroes_may_unmap", 0x38, 8, "WRITE_ZEROES."),
    _f("unused1", 0x39, 24, ""),
    _f("max_secure_erase_sectors", 0x3C, 32, "SECURE_ERASE."),
    _f("max_secure_erase_seg", 0x40, 32, "SECURE_ERASE."),
    _f("secure_erase_sector_alignment", 0x44, 32, "SECURE_ERASE."),
    _f("zone_sectors", 0x48, 32, "ZONED."),
    _f("max_open_zones", 0x4C, 32, "ZONED."),
    _f("max_active_zones", 0x50, 32, "ZONED."),
    _f("max_append_sectors", 0x54, 32, "ZONED."),
    _f("write_granularity", 0x58, 32, "ZONED: bytes."),
    _f("model", 0x5C, 8, "ZONED: 0 none, 1 host-managed, 2 host-aware."),
    _f("unused2", 0x5D, 24, ""),
)

# Requests [virtio 1.4 §5.2.6]
REQUEST_HEADER_SIZE = 16
REQUEST_HEADER: tuple[Field, ...] = (
    Field("type", 0, 32, "W", section="5.2.6"),
    Field("reserved", 4, 32, "W", section="5.2.6"),
    Field("sector", 8, 64, "W", section="5.2.6"),
)
ID_BYTES = 20
LIFETIME_BYTES = 6


class RequestType(IntEnum):
    """Values of the type of a request."""

    IN = 0
    OUT = 1
    FLUSH = 4
    GET_ID = 8
    GET_LIFETIME = 10
    DISCARD = 11
    WRITE_ZEROES = 13
    SECURE_ERASE = 14
    ZONE_APPEND = 15
    ZONE_REPORT = 16
    ZONE_OPEN = 18
    ZONE_CLOSE = 20
    ZONE_FINISH = 22
    ZONE_RESET = 24
    ZONE_RESET_ALL = 26


class RequestStatus(IntEnum):
    """The status byte, last of the writable bytes."""

    OK = 0
    IOERR = 1
    UNSUPP = 2
    ZONE_INVALID_CMD = 3
    ZONE_UNALIGNED_WP = 4
    ZONE_OPEN_RESOURCE = 5
    ZONE_ACTIVE_RESOURCE = 6


SEGMENT_SIZE = 16
SEGMENT: tuple[Field, ...] = (
    Field("sector", 0, 64, "W", section="5.2.6"),
    Field("num_sectors", 8, 32, "W", section="5.2.6"),
    Field("flags", 12, 32, "W", section="5.2.6", description="Bit 0 unmap, WRITE_ZEROES only."),
)
SEGMENT_UNMAP = 1
