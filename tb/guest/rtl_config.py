"""Configurations of the devices that a guest gets in RTL: small, for the simulation is to be fast.

One model per device type serves all cases: what a guest is offered is chosen by `FeatureMask`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from guest.options import ServeOptions
from virtio_rtl.config import DeviceConfig
from virtio_rtl.config_blk import SECTOR_BYTES, BlkConfig
from virtio_rtl.config_entropy import EntropyConfig

_SECTORS_PER_MIB = (1 << 20) // SECTOR_BYTES
_BASE = DeviceConfig(
    name="guest", width=64, lanes=4, read_tags=16, read_ahead=64, queue_size_max=256
)


def _net(_: ServeOptions) -> DeviceConfig:
    return replace(_BASE, name="guest-net", device="net")


def _entropy(_: ServeOptions) -> DeviceConfig:
    source = EntropyConfig(source="port", word_bits=64)
    return replace(_BASE, name="guest-entropy", device="entropy", entropy=source)


def _blk(options: ServeOptions) -> DeviceConfig:
    sectors = options.mebibytes * _SECTORS_PER_MIB
    if options.disk is not None:
        sectors = max(sectors, -(-options.disk.stat().st_size // SECTOR_BYTES))
    disk = BlkConfig(
        capacity_sectors=sectors,
        backend="axi4",
        num_queues=options.queues,
        config_wce=True,
    )
    return replace(_BASE, name="guest-blk", device="blk", msix_vectors=1 + options.queues, blk=disk)


TYPES: Mapping[str, Callable[[ServeOptions], DeviceConfig]] = {
    "net": _net,
    "blk": _blk,
    "entropy": _entropy,
}
"""Every device type that a guest can be given, by name."""
