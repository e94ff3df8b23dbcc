"""The drivers of a run, journalled."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from lib.golden.used import UsedTap
from virtio_model.driver.framing import ONE_PIECE
from virtio_model.driver.make import Queue, make_queue
from virtio_model.driver.net import NetDriver, Received
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.spec.features import Feature, has

__all__ = ["RX", "TX", "Journal", "PairDriver", "QueueMaker"]

RX, TX = 0, 1
"""Places in what there is of each virtqueue of a pair."""


@dataclass
class Journal:
    """What the drivers did, in order: (action, pair, arguments)."""

    actions: list[tuple[str, int, tuple[Any, ...]]] = field(default_factory=list)


class QueueMaker:
    """Makes virtqueues; two with the same seed make the same ones on like memories."""

    def __init__(
        self, memory: GuestMemory, allocator: Allocator, features: int, policy: Any, seed: int
    ) -> None:
        self._memory, self._allocator, self._features = memory, allocator, features
        self._policy = None if has(features, Feature.IN_ORDER) else policy
        self._draw = random.Random(seed)

    def make(self, size: int) -> Queue:
        """The next virtqueue."""
        return make_queue(
            self._memory,
            self._allocator,
            size,
            self._features,
            policy=self._policy,
            mixed=True,
            shuffle_ids=random.Random(self._draw.random()),
        )


class PairDriver:
    """The net driver of a queue pair; what it does is noted in a journal."""

    def __init__(self, number: int, net: NetDriver, journal: Journal) -> None:
        self.number = number
        self.net = net
        self.received: list[Received] = []
        self.consumed = 0
        """Receive buffers that came back, with a frame or without."""
        self.reaped = 0
        self._actions = journal.actions
        self.used = tuple(UsedTap(net.memory, queue) for queue in (net.rx, net.tx))

    def close(self) -> None:
        """Stop listening."""
        for tap in self.used:
            tap.close()

    def _note(self, action: str, *arguments: Any) -> None:
        self._actions.append((action, self.number, arguments))

    def post(
        self,
        length: int,
        cuts: tuple[int, ...] = ONE_PIECE,
        indirect: bool = False,
        skew: int = 0,
    ) -> None:
        """Make a receive buffer available."""
        self.net.post(length, cuts=cuts, indirect=indirect, skew=skew, fill=0xA5)
        self._note("post", length, cuts, indirect, skew)

    def send(
        self,
        frame: bytes,
        cuts: tuple[int, ...] = ONE_PIECE,
        indirect: bool = False,
        skew: int = 0,
    ) -> None:
        """Make a frame available."""
        self.net.send(frame, cuts=cuts, indirect=indirect, skew=skew, cookie=0)
        self._note("send", frame, cuts, indirect, skew)

    def reap(self) -> int:
        """Take transmitted buffers back; how many there were."""
        count = len(self.net.reap())
        if count:
            self.reaped += count
            self._note("reap", count)
        return count

    def receive(self) -> int:
        """Take received buffers; how many there were."""
        unused, frames = self.net.unused, len(self.received)
        while (got := self.net.receive()) is not None:
            self.received.append(got)
        count = self.net.unused - unused + len(self.received) - frames
        if count:
            self.consumed += count
            self._note("receive", count)
        return count
