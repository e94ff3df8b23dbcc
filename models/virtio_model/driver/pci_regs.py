"""Reading and writing the virtio structures of a PCI function [virtio 1.4 §4.1.3, §4.1.4]."""

from __future__ import annotations

from collections.abc import Sequence

from virtio_model.driver.msix import Msix
from virtio_model.driver.pci_caps import PciAccess, PciLayout, Structure, discover
from virtio_model.errors import DriverComplaint, DriverMisuse
from virtio_model.spec import pci
from virtio_model.spec.fields import Field, by_name

_COMMON = by_name(pci.COMMON_CFG)


class PciRegisters:
    """Access to the structures that the capabilities point at."""

    def __init__(
        self,
        access: PciAccess,
        *,
        device_config: bool = True,
        pci_id: tuple[int, int] | None = None,
        poll_limit: int = 1000,
    ) -> None:
        """`pci_id`: vendor and device id of a device that has a vendor's own.

        `poll_limit` bounds every wait, in reads.
        """
        self.access = access
        self.device_config = device_config
        self.pci_id = pci_id
        self.poll_limit = poll_limit
        self.layout = PciLayout()
        self.suspended = False

    async def discover(self) -> PciLayout:
        """Check the ids and walk the capability list.

        BARs, memory enable and bus master are the platform's business and already set.
        """
        vendor = await self.access.config_read(pci.PCI_VENDOR_ID_OFFSET, 2)
        device = await self.access.config_read(pci.PCI_DEVICE_ID_OFFSET, 2)
        if self.pci_id is not None:
            known = (vendor, device) == self.pci_id
        else:
            modern = pci.MODERN_DEVICE_ID_BASE < device <= pci.MODERN_DEVICE_ID_MAX
            known = vendor == pci.VENDOR_ID and modern
        if not known:
            raise DriverComplaint("not a modern virtio device", vendor=vendor, device=device)
        self.layout = await discover(self.access, device_config=self.device_config)
        return self.layout

    @property
    def msix(self) -> Msix:
        """The MSI-X table."""
        if self.layout.msix is None:
            raise DriverComplaint("the device has no MSI-X capability")
        return Msix(self.access, self.layout.msix)

    async def set_vector(self, vector: int, addr: int, data: int, masked: bool = False) -> None:
        """Program one MSI-X entry."""
        await self.msix.set_vector(vector, addr, data, masked)

    def structure(self, kind: pci.CfgType) -> Structure:
        """Where a structure lives."""
        if kind not in self.layout.structures:
            raise DriverComplaint(f"the device has no {kind.name} capability")
        return self.layout.structures[kind]

    # Common configuration [virtio 1.4 §4.1.4.3]

    async def read_common(self, name: str) -> int:
        """Read a common configuration field, with its natural width."""
        return await self._read(pci.CfgType.COMMON, _COMMON[name])

    async def write_common(self, name: str, value: int) -> None:
        """Write a common configuration field, 64-bit ones as two halves."""
        await self._write(pci.CfgType.COMMON, _COMMON[name], value)

    async def _set_and_check(self, name: str, value: int) -> None:
        await self.write_common(name, value)
        if (got := await self.read_common(name)) != value:
            raise DriverComplaint(f"{name} does not read back", wrote=value, got=got)

    # Device configuration [virtio 1.4 §2.5]

    async def read_config(self, fields: Sequence[Field]) -> dict[str, int]:
        """Read fields of the device configuration that belong to one generation."""
        for _ in range(self.poll_limit):
            before = await self.read_common("config_generation")
            values = {f.name: await self._read(pci.CfgType.DEVICE, f) for f in fields}
            if await self.read_common("config_generation") == before:
                return values
        raise DriverComplaint("config_generation never settles", polls=self.poll_limit)

    async def write_config(self, field: Field, value: int) -> None:
        """Write one field of the device configuration."""
        await self._write(pci.CfgType.DEVICE, field, value)

    def _place(self, kind: pci.CfgType, field: Field) -> Structure:
        where = self.structure(kind)
        if field.end > where.length:
            raise DriverComplaint(
                f"{field.name} is beyond the {kind.name} structure",
                end=field.end,
                length=where.length,
            )
        return where

    def _check_awake(self, field: Field) -> None:
        """A suspended device's configuration is left alone [virtio 1.4, Device Suspend]."""
        if self.suspended and field.name != "device_status":
            raise DriverMisuse(f"{field.name} accessed while the device is suspended")

    async def _read(self, kind: pci.CfgType, field: Field) -> int:
        self._check_awake(field)
        where, unit, value = self._place(kind, field), _unit(field), 0
        for at in range(0, field.size, unit):
            piece = await self.access.bar_read(where.bar, where.offset + field.offset + at, unit)
            value |= piece << 8 * at
        return value

    async def _write(self, kind: pci.CfgType, field: Field, value: int) -> None:
        self._check_awake(field)
        where, unit = self._place(kind, field), _unit(field)
        for at in range(0, field.size, unit):
            piece = value >> 8 * at & (1 << 8 * unit) - 1
            await self.access.bar_write(where.bar, where.offset + field.offset + at, piece, unit)

    # PCI configuration access window [virtio 1.4 §4.1.4.9]

    async def window_read(self, bar: int, offset: int, size: int) -> int:
        """Read a BAR through the PCI_CFG capability."""
        await self._aim(bar, offset, size)
        cap = self.structure(pci.CfgType.PCI).cap
        return await self.access.config_read(cap + pci.CAP_SIZE, size)

    async def window_write(self, bar: int, offset: int, value: int, size: int) -> None:
        """Write a BAR through the PCI_CFG capability."""
        await self._aim(bar, offset, size)
        cap = self.structure(pci.CfgType.PCI).cap
        await self.access.config_write(cap + pci.CAP_SIZE, value, size)

    async def _aim(self, bar: int, offset: int, size: int) -> None:
        cap = self.structure(pci.CfgType.PCI).cap
        await self.access.config_write(cap + 4, bar, 1)
        await self.access.config_write(cap + 8, offset, 4)
        await self.access.config_write(cap + 12, size, 4)


def _unit(field: Field) -> int:
    """Access width: natural, 64 bits as two halves, byte arrays bytewise [§4.1.3.1]."""
    if field.bits == 64:
        return 4
    return field.size if field.size in (1, 2, 4) else 1
