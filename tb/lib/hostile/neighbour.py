"""The well-behaved driver beside the hostile one: all of its traffic is compared."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod

from lib.device_system import DeviceSystem
from lib.hostile.arena import MEMORY_BASE, MEMORY_BYTES, NEIGHBOUR
from lib.hostile.plan import Plan
from lib.hostile.setup import Ring, Setup
from virtio_model.driver.make import make_queue
from virtio_model.errors import ModelError
from virtio_model.memory import Allocator
from virtio_model.spec.features import Feature, has
from virtio_model.spec.pci import notify_value
from virtio_rtl.regs.maps import NOTIF_CONFIG_DATA, NOTIFY

__all__ = ["FIRST", "Neighbour"]

FIRST = 2
"""Its first virtqueue; the hostile ones are before."""


class Neighbour(ABC):
    """The driver of two virtqueues, for one run; a device type's is a subclass.

    Parameters
    ----------
    system, setup
        The device, and the way to its registers.
    plan, features
        What was negotiated, and virtqueue sizes.
    """

    def __init__(self, system: DeviceSystem, setup: Setup, plan: Plan, features: int) -> None:
        self.setup = setup
        self.features = features
        self.draw = random.Random(plan.seed)
        self.allocator = Allocator(system.memory, NEIGHBOUR, MEMORY_BASE + MEMORY_BYTES)
        self.queues = [
            make_queue(system.memory, self.allocator, size, features, shuffle_ids=self.draw)
            for size in plan.neighbour_sizes
        ]
        self._due = [system.vector_of(FIRST + way) for way in range(2)]
        self._interrupts = lambda: system.interrupts
        self._broken = ""

    # For a device type

    @abstractmethod
    def begin(self) -> None:
        """Make the first buffers available."""

    @abstractmethod
    def come_in(self) -> None:
        """Something comes in from outside, where a device has that."""

    @abstractmethod
    def poll(self, count: int) -> bool:
        """Whether at least `count` buffers are through, in each virtqueue."""

    @abstractmethod
    async def exchange(self) -> None:
        """All the others, some at a time; without an end if they do not arrive."""

    @property
    @abstractmethod
    def state(self) -> str:
        """How far it came."""

    @abstractmethod
    def differences(self) -> list[str]:
        """What is wrong with its traffic, once all of it has come."""

    @abstractmethod
    def take_back(self) -> None:
        """Free all buffers, after a reset."""

    # For all

    @property
    def rings(self) -> list[Ring]:
        """What the device is told."""
        return [Ring(q.size, q.desc_addr, q.driver_addr, q.device_addr) for q in self.queues]

    def close(self) -> None:
        """Take everything back, after a reset."""
        self.take_back()
        for queue in self.queues:
            queue.close()

    def kick(self, way: int) -> None:
        """Notify the device if it wants that."""
        queue = self.queues[way]
        if not queue.needs_kick():
            return
        index = FIRST + way
        name = index | (NOTIF_CONFIG_DATA if has(self.features, Feature.NOTIF_CONFIG_DATA) else 0)
        wide = has(self.features, Feature.NOTIFICATION_DATA)
        value = notify_value(name, queue.notification_data() if wide else None)
        data = value.to_bytes(4, "little")
        self.setup.write(NOTIFY.start + 4 * index, data, 15 if wide else 3)

    async def run(self) -> None:
        """As `exchange`; what the driver model complains about is kept for `compare`."""
        try:
            await self.exchange()
        except (ModelError, ValueError, LookupError) as error:
            self._broken = f"neighbour: {type(error).__name__}: {error}"

    def compare(self) -> list[str]:
        """What is wrong with its traffic and its interrupts, once all of it has come."""
        if self._broken:
            return [self._broken]
        found = self.differences()
        # With EVENT_IDX a driver that has looked before the device asks it wants no interrupt.
        due = not has(self.features, Feature.EVENT_IDX)
        for way, vector in enumerate(self._due):
            if due and vector not in self._interrupts():
                found.append(f"neighbour: no interrupt of virtqueue {FIRST + way}")
            self.queues[way].audit()
        return found
