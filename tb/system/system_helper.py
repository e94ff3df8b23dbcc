"""What several system tests do with a device: counters, descriptors by hand, errors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lib.device_system import DeviceSystem
from lib.streams import cycles
from virtio_model.driver.packed_queue import PackedQueue
from virtio_model.rings.packed import DESC_SIZE, PackedDescriptor
from virtio_rtl.regs.maps import COUNTERS as COUNTER_REGION
from virtio_rtl.top_counters import all_counters

__all__ = [
    "bus_master_off",
    "counter",
    "error_status",
    "write_descriptor",
]

EXPRESS = 0x10
"""PCI capability id of the PCI Express capability."""


async def counter(system: DeviceSystem, name: str) -> int:
    """Read a counter of the vendor region."""
    names = [counter.name for counter in all_counters(system.config)]
    return await system.access.bar_read(0, COUNTER_REGION.start + 4 * names.index(name), 4)


def write_descriptor(
    queue: PackedQueue, slot: int, address: int, length: int, buffer_id: int, flags: int
) -> None:
    """Write a slot of the ring behind the driver's back."""
    descriptor = PackedDescriptor(address, length, buffer_id, flags)
    queue.memory.write(queue.desc_addr + DESC_SIZE * slot, descriptor.encode())


@asynccontextmanager
async def bus_master_off(system: DeviceSystem) -> AsyncIterator[None]:
    """Within the block, Bus Master Enable is 0."""
    command = await system.access.config_read(4, 2)
    await system.access.config_write(4, command & ~4, 2)
    yield
    await system.access.config_write(4, command, 2)


async def error_status(system: DeviceSystem) -> tuple[int, int]:
    """Error bits of the Status and Device Status registers; they are cleared."""
    await cycles(system.dut, 20)
    at = await system.capability(EXPRESS) + 0xA
    found = await system.access.config_read(6, 2), await system.access.config_read(at, 2)
    await system.access.config_write(6, 0xFFFF, 2)
    await system.access.config_write(at, 0xF, 2)
    return found[0] & 0xF900, found[1] & 0xF
