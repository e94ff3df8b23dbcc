"""MSI-X of a PCI function, driver side [PCI 6.8.2]."""

from __future__ import annotations

from virtio_model.driver.pci_caps import MsixCapability, PciAccess
from virtio_model.errors import DriverComplaint
from virtio_model.spec import pci


class Msix:
    """Programs the vector table and reads pending bits."""

    def __init__(self, access: PciAccess, capability: MsixCapability) -> None:
        self.access = access
        self.capability = capability

    @property
    def vectors(self) -> int:
        return self.capability.vectors

    async def enable(self, enabled: bool = True, *, mask_all: bool = False) -> None:
        """Set MSI-X Enable and Function Mask."""
        at = self.capability.cap + pci.MSIX_CONTROL_OFFSET
        control = await self.access.config_read(at, 2)
        bits = pci.MSIX_CONTROL_ENABLE | pci.MSIX_CONTROL_MASK_ALL
        wanted = (pci.MSIX_CONTROL_ENABLE if enabled else 0) | (
            pci.MSIX_CONTROL_MASK_ALL if mask_all else 0
        )
        await self.access.config_write(at, control & ~bits | wanted, 2)
        if (got := await self.access.config_read(at, 2)) & bits != wanted:
            raise DriverComplaint("MSI-X control does not read back", wanted=wanted, got=got)

    async def set_vector(self, vector: int, addr: int, data: int, masked: bool = False) -> None:
        """Program one entry. It stays masked while it is written, as the PCI spec demands."""
        await self.mask(vector, True)
        await self._write(vector, 0, addr & 0xFFFF_FFFF)
        await self._write(vector, 4, addr >> 32)
        await self._write(vector, 8, data)
        if not masked:
            await self.mask(vector, False)

    async def mask(self, vector: int, masked: bool = True) -> None:
        """Mask or unmask one vector."""
        at = self._entry(vector) + 12
        bar = self.capability.table_bar
        control = await self.access.bar_read(bar, at, 4)
        control = control & ~pci.MSIX_VECTOR_MASKED | (pci.MSIX_VECTOR_MASKED if masked else 0)
        await self.access.bar_write(bar, at, control, 4)
        got = await self.access.bar_read(bar, at, 4)
        if got & pci.MSIX_VECTOR_MASKED != int(masked):
            raise DriverComplaint("MSI-X vector control does not read back", vector=vector, got=got)

    async def pending(self, vector: int) -> bool:
        """Whether the vector's pending bit is set."""
        self._entry(vector)
        at = self.capability.pba_offset + vector // 32 * 4
        bits = await self.access.bar_read(self.capability.pba_bar, at, 4)
        return bool(bits >> vector % 32 & 1)

    def _entry(self, vector: int) -> int:
        if not 0 <= vector < self.vectors:
            raise ValueError(f"vector {vector} is not in the table of {self.vectors}")
        return self.capability.table_offset + pci.MSIX_ENTRY_SIZE * vector

    async def _write(self, vector: int, offset: int, value: int) -> None:
        at = self._entry(vector) + offset
        await self.access.bar_write(self.capability.table_bar, at, value, 4)
        if (got := await self.access.bar_read(self.capability.table_bar, at, 4)) != value:
            raise DriverComplaint(
                "MSI-X table entry does not read back",
                vector=vector,
                offset=offset,
                wrote=value,
                got=got,
            )
