"""Whether interrupts come when they are due, and only then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from lib.ring_monitor.breach import DEVICE, Report
from lib.ring_monitor.queue import Mode, QueueState, WatchedQueue, passes
from virtio_model.spec.pci import NO_VECTOR

__all__ = ["Interrupts"]


@dataclass
class _Account:
    """One virtqueue: how far it was when last told of, and what is owed or allowed.

    `decided`: the device may have made up its mind about what was used before, when one became
    due. `unlooked`: when, from where and to where it used what the driver did not want to hear of
    then; it may not have looked yet.
    """

    vector: int
    told: int = 0
    due: float | None = None
    decided: int = 0
    allowed: list[float] = field(default_factory=list)
    unlooked: list[tuple[float, int, int]] = field(default_factory=list)


class Interrupts:
    """Used buffer notifications by MSI-X.

    A used entry that passes what the driver asks for allows one interrupt, and makes one due
    within `limit`. If the driver changes its wishes meanwhile both outcomes are right: what was
    due is so no longer, what passes by the new wishes is allowed: for each time that something was
    used, for the device looks after each. One interrupt speaks for all that its virtqueues have
    used by then; it owes no other one. `quiet(vector)` tells that a vector cannot be sent now
    (masked, MSI-X off, bus master off).
    """

    def __init__(
        self, report: Report, limit: float | None, quiet: Callable[[int], bool] = lambda _: False
    ) -> None:
        self.report = report
        self.limit = limit
        self.quiet = quiet
        self.enabled = True
        self.config_vector = NO_VECTOR
        self._accounts: dict[WatchedQueue, _Account] = {}

    def open(self, queue: WatchedQueue, vector: int) -> None:
        """A virtqueue was enabled."""
        self._accounts[queue] = _Account(vector)

    def close(self, queue: WatchedQueue) -> None:
        """A virtqueue is no more."""
        self._accounts.pop(queue, None)

    def map(self, index: int, vector: int) -> None:
        """The driver gave a virtqueue another vector."""
        for queue, account in self._accounts.items():
            if queue.index == index:
                account.vector, account.due = vector, None

    def forget(self, queue: WatchedQueue) -> None:
        """A virtqueue was reset: nothing is allowed for it any more."""
        account = self._accounts[queue]
        account.told, account.due = queue.used, None
        account.allowed, account.unlooked = [], []

    def used(self, queue: WatchedQueue, old: int, new: int) -> None:
        """The device used buffers."""
        account = self._accounts[queue]
        now = self.report.now()
        if not passes(queue.driver_wishes(), queue.circle, old, new):
            account.unlooked.append((now, old, new))
        else:
            account.allowed.append(now)
            if account.due is None and account.vector != NO_VECTOR:
                account.due, account.decided = now, old

    def wished(self, queue: WatchedQueue) -> None:
        """The driver wrote its wishes."""
        account = self._accounts.get(queue)
        if account is None:
            return
        wishes = queue.driver_wishes()
        # What was used in silence lately may not have been looked at: each time counts.
        account.unlooked = [one for one in account.unlooked if self._recent(one[0])]
        before = len(account.unlooked)
        account.unlooked = [
            one for one in account.unlooked if not passes(wishes, queue.circle, *one[1:])
        ]
        looks = before - len(account.unlooked)
        if queue.used != account.told:
            if passes(wishes, queue.circle, account.told, queue.used):
                looks = max(looks, 1)
            if not passes(wishes, queue.circle, account.decided, queue.used):
                account.due = None
        account.allowed += [self.report.now()] * looks

    def interrupt(self, vector: int) -> None:
        """The device sent an interrupt."""
        mine = [(q, a) for q, a in self._accounts.items() if a.vector == vector]
        self._age(mine)
        allowed = [account for _, account in mine if account.allowed]
        if allowed:
            min(allowed, key=lambda account: account.allowed[0]).allowed.pop(0)
        elif not mine and vector != self.config_vector:
            self.report.add(
                DEVICE, "pci-usednotif-01", None, f"interrupt by vector {vector}, which is unmapped"
            )
        elif vector != self.config_vector and not any(_unwatched(queue) for queue, _ in mine):
            self._unwanted(*mine[0])
        for queue, account in mine:
            account.told, account.due = queue.used, None

    def _unwanted(self, queue: WatchedQueue, account: _Account) -> None:
        if queue.state is QueueState.RESET:
            queue.device_breach("basic-vqreset-01", "interrupt behind the reset of the virtqueue")
            return
        if queue.used == account.told:
            queue.device_breach(queue.rows["due"], "interrupt, but nothing was used before")
            return
        event = queue.driver_wishes()
        name = "silence event" if event.mode is Mode.EVENT else "silence"
        queue.device_breach(queue.rows[name], "interrupt against the driver's event suppression")

    def _age(self, accounts: list[tuple[WatchedQueue, _Account]]) -> None:
        """What was allowed long ago is no more."""
        now = self.report.now()
        for _, account in accounts:
            if self.quiet(account.vector):
                account.allowed = [now for _ in account.allowed]
                account.due = None if account.due is None else now
            elif self.limit is not None:
                account.allowed = [t for t in account.allowed if self._recent(t)]

    def _recent(self, time: float) -> bool:
        """Whether the device may still act on what was then; never, if there is no limit."""
        return self.limit is not None and time >= self.report.now() - self.limit

    def tick(self) -> None:
        """Look whether one is overdue."""
        if self.limit is None or not self.enabled:
            return
        now = self.report.now()
        for queue, account in self._accounts.items():
            if account.due is None or now - account.due <= self.limit:
                continue
            if self.quiet(account.vector) or queue.lost or queue.state is not QueueState.ENABLED:
                account.due = now
                continue
            event = queue.driver_wishes()
            name = "due event" if event.mode is Mode.EVENT else "due"
            queue.device_breach(queue.rows[name], f"no interrupt since {account.due:g}")
            account.due = None


def _unwatched(queue: WatchedQueue) -> bool:
    """Whether it may have used buffers that were not seen, as since a reset was asked for."""
    return queue.lost or queue.state is QueueState.RESETTING
