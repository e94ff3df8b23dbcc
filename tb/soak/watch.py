"""The ring monitor, told of everything that it cannot see in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cocotb.utils import get_sim_time

from lib.pcie.interrupts import Interrupt
from lib.ring_monitor import RingMonitor
from virtio_model.spec.features import Feature, has
from virtio_rtl.regs.maps import NOTIFY

if TYPE_CHECKING:
    from lib.net_system import NetSystem

__all__ = ["Watch"]

INTERRUPT_LIMIT_NS = 30_000
"""An interrupt follows the read of the driver's wishes, which follows the used entry; coalescing
and a full link delay both."""


class Watch:
    """A `RingMonitor` on a system whose virtqueues are set up, until `close`.

    Make it before DRIVER_OK is written.
    """

    def __init__(self, system: NetSystem) -> None:
        self._system = system
        self.monitor = monitor = RingMonitor(
            system.memory, lambda: get_sim_time("ns"), interrupt_limit=INTERRUPT_LIMIT_NS
        )
        monitor.negotiated(system.accepted)
        for index, queue in enumerate(system.queues):
            monitor.enable_queue(
                index,
                queue.size,
                queue.desc_addr,
                queue.driver_addr,
                queue.device_addr,
                system.vector_of(index),
            )
        monitor.interrupts.config_vector = 0
        monitor.driver_ok()
        system.host.interrupts.callbacks.append(self._interrupt)
        self._bar_write = system.access.bar_write
        setattr(system.access, "bar_write", self._written)  # noqa: B010

    def _interrupt(self, message: Interrupt) -> None:
        self.monitor.interrupt(message.data - 0x4000)

    async def _written(self, bar: int, offset: int, value: int, size: int) -> None:
        if NOTIFY.start <= offset < NOTIFY.start + 4 * len(self._system.queues):
            with_data = has(self._system.accepted, Feature.NOTIFICATION_DATA)
            index = (offset - NOTIFY.start) // 4
            self.monitor.kick(index, value >> 16 if with_data else None)
        await self._bar_write(bar, offset, value, size)

    def close(self) -> Any:
        """Stop watching; the report."""
        self._system.access.__dict__.pop("bar_write", None)
        self._system.host.interrupts.callbacks.remove(self._interrupt)
        return self.monitor.finish()
