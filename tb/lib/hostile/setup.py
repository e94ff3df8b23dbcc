"""Brings the device up in a handful of TLPs, for runs of a few hundred cycles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cocotb.utils import get_sim_time

from lib.device_system import MESSAGE_ADDRESS, DeviceSystem
from lib.pcie.packet import MEM_WRITE, Packet

__all__ = ["Ring", "Setup"]

_SELECT, _STATUS, _QUEUE_RESET = 0x14, 0x14, 0x3A
FULL = 15


@dataclass(frozen=True)
class Ring:
    """What the device is told of a virtqueue."""

    size: int
    desc: int
    driver: int
    device: int


class Setup:
    """Register writes by hand: several dwords in a TLP, any byte enables, nothing read back."""

    def __init__(self, system: DeviceSystem) -> None:
        self.system = system
        self.base = system.access.bar_address(0, 0)

    def write(self, offset: int, data: bytes, first: int = FULL, last: int = FULL) -> None:
        """Hand one memory write TLP to the link; returns at once."""
        count = len(data) // 4
        packet = Packet(
            MEM_WRITE, data, address=self.base + offset, first_be=first,
            last_be=last if count > 1 else 0,
        )  # fmt: skip
        packet.length_dw = count
        self.system.host.link.submit(packet)

    def status(self, value: int) -> None:
        """Write the device status."""
        self.write(_STATUS, bytes([value, 0, 0, 0]), 1)

    async def read_status(self) -> int:
        """Read the device status."""
        return await self.system.access.bar_read(0, _STATUS, 1)

    async def reset(self, limit: int) -> int:
        """Reset the device; the cycles that it took. AssertionError if more than `limit`."""
        began = self.now
        self.status(0)
        while await self.read_status():
            assert self.now - began < limit, f"the reset takes more than {limit} cycles"
        return self.now - began

    @property
    def now(self) -> int:
        """Cycles since the simulation began."""
        return round(get_sim_time("ns") * self.system.config.clock_mhz / 1000)

    def vectors(self) -> None:
        """Program the MSI-X table: entry n sends 0x4000 + n."""
        table = b"".join(
            word.to_bytes(4, "little")
            for vector in range(self.system.vectors)
            for word in (MESSAGE_ADDRESS, 0, 0x4000 + vector, 0)
        )
        self.write(0x8000, table)

    def start(self, features: int, rings: Sequence[Ring]) -> None:
        """From reset to DRIVER_OK."""
        self.status(1)
        self.status(3)
        for word in range(2):
            value = features >> 32 * word & 0xFFFF_FFFF
            self.write(8, word.to_bytes(4, "little") + value.to_bytes(4, "little"))
        self.status(11)
        self.write(0x10, b"\0\0\0\0", 3)
        for index, ring in enumerate(rings):
            self.enable(index, ring)
        self.status(15)

    def enable(self, index: int, ring: Ring) -> None:
        """Set a virtqueue up."""
        vector = self.system.vector_of(index)
        fields: tuple[Any, ...] = (
            (0, 2), (index, 2), (ring.size, 2), (vector, 2), (0, 4),
            (ring.desc, 8), (ring.driver, 8), (ring.device, 8),
        )  # fmt: skip
        data = b"".join(value.to_bytes(size, "little") for value, size in fields)
        self.write(_SELECT, data[:8], 12)
        self.write(0x20, data[12:])
        self.write(0x1C, b"\1\0\0\0", 3)

    async def reset_queue(self, index: int, limit: int) -> None:
        """Reset a virtqueue; AssertionError if that takes more than `limit` cycles."""
        began = self.now
        self.write(_SELECT, b"\0\0" + index.to_bytes(2, "little"), 12)
        self.write(_QUEUE_RESET & ~3, b"\0\0\1\0", 12)
        while await self.system.access.bar_read(0, _QUEUE_RESET, 2):
            assert self.now - began < limit, f"a virtqueue reset takes more than {limit} cycles"
