"""What a function's registers say about its interrupts: MSI-X entries, masks, bus master."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from virtio_model.driver.pci_caps import PciLayout
from virtio_model.spec import pci

__all__ = ["FunctionRegisters"]

_COMMAND = 4
_BUS_MASTER = 4


@dataclass
class FunctionRegisters:
    """Follows writes to configuration space and to the MSI-X table.

    `layout` is where the driver has found the MSI-X table.
    """

    layout: PciLayout = field(default_factory=PciLayout)
    bus_master: bool = False
    control: int = 0
    entries: dict[int, list[int]] = field(
        default_factory=lambda: defaultdict(lambda: [0, 0, 0, pci.MSIX_VECTOR_MASKED])
    )

    def reset(self) -> None:
        """The function is reset."""
        self.bus_master, self.control = False, 0
        self.entries.clear()

    def config_write(self, offset: int, value: int) -> None:
        """Configuration space was written at a byte offset."""
        if offset == _COMMAND:
            self.bus_master = bool(value & _BUS_MASTER)
        elif self.layout.msix and offset == self.layout.msix.cap + pci.MSIX_CONTROL_OFFSET:
            self.control = value

    def bar_write(self, offset: int, value: int) -> None:
        """BAR 0 was written, a dword at a time."""
        if self.layout.msix is None:
            return
        at = offset - self.layout.msix.table_offset
        if 0 <= at < self.layout.msix.vectors * pci.MSIX_ENTRY_SIZE:
            self.entries[at // pci.MSIX_ENTRY_SIZE][at % pci.MSIX_ENTRY_SIZE // 4] = value

    def vector_of(self, address: int, data: int) -> int | None:
        """The vector whose message this is."""
        for vector, (low, high, message, _) in self.entries.items():
            if (high << 32 | low, message) == (address, data):
                return vector
        return None

    def is_quiet(self, vector: int) -> bool:
        """Whether a vector cannot be sent now."""
        off = self.control & (pci.MSIX_CONTROL_ENABLE | pci.MSIX_CONTROL_MASK_ALL)
        return (
            not self.bus_master
            or off != pci.MSIX_CONTROL_ENABLE
            or bool(self.entries[vector][3] & pci.MSIX_VECTOR_MASKED)
        )
