"""Virtio PCI transport, driver side: initialisation, queues, notification [virtio 1.4 §4.1]."""

from __future__ import annotations

from dataclasses import dataclass

from virtio_model.driver.pci_caps import PciAccess
from virtio_model.driver.pci_regs import PciRegisters
from virtio_model.driver.queue import DriverQueue
from virtio_model.errors import DriverComplaint
from virtio_model.spec import features as feat
from virtio_model.spec import pci
from virtio_model.spec.features import Feature
from virtio_model.spec.status import DeviceStatus

_FEATURE_WORDS = feat.FEATURE_BITS_END // 32
# Select values behind the last feature are legal and show 0.
_EMPTY_WORDS = (_FEATURE_WORDS, 0x8000_0000, 0xFFFF_FFFF)


@dataclass(frozen=True)
class ActiveQueue:
    """A queue that has been set up."""

    queue: DriverQueue
    notify_offset: int
    notify_id: int
    """What a kick carries: the index, or queue_notif_config_data."""


class NegotiationRefused(DriverComplaint):
    """The device cleared FEATURES_OK for a legal subset of what it offered."""


class VirtioPciDriver(PciRegisters):
    """Drives a modern virtio-pci function, checking what a driver can see.

    Order of use: `discover`, `start`, `setup_queue` for each queue, `driver_ok`, then `kick`.
    Tests of single steps use `reset`, `add_status` and `negotiate` instead of `start`.
    """

    def __init__(
        self,
        access: PciAccess,
        *,
        dependencies: feat.Dependencies = feat.DEPENDENCIES,
        device_config: bool = True,
        poll_limit: int = 1000,
    ) -> None:
        """`dependencies` are the device type's; `poll_limit` bounds every wait, in reads."""
        super().__init__(access, device_config=device_config, poll_limit=poll_limit)
        self.dependencies = dependencies
        self.offered = 0
        self.features = 0
        self.queues: dict[int, ActiveQueue] = {}

    # Status and features [virtio 1.4 §2.1, §2.2]

    async def status(self) -> DeviceStatus:
        return DeviceStatus(await self.read_common("device_status"))

    async def add_status(self, bits: DeviceStatus) -> DeviceStatus:
        """Set more status bits; the status read back."""
        now = await self.status()
        await self.write_common("device_status", now | bits)
        return await self.status()

    async def reset(self) -> None:
        """Reset the device and wait until it says that it is done [virtio 1.4 §2.4]."""
        await self.write_common("device_status", 0)
        for _ in range(self.poll_limit):
            if await self.status() == 0:
                break
        else:
            raise DriverComplaint("the reset does not end", polls=self.poll_limit)
        self.queues.clear()
        self.features = 0

    async def start(self, wanted: int) -> int:
        """`reset`, announce the driver, and `negotiate`."""
        await self.reset()
        await self.add_status(DeviceStatus.ACKNOWLEDGE)
        await self.add_status(DeviceStatus.DRIVER)
        return await self.negotiate(wanted)

    async def read_offered(self) -> int:
        """All offered features, checked for consistency [virtio 1.4 §2.2]."""
        offered = 0
        for select in range(_FEATURE_WORDS):
            await self.write_common("device_feature_select", select)
            offered |= await self.read_common("device_feature") << 32 * select
        for select in _EMPTY_WORDS:
            await self.write_common("device_feature_select", select)
            if bits := await self.read_common("device_feature"):
                raise DriverComplaint("features beyond the last word", select=select, bits=bits)
        if not feat.has(offered, Feature.VERSION_1):
            raise DriverComplaint("VIRTIO_F_VERSION_1 is not offered", offered=offered)
        if extra := feat.reserved(offered):
            raise DriverComplaint(f"reserved feature bits offered: {extra}", offered=offered)
        for feature, alternatives in feat.unmet(offered, self.dependencies):
            raise DriverComplaint(
                f"feature {feature} offered without any of {sorted(alternatives)}",
                offered=offered,
            )
        self.offered = offered
        self._check_notify_capability()
        return offered

    def _check_notify_capability(self) -> None:
        wide = feat.has(self.offered, Feature.NOTIFICATION_DATA)
        unit = pci.NOTIFY_SIZE_WITH_DATA if wide else pci.NOTIFY_SIZE
        where = self.structure(pci.CfgType.NOTIFY)
        multiplier = self.layout.notify_off_multiplier
        if where.offset % unit or where.length < unit:
            raise DriverComplaint(
                "notify structure misaligned or too short for its kicks",
                offset=where.offset,
                length=where.length,
                unit=unit,
            )
        if multiplier and (multiplier % unit or multiplier & (multiplier - 1)):
            raise DriverComplaint(
                "notify_off_multiplier is not 0 or a fitting power of two",
                multiplier=multiplier,
                unit=unit,
            )

    async def negotiate(self, wanted: int) -> int:
        """Accept what is both offered and wanted, as far as dependencies allow.

        VERSION_1 is accepted always [virtio 1.4 §6.1].
        """
        accepted = await self.read_offered() & (wanted | feat.mask([Feature.VERSION_1]))
        while lacking := feat.unmet(accepted, self.dependencies):
            accepted &= ~feat.mask(feature for feature, _ in lacking)
        await self.write_features(accepted)
        if not await self.add_status(DeviceStatus.FEATURES_OK) & DeviceStatus.FEATURES_OK:
            raise NegotiationRefused(
                "FEATURES_OK refused for a legal subset", offered=self.offered, accepted=accepted
            )
        self.features = accepted
        return accepted

    async def write_features(self, features: int) -> None:
        """Write all driver_feature words and check that they read back."""
        for select in range(_FEATURE_WORDS):
            await self.write_common("driver_feature_select", select)
            await self._set_and_check("driver_feature", feat.word(features, select))

    async def driver_ok(self) -> None:
        """Let the device live."""
        if not await self.add_status(DeviceStatus.DRIVER_OK) & DeviceStatus.DRIVER_OK:
            raise DriverComplaint("DRIVER_OK does not stay set")

    # Queues [virtio 1.4 §4.1.5.1.3]

    async def queue_max_size(self, index: int) -> int:
        """queue_size of a queue: before set-up, its maximum; 0 if it does not exist."""
        await self.write_common("queue_select", index)
        return await self.read_common("queue_size")

    async def setup_queue(
        self, index: int, queue: DriverQueue, vector: int = pci.NO_VECTOR
    ) -> ActiveQueue:
        """Hand a queue to the device and enable it."""
        largest = await self.queue_max_size(index)
        if largest == 0:
            raise DriverComplaint("queue_size is 0: the queue does not exist", queue=index)
        packed = feat.has(self.features, Feature.RING_PACKED)
        if not packed and largest & (largest - 1):
            raise DriverComplaint("queue_size is no power of two", queue=index, size=largest)
        if queue.size > largest:
            raise DriverComplaint(
                "queue larger than the device allows", queue=index, size=queue.size, largest=largest
            )
        if await self.read_common("queue_enable"):
            raise DriverComplaint("queue is enabled before its set-up", queue=index)
        await self._set_and_check("queue_size", queue.size)
        await self.set_queue_vector(index, vector)
        await self._set_and_check("queue_desc", queue.desc_addr)
        await self._set_and_check("queue_driver", queue.driver_addr)
        await self._set_and_check("queue_device", queue.device_addr)
        offset = await self._notify_offset(index)
        notify_id = index
        if feat.has(self.features, Feature.NOTIF_CONFIG_DATA):
            notify_id = await self.read_common("queue_notif_config_data")
        await self._set_and_check("queue_enable", 1)
        self.queues[index] = ActiveQueue(queue, offset, notify_id)
        return self.queues[index]

    async def _notify_offset(self, index: int) -> int:
        where = self.structure(pci.CfgType.NOTIFY)
        wide = feat.has(self.offered, Feature.NOTIFICATION_DATA)
        size = pci.NOTIFY_SIZE_WITH_DATA if wide else pci.NOTIFY_SIZE
        off = await self.read_common("queue_notify_off")
        within = pci.notify_offset(0, off, self.layout.notify_off_multiplier)
        if within + size > where.length:
            raise DriverComplaint(
                "kicks of the queue are outside the notify structure",
                queue=index,
                offset=within,
                length=where.length,
            )
        return where.offset + within

    async def set_queue_vector(self, index: int, vector: int) -> None:
        """Map used buffer notifications of a queue; NO_VECTOR for none."""
        await self.write_common("queue_select", index)
        await self._set_and_check("queue_msix_vector", vector)

    async def set_config_vector(self, vector: int) -> None:
        """Map configuration change notifications; NO_VECTOR for none."""
        await self._set_and_check("config_msix_vector", vector)

    async def reset_queue(self, index: int) -> None:
        """Reset one queue and wait for the end [virtio 1.4 §2.6.1]."""
        await self.write_common("queue_select", index)
        await self.write_common("queue_reset", 1)
        for _ in range(self.poll_limit):
            if await self.read_common("queue_reset") == 0:
                break
        else:
            raise DriverComplaint("the queue reset does not end", queue=index)
        if await self.read_common("queue_enable"):
            raise DriverComplaint("queue still enabled after its reset", queue=index)
        self.queues.pop(index, None)

    async def notify(self, index: int) -> None:
        """Kick a queue, in the format that was negotiated [virtio 1.4 §4.1.5.2]."""
        active = self.queues[index]
        bar = self.structure(pci.CfgType.NOTIFY).bar
        data, size = None, pci.NOTIFY_SIZE
        if feat.has(self.features, Feature.NOTIFICATION_DATA):
            data, size = active.queue.notification_data(), pci.NOTIFY_SIZE_WITH_DATA
        value = pci.notify_value(active.notify_id, data)
        await self.access.bar_write(bar, active.notify_offset, value, size)

    async def kick(self, index: int) -> bool:
        """`notify` if the device wants it; whether it did."""
        wanted = self.queues[index].queue.needs_kick()
        if wanted:
            await self.notify(index)
        return wanted

    async def read_isr(self) -> pci.Isr:
        """Read and so clear the ISR status [virtio 1.4 §4.1.4.5]."""
        where = self.structure(pci.CfgType.ISR)
        return pci.Isr(await self.access.bar_read(where.bar, where.offset, 1))
