"""The block device that a guest gets in RTL."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from guest.options import ServeOptions
from guest.rtl_config import BASE
from guest.rtl_ports import Ports
from lib.port import reader
from virtio_rtl.config import DeviceConfig
from virtio_rtl.config_blk import SECTOR_BYTES, BlkConfig

_SECTORS_PER_MIB = (1 << 20) // SECTOR_BYTES


def config(options: ServeOptions) -> DeviceConfig:
    """Return the configuration, with the disk that was asked for."""
    sectors = options.mebibytes * _SECTORS_PER_MIB
    if options.disk is not None:
        sectors = max(sectors, -(-options.disk.stat().st_size // SECTOR_BYTES))
    disk = BlkConfig(
        capacity_sectors=sectors,
        backend="axi4",
        num_queues=options.queues,
        config_wce=True,
    )
    return replace(BASE, name="guest-blk", device="blk", msix_vectors=1 + options.queues, blk=disk)


def ports(dut: Any, config: DeviceConfig, _: ServeOptions) -> Ports:
    """Return the bus of the disk, if it is outside of the device."""
    return BlkPorts(dut) if config.blk.backend == "axi4" else Ports()


class BlkPorts(Ports):
    """A disk that is simulated with the device, see `guest.rtl_device.GuestDevice`."""

    def __init__(self, dut: Any) -> None:
        self._beats = reader(dut.disk_beats)

    def activity(self) -> tuple[int, ...]:
        """Beats on the bus of the disk: some requests take long without a word to the host."""
        return (self._beats(),)
