"""Device status of a PCI function: reset, features, DRIVER_OK, suspend [virtio 1.4 §2, §3]."""

from __future__ import annotations

from collections.abc import Callable

from virtio_model.driver.pci_caps import PciAccess
from virtio_model.driver.pci_regs import PciRegisters
from virtio_model.errors import DriverComplaint, DriverMisuse
from virtio_model.spec import features as feat
from virtio_model.spec import pci
from virtio_model.spec.features import Feature
from virtio_model.spec.status import DeviceStatus

_FEATURE_WORDS = feat.FEATURE_BITS_END // 32
# Select values behind the last feature are legal and show 0.
_EMPTY_WORDS = (_FEATURE_WORDS, 0x8000_0000, 0xFFFF_FFFF)


class NegotiationRefused(DriverComplaint):
    """The device cleared FEATURES_OK for a legal subset of what it offered."""


class PciStatus(PciRegisters):
    """The life of a function, from reset to reset, without its queues."""

    def __init__(
        self,
        access: PciAccess,
        *,
        dependencies: feat.Dependencies = feat.DEPENDENCIES,
        device_config: bool = True,
        pci_id: tuple[int, int] | None = None,
        poll_limit: int = 1000,
    ) -> None:
        """`dependencies` are the device type's; the others as of `PciRegisters`."""
        super().__init__(access, device_config=device_config, pci_id=pci_id, poll_limit=poll_limit)
        self.dependencies = dependencies
        self.offered = 0
        self.features = 0
        self.live = False
        """DRIVER_OK has been set, and the device is neither reset nor suspended since."""

    # Status and features [virtio 1.4 §2.1, §2.2]

    async def status(self) -> DeviceStatus:
        return DeviceStatus(await self.read_common("device_status"))

    async def add_status(self, bits: DeviceStatus) -> DeviceStatus:
        """Set more status bits; the status read back."""
        now = await self.status()
        await self.write_common("device_status", now | bits)
        return await self.status()

    async def _wait_for_status(self, late: str, there: Callable[[DeviceStatus], bool]) -> None:
        for _ in range(self.poll_limit):
            if there(await self.status()):
                return
        raise DriverComplaint(late, polls=self.poll_limit)

    async def reset(self) -> None:
        """Reset the device and wait until it says that it is done [virtio 1.4 §2.4]."""
        self.live = False
        await self.write_common("device_status", 0)
        await self._wait_for_status("the reset does not end", lambda status: status == 0)
        self._freeze(False)
        self.features = 0

    async def start(self, wanted: int, needed: int = 0) -> int:
        """`reset`, announce the driver, and `negotiate`."""
        await self.reset()
        await self.add_status(DeviceStatus.ACKNOWLEDGE)
        await self.add_status(DeviceStatus.DRIVER)
        return await self.negotiate(wanted, needed)

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

    async def negotiate(self, wanted: int, needed: int = 0) -> int:
        """Accept what is both offered and wanted, as far as dependencies allow.

        VERSION_1 is accepted always [virtio 1.4 §6.1]. Without a feature of `needed`, and when
        the device refuses, the driver sets FAILED and gives up [virtio 1.4 §2.2.1, §3.1.1].
        """
        accepted = await self.read_offered() & (wanted | needed | feat.mask([Feature.VERSION_1]))
        while lacking := feat.unmet(accepted, self.dependencies):
            accepted &= ~feat.mask(feature for feature, _ in lacking)
        if missing := needed & ~accepted:
            await self.add_status(DeviceStatus.FAILED)
            raise DriverComplaint("needed features are not to be had", missing=missing)
        await self.write_features(accepted)
        if not await self.add_status(DeviceStatus.FEATURES_OK) & DeviceStatus.FEATURES_OK:
            await self.add_status(DeviceStatus.FAILED)
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
        self.live = True

    # Suspend [virtio 1.4 §3.4, Device Suspend]

    async def suspend(self) -> None:
        """Suspend the device and wait until it says that it is.

        From the request on nothing is made available, nothing kicked, and of the configuration
        only device_status is touched.
        """
        self._need(Feature.SUSPEND)
        if not self.live:
            raise DriverMisuse("SUSPEND is set only with DRIVER_OK set")
        self.live = False
        self._freeze(True)
        await self.write_common("device_status", await self.status() | DeviceStatus.SUSPEND)
        await self._wait_for_status("the device does not suspend", self._swapped(suspended=True))

    async def resume(self) -> None:
        """Resume a suspended device and wait until it says that it runs."""
        if not self.suspended:
            raise DriverMisuse("only a suspended device is resumed")
        await self.write_common("device_status", await self.status() | DeviceStatus.DRIVER_OK)
        await self._wait_for_status("the device does not resume", self._swapped(suspended=False))
        self._freeze(False)
        self.live = True

    def _freeze(self, frozen: bool) -> None:
        """Leave the device alone, or no longer."""
        self.suspended = frozen

    @staticmethod
    def _swapped(*, suspended: bool) -> Callable[[DeviceStatus], bool]:
        """Whether SUSPEND and DRIVER_OK are as wanted; complains if the device gave up."""
        both = DeviceStatus.SUSPEND | DeviceStatus.DRIVER_OK
        wanted = DeviceStatus.SUSPEND if suspended else DeviceStatus.DRIVER_OK

        def there(status: DeviceStatus) -> bool:
            if status & DeviceStatus.DEVICE_NEEDS_RESET:
                raise DriverComplaint("the device needs a reset", status=int(status))
            return status & both == wanted

        return there

    def _need(self, feature: Feature) -> None:
        if not feat.has(self.features, feature):
            raise DriverMisuse(f"VIRTIO_F_{feature.name} was not negotiated")
