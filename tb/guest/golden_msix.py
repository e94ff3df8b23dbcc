"""MSI-X of the golden function: table, pending bits, messages [PCI 6.8.2]."""

from __future__ import annotations

import struct
from collections.abc import Callable

from virtio_model.spec import pci

_ENTRY = struct.Struct("<QII")


class MsixTable:
    """The table and what is pending.

    send: called with address and data of each message. A masked vector is remembered as pending
    and sent when it is unmasked.
    """

    def __init__(self, vectors: int, send: Callable[[int, bytes], None]) -> None:
        self.vectors = vectors
        self._send = send
        self._table = bytearray()
        self._pending: set[int] = set()
        self.control = 0
        self.reset()

    def reset(self) -> None:
        """All masked, nothing pending."""
        entry = _ENTRY.pack(0, 0, pci.MSIX_VECTOR_MASKED)
        self._table[:] = entry * self.vectors
        self._pending.clear()
        self.control = 0

    @property
    def enabled(self) -> bool:
        return bool(self.control & pci.MSIX_CONTROL_ENABLE)

    def set_control(self, control: int) -> None:
        """Follow the control word of the capability."""
        self.control = control
        self._send_pending()

    def read_table(self, offset: int, length: int) -> bytes:
        return bytes(self._table[offset : offset + length]).ljust(length, b"\0")

    def write_table(self, offset: int, data: bytes) -> None:
        data = data[: max(0, len(self._table) - offset)]
        self._table[offset : offset + len(data)] = data
        self._send_pending()

    def read_pending(self, offset: int, length: int) -> bytes:
        bits = sum(1 << vector for vector in self._pending)
        return (bits >> 8 * offset & (1 << 8 * length) - 1).to_bytes(length, "little")

    def fire(self, vector: int) -> None:
        """Send a vector's message, now or when it is unmasked."""
        self._pending.add(vector)
        self._send_pending()

    def forget(self) -> None:
        """Drop what is pending: the device was reset."""
        self._pending.clear()

    def _send_pending(self) -> None:
        if not self.enabled or self.control & pci.MSIX_CONTROL_MASK_ALL:
            return
        for vector in sorted(self._pending):
            address, data, control = _ENTRY.unpack_from(self._table, pci.MSIX_ENTRY_SIZE * vector)
            if not control & pci.MSIX_VECTOR_MASKED:
                self._pending.remove(vector)
                self._send(address, struct.pack("<I", data))
