"""What the register monitor has to know about each device type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from virtio_model.spec import blk, entropy, net
from virtio_model.spec.blk import BlkFeature
from virtio_model.spec.features import Dependencies
from virtio_model.spec.fields import Field
from virtio_model.spec.net import NetFeature

__all__ = ["BLK", "ENTROPY", "NET", "DeviceRules"]


@dataclass(frozen=True)
class DeviceRules:
    """A device type's configuration, and how a driver has to treat it.

    `optional`: features of which one brings a field. `write_row`: the row that forbids to write
    any field; empty if there is none. `settled`: the row that forbids to read a
    field before FEATURES_OK.
    """

    fields: tuple[Field, ...]
    dependencies: Dependencies
    optional: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    write_row: str = ""
    settled: Mapping[str, str] = field(default_factory=dict)


_N, _B = NetFeature, BlkFeature

NET = DeviceRules(
    net.CONFIG,
    net.DEPENDENCIES,
    {
        "mac": (_N.MAC,),
        "status": (_N.STATUS,),
        "max_virtqueue_pairs": (_N.MQ, _N.RSS),
        "mtu": (_N.MTU,),
        "speed": (_N.SPEED_DUPLEX,),
        "duplex": (_N.SPEED_DUPLEX,),
        "rss_max_key_size": (_N.RSS, _N.HASH_REPORT),
        "rss_max_indirection_table_length": (_N.RSS,),
        "supported_hash_types": (_N.RSS, _N.HASH_REPORT),
        "supported_tunnel_types": (_N.HASH_TUNNEL,),
    },
    write_row="drv-net-config-01",
)

BLK = DeviceRules(
    blk.CONFIG,
    blk.DEPENDENCIES,
    {
        "size_max": (_B.SIZE_MAX,),
        "seg_max": (_B.SEG_MAX,),
        "cylinders": (_B.GEOMETRY,),
        "heads": (_B.GEOMETRY,),
        "sectors": (_B.GEOMETRY,),
        "blk_size": (_B.BLK_SIZE,),
        "physical_block_exp": (_B.TOPOLOGY,),
        "alignment_offset": (_B.TOPOLOGY,),
        "min_io_size": (_B.TOPOLOGY,),
        "opt_io_size": (_B.TOPOLOGY,),
        "writeback": (_B.CONFIG_WCE,),
        "num_queues": (_B.MQ,),
        "max_discard_sectors": (_B.DISCARD,),
        "max_discard_seg": (_B.DISCARD,),
        "discard_sector_alignment": (_B.DISCARD,),
        "max_write_zeroes_sectors": (_B.WRITE_ZEROES,),
        "max_write_zeroes_seg": (_B.WRITE_ZEROES,),
        "write_zeroes_may_unmap": (_B.WRITE_ZEROES,),
        "max_secure_erase_sectors": (_B.SECURE_ERASE,),
        "max_secure_erase_seg": (_B.SECURE_ERASE,),
        "secure_erase_sector_alignment": (_B.SECURE_ERASE,),
        "zone_sectors": (_B.ZONED,),
        "max_open_zones": (_B.ZONED,),
        "max_active_zones": (_B.ZONED,),
        "max_append_sectors": (_B.ZONED,),
        "write_granularity": (_B.ZONED,),
        "model": (_B.ZONED,),
    },
    settled={"writeback": "drv-blk-init-04"},
)

ENTROPY = DeviceRules(entropy.CONFIG, entropy.DEPENDENCIES)
