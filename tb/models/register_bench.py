"""A fake PCI function, a driver on it, and the register monitor between them."""

from __future__ import annotations

import contextlib

from fake_pci import OFFERED, FakePci

from lib.register_monitor import NET, DeviceRules, RegisterMonitor
from virtio_model.driver.packed_queue import PackedQueue
from virtio_model.driver.pci import VirtioPciDriver
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.spec import features as feat
from virtio_model.spec import net
from virtio_model.spec.features import Feature
from virtio_model.spec.status import DeviceStatus as Status

EXTRA = feat.mask([Feature.NOTIFICATION_DATA, Feature.NOTIF_CONFIG_DATA, Feature.SUSPEND])
RUNNING = Status.ACKNOWLEDGE | Status.DRIVER | Status.FEATURES_OK | Status.DRIVER_OK


class QuietPci(FakePci):
    """A fake function that keeps quiet about wrong accesses."""

    async def bar_write(self, bar: int, offset: int, value: int, size: int) -> None:
        with contextlib.suppress(AssertionError):
            await super().bar_write(bar, offset, value, size)

    async def bar_read(self, bar: int, offset: int, size: int) -> int:
        with contextlib.suppress(AssertionError):
            return await super().bar_read(bar, offset, size)
        return 0


class Bench:
    """A fake function behind a monitor, and a driver on it; a network device unless told."""

    def __init__(
        self, offered: int = OFFERED, device_id: int = net.DEVICE_ID, rules: DeviceRules = NET
    ) -> None:
        size = max((field.end for field in rules.fields), default=0)
        self.device = QuietPci(device_id, size)
        self.device.offered = offered
        self.monitor = RegisterMonitor(self.device, rules)
        self.driver = VirtioPciDriver(
            self.monitor, dependencies=rules.dependencies, device_config=bool(size)
        )
        self.memory = GuestMemory(1 << 16)
        self.allocator = Allocator(self.memory)

    def queue(self, size: int = 16) -> PackedQueue:
        """Make a virtqueue; to the registers its format is all one."""
        return PackedQueue(self.memory, self.allocator, size)

    async def announce(self) -> None:
        """Discover, reset, ACKNOWLEDGE, DRIVER; the offer is read."""
        await self.driver.discover()
        await self.driver.reset()
        await self.driver.add_status(Status.ACKNOWLEDGE)
        await self.driver.add_status(Status.DRIVER)
        await self.driver.read_offered()

    async def negotiate(self, features: int = OFFERED | EXTRA) -> None:
        """Up to FEATURES_OK."""
        await self.announce()
        await self.driver.negotiate(features)

    async def run(self, features: int = OFFERED | EXTRA) -> None:
        """Up to DRIVER_OK, with two virtqueues."""
        await self.negotiate(features)
        await self.driver.setup_queue(0, self.queue(), 1)
        await self.driver.setup_queue(1, self.queue(), 2)
        await self.driver.set_config_vector(0)
        await self.driver.driver_ok()

    async def write(self, name: str, value: int) -> None:
        """Write a field of the common configuration."""
        await self.driver.write_common(name, value)

    async def suspend(self) -> None:
        """Suspend, and look."""
        await self.write("device_status", RUNNING | Status.SUSPEND)
        assert await self.driver.status() & Status.SUSPEND

    async def resume(self) -> None:
        """Resume, and look."""
        await self.write("device_status", RUNNING | Status.SUSPEND)
        assert await self.driver.status() == RUNNING
