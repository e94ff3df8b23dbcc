"""The code for PCI in docs/driver-model.md, run against a register-file device."""

from __future__ import annotations

import asyncio
from typing import Any

from fake_pci import NOTIFY, FakePci

from lib.page_code import code_blocks
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.spec.features import Feature, has
from virtio_model.spec.status import DeviceStatus


def test_bring_up() -> None:
    """From reset to DRIVER_OK, with both virtqueues, and a kick."""
    scope: dict[str, Any] = {}
    exec(code_blocks("driver-model.md")["bring_up.py"], scope)
    device, memory = FakePci(), GuestMemory(1 << 16, base=0x1_0000_0000)

    async def steps() -> None:
        pci, queues = await scope["bring_up"](device, memory, Allocator(memory))
        assert await pci.status() & DeviceStatus.DRIVER_OK
        assert has(device.accepted, Feature.RING_PACKED)
        for index, queue in enumerate(queues):
            assert device.queue_regs[index, "queue_enable"]
            assert device.queue_regs[index, "queue_desc"] == queue.desc_addr
        queues[1].add([(memory.base + 0x8000, 64)], [])
        assert await pci.kick(1)
        assert device.notified == [(NOTIFY + 4, 1, 2)]

    asyncio.run(steps())
