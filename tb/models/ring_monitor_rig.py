"""A rig under the eyes of the ring monitor."""

from __future__ import annotations

from typing import Any

from ring_rig import Rig

from lib.ring_monitor import RingMonitor

VECTOR = 5
LIMIT = 400.0
"""Events within which an interrupt has to come."""


class Watched(Rig):
    """A rig whose device notifies, and a monitor that is told of it."""

    def __init__(
        self, size: int, *, live: bool = True, kick_flight: float = 0.0, **options: Any
    ) -> None:
        super().__init__(size, **options)
        self.monitor = RingMonitor(self.memory, interrupt_limit=LIMIT, kick_flight=kick_flight)
        self.monitor.negotiated(self.features)
        queue = self.driver
        self.watch = self.monitor.enable_queue(
            0, size, queue.desc_addr, queue.driver_addr, queue.device_addr, VECTOR
        )
        if live:
            self.monitor.driver_ok()

    def notify(self) -> None:
        """The device sends the interrupt that is due, if one is."""
        if self.device.should_interrupt():
            self.monitor.interrupt(VECTOR)

    def kick(self) -> None:
        """The driver kicks if the device wants it."""
        if self.driver.needs_kick():
            self.monitor.kick(0)

    def rows(self) -> set[str]:
        """What the monitor has found."""
        return self.monitor.finish().rows
