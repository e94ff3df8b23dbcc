"""Configuration space of the golden function: header, MSI-X, PCI Express, virtio capabilities."""

from __future__ import annotations

import struct

from virtio_model.spec import pci

CONFIG_SIZE = 4096
BAR = 0
BAR_SIZE = 1 << 16
COMMON, ISR, DEVICE, NOTIFY = 0x0000, 0x1000, 0x2000, 0x3000
MSIX_TABLE, MSIX_PBA = 0x8000, 0xC000
NOTIFY_MULTIPLIER = 4

_COMMAND_WRITABLE = 0x0547
_INTX_DISABLE = 0x0400
_STATUS_INTERRUPT = 0x08
_EXPRESS_ID, _EXPRESS_SIZE = 0x10, 0x3C
_EXPRESS_CONTROL = 8
_INITIATE_FLR = 0x8000
_BAR_64BIT = 0x4


class ConfigSpace:
    """The bytes of configuration space, and which bits of them the host may write.

    One 64-bit BAR of 64 KiB has everything; where it lies is the server's business, so its
    address cannot be written. `msix`, `express` and `window` are offsets of capabilities.
    """

    def __init__(
        self,
        *,
        device_id: int,
        class_code: int,
        vectors: int,
        queues: int,
        config_size: int,
    ) -> None:
        self._initial = bytearray(CONFIG_SIZE)
        self._writable = bytearray(CONFIG_SIZE)
        self._end = 0x40
        self._link = pci.PCI_CAP_POINTER_OFFSET
        self._header(pci.modern_device_id(device_id), class_code)
        self.msix = self._msix(vectors)
        self.express = self._express()
        self._virtio(pci.CfgType.COMMON, COMMON, pci.COMMON_CFG_SIZE)
        multiplier = NOTIFY_MULTIPLIER.to_bytes(4, "little")
        self._virtio(pci.CfgType.NOTIFY, NOTIFY, NOTIFY_MULTIPLIER * queues, multiplier)
        self._virtio(pci.CfgType.ISR, ISR, pci.ISR_SIZE)
        if config_size:
            self._virtio(pci.CfgType.DEVICE, DEVICE, config_size)
        self.window = self._virtio(pci.CfgType.PCI, 0, 0, bytes(4))
        self._writable[self.window + 4] = 0xFF
        self._writable[self.window + 8 : self.window + 16] = b"\xff" * 8
        self.data = bytearray(self._initial)

    # Building

    def _put(self, offset: int, data: bytes) -> None:
        self._initial[offset : offset + len(data)] = data

    def _header(self, device_id: int, class_code: int) -> None:
        self._put(pci.PCI_VENDOR_ID_OFFSET, struct.pack("<HH", pci.VENDOR_ID, device_id))
        self._writable[4:6] = _COMMAND_WRITABLE.to_bytes(2, "little")
        self._put(pci.PCI_STATUS_OFFSET, bytes([pci.PCI_STATUS_CAP_LIST]))
        revision = pci.MODERN_REVISION_MIN
        self._put(pci.PCI_REVISION_OFFSET, struct.pack("<I", class_code << 8 | revision))
        self._writable[0x0C] = 0xFF
        self._put(0x10 + 4 * BAR, bytes([_BAR_64BIT]))
        self._put(0x2C, struct.pack("<HH", pci.VENDOR_ID, device_id))
        self._writable[0x3C] = 0xFF
        self._put(0x3D, b"\x01")

    def _capability(self, kind: int, body: bytes) -> int:
        """Append a capability; `body` is what follows id and link."""
        at = self._end
        self._initial[self._link] = at
        self._link = at + 1
        self._put(at, bytes([kind, 0]) + body)
        self._end = (at + 2 + len(body) + 3) & ~3
        return at

    def _msix(self, vectors: int) -> int:
        body = struct.pack("<HII", vectors - 1, MSIX_TABLE | BAR, MSIX_PBA | BAR)
        at = self._capability(pci.PCI_CAP_ID_MSIX, body)
        mask = pci.MSIX_CONTROL_ENABLE | pci.MSIX_CONTROL_MASK_ALL
        self._writable[at + 2 : at + 4] = mask.to_bytes(2, "little")
        return at

    def _express(self) -> int:
        """An endpoint with function level reset, Gen 1 x1."""
        body = struct.pack("<HIHHIHH", 0x0002, 0x1000_8000, 0x2810, 0, 0x11, 0, 0x11)
        at = self._capability(_EXPRESS_ID, body.ljust(_EXPRESS_SIZE - 2, b"\0"))
        self._writable[at + _EXPRESS_CONTROL : at + _EXPRESS_CONTROL + 2] = b"\xff\x7f"
        return at

    def _virtio(self, kind: pci.CfgType, offset: int, length: int, extra: bytes = b"") -> int:
        size = pci.CAP_SIZE + len(extra)
        fixed = struct.pack("<BBB3xII", size, kind, BAR, offset, length)
        return self._capability(pci.PCI_CAP_ID_VENDOR, fixed + extra)

    # Accesses

    def reset(self) -> None:
        """Function level reset."""
        self.data[:] = self._initial

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self.data[offset : offset + length])

    def write(self, offset: int, data: bytes) -> bool:
        """Change what may be written; True if this asks for a function level reset."""
        for at, value in enumerate(data, offset):
            mask = self._writable[at]
            self.data[at] = self.data[at] & ~mask | value & mask
        high = self.express + _EXPRESS_CONTROL + 1
        return offset <= high < offset + len(data) and bool(
            data[high - offset] & _INITIATE_FLR >> 8
        )

    def show_interrupt(self, pending: bool) -> None:
        """Interrupt status in the PCI status register."""
        at = pci.PCI_STATUS_OFFSET
        self.data[at] = self.data[at] & ~_STATUS_INTERRUPT | (_STATUS_INTERRUPT if pending else 0)

    @property
    def intx_disabled(self) -> bool:
        return bool(int.from_bytes(self.read(pci.PCI_COMMAND_OFFSET, 2), "little") & _INTX_DISABLE)

    @property
    def msix_control(self) -> int:
        return int.from_bytes(self.read(self.msix + pci.MSIX_CONTROL_OFFSET, 2), "little")

    def window_target(self) -> tuple[int, int, int]:
        """BAR, offset and length that the PCI_CFG capability points at."""
        bar = self.data[self.window + 4]
        offset, length = struct.unpack_from("<II", self.data, self.window + 8)
        return bar, offset, length
