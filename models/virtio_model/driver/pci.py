"""Virtio PCI transport, driver side: initialisation, queues, notification [virtio 1.4 §4.1]."""

from __future__ import annotations

from dataclasses import dataclass

from virtio_model.driver.pci_caps import PciAccess
from virtio_model.driver.pci_status import NegotiationRefused, PciStatus
from virtio_model.driver.queue import DriverQueue
from virtio_model.errors import DriverComplaint, DriverMisuse
from virtio_model.spec import features as feat
from virtio_model.spec import pci
from virtio_model.spec.features import Feature

__all__ = ["ActiveQueue", "NegotiationRefused", "VirtioPciDriver"]


@dataclass(frozen=True)
class ActiveQueue:
    """A queue that has been set up."""

    queue: DriverQueue
    notify_offset: int
    notify_id: int
    """What a kick carries: the index, or queue_notif_config_data."""
    largest: int
    """queue_size before set-up."""


class VirtioPciDriver(PciStatus):
    """Drives a modern virtio-pci function, checking what a driver can see.

    Order of use: `discover`, `start`, `setup_queue` for each queue, `driver_ok`, then `kick`,
    and as negotiated `reset_queue`, `suspend` and `resume`. What no driver may do in the present
    state is a `DriverMisuse`. Tests of single steps use `reset`, `add_status` and `negotiate`
    instead of `start`, and `notify` instead of `kick`: those do as they are told.
    """

    def __init__(
        self,
        access: PciAccess,
        *,
        dependencies: feat.Dependencies = feat.DEPENDENCIES,
        device_config: bool = True,
        pci_id: tuple[int, int] | None = None,
        poll_limit: int = 1000,
    ) -> None:
        """`dependencies` are the device type's.

        `pci_id`: vendor and device id of a device that has a vendor's own; `poll_limit` bounds
        every wait, in reads.
        """
        super().__init__(
            access,
            dependencies=dependencies,
            device_config=device_config,
            pci_id=pci_id,
            poll_limit=poll_limit,
        )
        self.queues: dict[int, ActiveQueue] = {}

    async def reset(self) -> None:
        """Reset the device and wait until it says that it is done [virtio 1.4 §2.4]."""
        await super().reset()
        self.queues.clear()

    def _freeze(self, frozen: bool) -> None:
        if self.suspended != frozen:
            for active in self.queues.values():
                active.queue.frozen = frozen
        super()._freeze(frozen)

    # Queues [virtio 1.4 §4.1.5.1.3]

    async def queue_max_size(self, index: int) -> int:
        """queue_size of a queue: before set-up, its maximum; 0 if it does not exist."""
        await self.write_common("queue_select", index)
        return await self.read_common("queue_size")

    async def setup_queue(
        self, index: int, queue: DriverQueue, vector: int = pci.NO_VECTOR
    ) -> ActiveQueue:
        """Hand a queue to the device and enable it."""
        largest = await self.queue_max_size(index)
        if largest == 0:
            raise DriverComplaint("queue_size is 0: the queue does not exist", queue=index)
        if not feat.has(self.features, Feature.RING_PACKED):
            if largest & (largest - 1):
                raise DriverComplaint("queue_size is no power of two", queue=index, size=largest)
            if queue.size & (queue.size - 1):
                raise DriverMisuse("queue size is no power of two", queue=index, size=queue.size)
        if queue.size > largest:
            raise DriverComplaint(
                "queue larger than the device allows", queue=index, size=queue.size, largest=largest
            )
        if await self.read_common("queue_enable"):
            raise DriverComplaint("queue is enabled before its set-up", queue=index)
        await self._set_and_check("queue_size", queue.size)
        await self.set_queue_vector(index, vector)
        await self._set_and_check("queue_desc", queue.desc_addr)
        await self._set_and_check("queue_driver", queue.driver_addr)
        await self._set_and_check("queue_device", queue.device_addr)
        offset = await self._notify_offset(index)
        notify_id = index
        if feat.has(self.features, Feature.NOTIF_CONFIG_DATA):
            notify_id = await self.read_common("queue_notif_config_data")
        await self._set_and_check("queue_enable", 1)
        self.queues[index] = ActiveQueue(queue, offset, notify_id, largest)
        return self.queues[index]

    async def _notify_offset(self, index: int) -> int:
        where = self.structure(pci.CfgType.NOTIFY)
        wide = feat.has(self.offered, Feature.NOTIFICATION_DATA)
        size = pci.NOTIFY_SIZE_WITH_DATA if wide else pci.NOTIFY_SIZE
        off = await self.read_common("queue_notify_off")
        within = pci.notify_offset(0, off, self.layout.notify_off_multiplier)
        if within + size > where.length:
            raise DriverComplaint(
                "kicks of the queue are outside the notify structure",
                queue=index,
                offset=within,
                length=where.length,
            )
        return where.offset + within

    async def set_queue_vector(self, index: int, vector: int) -> None:
        """Map used buffer notifications of a queue; NO_VECTOR for none."""
        await self.write_common("queue_select", index)
        await self._set_and_check("queue_msix_vector", vector)

    async def set_config_vector(self, vector: int) -> None:
        """Map configuration change notifications; NO_VECTOR for none."""
        await self._set_and_check("config_msix_vector", vector)

    async def reset_queue(self, index: int) -> None:
        """Reset one queue and wait for the end [virtio 1.4 §2.6.1].

        Its buffers are the driver's again afterwards, and it may be set up anew, with other
        values if wanted.
        """
        self._need(Feature.RING_RESET)
        await self.write_common("queue_select", index)
        await self.write_common("queue_reset", 1)
        for _ in range(self.poll_limit):
            if await self.read_common("queue_reset") == 0:
                break
        else:
            raise DriverComplaint("the queue reset does not end", queue=index)
        if await self.read_common("queue_enable"):
            raise DriverComplaint("queue still enabled after its reset", queue=index)
        active = self.queues.pop(index, None)
        size = await self.read_common("queue_size")
        if active is not None and size != active.largest:
            raise DriverComplaint(
                "queue_size is not the largest again", queue=index, size=size, was=active.largest
            )
        if await self.read_common("queue_msix_vector") != pci.NO_VECTOR:
            raise DriverComplaint("queue_msix_vector is kept by a queue reset", queue=index)

    async def notify(self, index: int) -> None:
        """Kick a queue whatever the state, in the format negotiated [virtio 1.4 §4.1.5.2]."""
        active = self.queues[index]
        bar = self.structure(pci.CfgType.NOTIFY).bar
        data, size = None, pci.NOTIFY_SIZE
        if feat.has(self.features, Feature.NOTIFICATION_DATA):
            data, size = active.queue.notification_data(), pci.NOTIFY_SIZE_WITH_DATA
        value = pci.notify_value(active.notify_id, data)
        await self.access.bar_write(bar, active.notify_offset, value, size)

    async def kick(self, index: int) -> bool:
        """`notify` if the device wants it; whether it did."""
        if not self.live:
            raise DriverMisuse("no kicks before DRIVER_OK, nor while suspended", queue=index)
        wanted = self.queues[index].queue.needs_kick()
        if wanted:
            await self.notify(index)
        return wanted

    async def read_isr(self) -> pci.Isr:
        """Read and so clear the ISR status [virtio 1.4 §4.1.4.5]."""
        where = self.structure(pci.CfgType.ISR)
        return pci.Isr(await self.access.bar_read(where.bar, where.offset, 1))
