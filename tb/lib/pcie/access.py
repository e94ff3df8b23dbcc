"""A driver's way to one PCI function (the protocol `virtio_model.driver.pci_caps.PciAccess`)."""

from __future__ import annotations

from typing import Any

from lib.pcie.host import HostRootComplex


class PciAccess:
    """Configuration and BAR accesses as TLPs; values are little-endian ints of 1, 2 or 4 bytes.

    Writes to a BAR are posted: they return when handed to the link. Configuration accesses and
    reads return when their completion is there.
    """

    def __init__(self, host: HostRootComplex, device: Any) -> None:
        self.host = host
        self.device = device

    async def config_read(self, offset: int, size: int) -> int:
        """Read configuration space."""
        return int.from_bytes(await self.device.config_read(offset, size), "little")

    async def config_write(self, offset: int, value: int, size: int) -> None:
        """Write configuration space."""
        await self.device.config_write(offset, value.to_bytes(size, "little"))

    def bar_address(self, bar: int, offset: int) -> int:
        """Return the bus address of an offset in a BAR."""
        base = self.device.bar_addr[bar]
        if base is None:
            raise ValueError(f"the function has no BAR {bar}")
        return int(base) + offset

    async def bar_read(self, bar: int, offset: int, size: int) -> int:
        """Read from a BAR; raises `BusError` if the function does not answer well."""
        data = await self.host.mmio_read(self.bar_address(bar, offset), size)
        return int.from_bytes(data, "little")

    async def bar_write(self, bar: int, offset: int, value: int, size: int) -> None:
        """Write to a BAR."""
        address = self.bar_address(bar, offset)
        await self.host.mmio_write(address, value.to_bytes(size, "little"))
