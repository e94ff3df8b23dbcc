"""Whether the driver's available buffer notifications are right [virtio 1.4 §2.9, §4.1.5.2]."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import inf

from lib.ring_monitor.breach import DRIVER, Report
from lib.ring_monitor.queue import Mode, WatchedQueue, passes
from virtio_model.spec.features import Feature

__all__ = ["Kicks"]


@dataclass
class _Account:
    """One virtqueue: how far it was at the last kick, and whether one is owed or allowed.

    `told`: how far the driver can be sure that the device knows, which is less while the last
    kick may have been sent before the last buffers were added.
    """

    kicked: int = 0
    kicked_at: float = -inf
    told: int = 0
    allowed: float | None = None
    due: float | None = None
    places: deque[int] = field(default_factory=deque)


class Kicks:
    """Doorbells as the device gets them.

    They are posted: the driver may be further when one arrives, so its data may be any position
    from that of the kick before on. `limit` is the time within which a kick that the device asks
    for has to come; None: a driver may take any time. `flight` is how long one may be under way:
    for that long, what another kick has told allows one more.
    """

    def __init__(self, report: Report, limit: float | None, flight: float = 0.0) -> None:
        self.report = report
        self.limit = limit
        self.flight = flight
        self._accounts: dict[WatchedQueue, _Account] = {}

    def open(self, queue: WatchedQueue) -> None:
        """A virtqueue was enabled."""
        self._accounts[queue] = _Account(places=deque([queue.kick_data()], maxlen=queue.circle))

    def close(self, queue: WatchedQueue) -> None:
        """A virtqueue is no more."""
        self._accounts.pop(queue, None)

    def added(self, queue: WatchedQueue, old: int, new: int) -> None:
        """The driver made buffers available."""
        account = self._accounts.get(queue)
        if account is None:
            return
        account.places.append(queue.kick_data())
        if passes(queue.device_wishes(), queue.circle, old, new):
            account.allowed = self.report.now()
            if account.due is None:
                account.due = account.allowed

    def wished(self, queue: WatchedQueue) -> None:
        """The device wrote its wishes."""
        account = self._accounts.get(queue)
        if account is None:
            return
        now = self.report.now()
        if account.kicked_at < now - self.flight:
            account.told = account.kicked
        if account.told == queue.avail:
            return
        if passes(queue.device_wishes(), queue.circle, account.told, queue.avail):
            account.allowed = now
        else:
            account.due = None

    def kick(self, queue: WatchedQueue, data: int | None) -> None:
        """A doorbell for a virtqueue arrived, with the upper half `data` if there is one."""
        account = self._accounts[queue]
        if queue.lost:
            return
        if data in account.places:
            while account.places[0] != data:
                account.places.popleft()
        elif data is not None:
            row = "fact-drv-notify-01"
            if queue.has(Feature.RING_PACKED):
                row = "drv-packed-desc-03"
            queue.driver_breach(row, f"kick data {data:#06x}, now {queue.kick_data():#06x}")
        if queue.avail != account.kicked and account.allowed is None:
            event = queue.device_wishes()
            name = "kick silence event" if event.mode is Mode.EVENT else "kick silence"
            queue.driver_breach(queue.rows[name], "kick against the device's event suppression")
        now = self.report.now()
        account.told, account.kicked = account.kicked, queue.avail
        account.kicked_at, account.due = now, None
        if account.allowed is not None and account.allowed <= now - self.flight:
            account.allowed = None

    def tick(self) -> None:
        """Look whether one is overdue."""
        if self.limit is None:
            return
        now = self.report.now()
        for queue, account in self._accounts.items():
            if account.due is None or now - account.due <= self.limit or queue.lost:
                continue
            event = queue.device_wishes()
            name = "kick due event" if event.mode is Mode.EVENT else "kick due"
            self.report.add(DRIVER, queue.rows[name], queue.index, f"no kick since {account.due:g}")
            account.due = None
