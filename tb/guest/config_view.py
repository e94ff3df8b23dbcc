"""Configuration space as the client may see it: no BAR addresses, MSI-X under another name."""

from __future__ import annotations

import struct

from guest.device import Function
from virtio_model.driver.pci_caps import MsixCapability
from virtio_model.spec import pci

CONFIG_SIZE = 4096
_BARS = 6
_BAR_OFFSET = 0x10
_BAR_END = _BAR_OFFSET + 4 * _BARS
_ROM_OFFSET = 0x30
_BAR_TYPE_MASK = 0xF
_HIDDEN = ((_BAR_OFFSET, _BAR_END), (_ROM_OFFSET, _ROM_OFFSET + 4))
_CAP_LIST_MAX = 48
_MSIX_CAP_SIZE = 12
_VECTOR_ADDRESS = 0xFEE0_0000


class ConfigView:
    """Between the client and the function's configuration space.

    BARs: the client places them itself and the guest's addresses mean nothing on the function's
    own bus, so reads show the type of a BAR without an address and writes are dropped.

    MSI-X: QEMU never forwards accesses to the table of a function that shows the capability. To
    let the guest program the function's own table, the capability goes under the vendor-specific
    id while QEMU looks for it, and under its own from the first reset on, which is before the
    guest runs. `disguise` switches that. Without it the client signals by eventfd, and
    `listen` programs the table in the guest's place.
    """

    def __init__(self, function: Function, *, disguise: bool) -> None:
        self.function = function
        self.msix: MsixCapability | None = None
        self._disguised = disguise
        self._types = [0] * _BARS

    @property
    def vectors(self) -> int:
        return self.msix.vectors if self.msix else 0

    async def open(self) -> None:
        """Read the BARs' types and find the MSI-X capability."""
        for bar in self.function.bars:
            data = await self.function.config_read(_BAR_OFFSET + 4 * bar, 4)
            self._types[bar] = data[0] & _BAR_TYPE_MASK
        at = (await self.function.config_read(pci.PCI_CAP_POINTER_OFFSET, 1))[0]
        for _ in range(_CAP_LIST_MAX):
            if not at:
                return
            kind, following = await self.function.config_read(at, 2)
            if kind == pci.PCI_CAP_ID_MSIX:
                self.msix = _capability(at, await self.function.config_read(at, _MSIX_CAP_SIZE))
            at = following
        raise ValueError("the capability list of the function has a loop")

    def reveal(self) -> None:
        """Show the MSI-X capability as what it is."""
        self._disguised = False

    async def read(self, offset: int, length: int) -> bytes:
        """Read, as the client is to see it."""
        data = bytearray(await self.function.config_read(offset, length))
        shown = {at: 0 for start, end in _HIDDEN for at in range(start, end)}
        shown |= {_BAR_OFFSET + 4 * bar: kind for bar, kind in enumerate(self._types)}
        if self._disguised and self.msix:
            shown[self.msix.cap] = pci.PCI_CAP_ID_VENDOR
            # The third byte of a vendor-specific capability is its length.
            shown[self.msix.cap + 2] = _MSIX_CAP_SIZE
        for at in range(offset, offset + length):
            if at in shown:
                data[at - offset] = shown[at]
        return bytes(data)

    async def write(self, offset: int, data: bytes) -> None:
        """Write all but the BARs."""
        for start, end in _runs(offset, len(data)):
            await self.function.config_write(start, data[start - offset : end - offset])

    async def listen(self, vector: int, listening: bool) -> None:
        """Make the function's table send a vector as a message that `vector_of` knows, or mask."""
        assert self.msix is not None
        masked = 0 if listening else pci.MSIX_VECTOR_MASKED
        entry = struct.pack("<IIII", _VECTOR_ADDRESS, 0, vector, masked)
        at = self.msix.table_offset + pci.MSIX_ENTRY_SIZE * vector
        for word in range(0, len(entry), 4):
            await self.function.bar_write(self.msix.table_bar, at + word, entry[word : word + 4])

    @staticmethod
    def vector_of(data: bytes) -> int:
        """The vector of a message that `listen` has set up."""
        return int.from_bytes(data, "little")


def _capability(at: int, data: bytes) -> MsixCapability:
    control, table, pba = struct.unpack_from("<HII", data, pci.MSIX_CONTROL_OFFSET)
    bir = pci.MSIX_BIR_MASK
    vectors = (control & pci.MSIX_CONTROL_SIZE_MASK) + 1
    return MsixCapability(at, vectors, table & bir, table & ~bir, pba & bir, pba & ~bir)


def _runs(offset: int, length: int) -> list[tuple[int, int]]:
    """The stretches of an access that lie outside the BARs."""
    runs = [(offset, offset + length)]
    for start, end in _HIDDEN:
        pieces = [(a, min(b, start)) for a, b in runs] + [(max(a, end), b) for a, b in runs]
        runs = [(a, b) for a, b in pieces if a < b]
    return runs
