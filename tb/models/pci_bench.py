"""A fake device and the PCI driver model on it, for the tests here."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from fake_pci import FakePci

from virtio_model.driver.packed_queue import PackedQueue
from virtio_model.driver.pci import VirtioPciDriver
from virtio_model.errors import DriverComplaint
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.spec import features as feat
from virtio_model.spec import net
from virtio_model.spec.features import Feature

BASICS = feat.mask([Feature.RING_PACKED, net.NetFeature.MAC])


def run(steps: Coroutine[Any, Any, Any]) -> Any:
    """Run an async test body."""
    return asyncio.run(steps)


class Bench:
    """A fake device and the driver on it."""

    def __init__(self) -> None:
        self.device = FakePci()
        self.driver = VirtioPciDriver(self.device, dependencies=net.DEPENDENCIES, poll_limit=10)
        memory = GuestMemory(1 << 16, base=0x12_3450_0000)
        self.allocator = Allocator(memory)
        self.memory = memory

    def queue(self, size: int = 16) -> PackedQueue:
        return PackedQueue(self.memory, self.allocator, size)

    async def started(self, wanted: int = BASICS) -> VirtioPciDriver:
        await self.driver.discover()
        await self.driver.start(wanted)
        return self.driver


def complains(steps: Coroutine[Any, Any, Any], text: str) -> DriverComplaint:
    """Run steps that must end in a complaint."""
    with pytest.raises(DriverComplaint, match=text) as caught:
        run(steps)
    return caught.value
