"""Driver side of a pair of virtqueues of the net device."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from virtio_model.driver.net import NetDriver, Received

__all__ = ["QueuePair"]


@dataclass
class QueuePair:
    """The driver's side of a receive and a transmit virtqueue."""

    net: NetDriver
    received: list[Received] = field(default_factory=list)

    def poll(self) -> list[Any]:
        """Reap both virtqueues; cookies of transmitted frames."""
        done = self.net.reap()
        while (got := self.net.receive()) is not None:
            self.received.append(got)
        return done
