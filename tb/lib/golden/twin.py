"""The run of some drivers once more, on the golden device."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from lib.golden.driver import RX, TX, Journal, PairDriver, QueueMaker
from lib.golden.used import UsedEntry
from virtio_model.device.chain import Chain
from virtio_model.device.make import GoldenQueue, make_device_queue
from virtio_model.device.net import GoldenNet
from virtio_model.driver.net import NetDriver
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.spec.features import Feature, has

__all__ = ["AsBatched", "GoldenSide", "Twin"]


class AsBatched:
    """A golden virtqueue that joins used buffers as the RTL did.

    With IN_ORDER a device may write one used entry for several buffers; how many is a matter of
    timing, and visible in memory.
    """

    def __init__(self, queue: GoldenQueue, entries: Sequence[UsedEntry], in_order: bool) -> None:
        self._queue = queue
        self._ids = deque(entry.id for entry in entries) if in_order else None
        self._waiting: list[Chain] = []
        self.size = queue.size
        self.next_buffer = queue.next_buffer
        self.should_interrupt = queue.should_interrupt
        self.enable_notifications = queue.enable_notifications
        self.complete_batch = queue.complete_batch

    def complete(self, chain: Chain, length: int = 0) -> None:
        """Mark a buffer used, now or with a later one."""
        if self._ids is None:
            self._queue.complete(chain, length)
            return
        self._waiting.append(chain)
        if self._ids and self._ids[0] == chain.id:
            self._ids.popleft()
            self._queue.complete_batch(self._waiting, length)
            self._waiting = []


class GoldenSide:
    """Memory and virtqueues for a golden device, which start out like the RTL's.

    Make it when the virtqueues are set up and nothing has been made available.
    """

    def __init__(
        self, memory: GuestMemory, sizes: Sequence[int], features: int, policy: Any, seed: int
    ) -> None:
        self.features = features
        self.memory = GuestMemory(memory.size, memory.base)
        self.memory.write(memory.base, memory.read(memory.base, memory.size))
        self.allocator = Allocator(self.memory)
        maker = QueueMaker(self.memory, self.allocator, features, policy, seed)
        self.queues = [maker.make(size) for size in sizes]

    def device_queue(self, index: int, entries: Sequence[UsedEntry]) -> AsBatched:
        """The device side of a virtqueue; `entries`: those that the RTL wrote."""
        queue = make_device_queue(self.memory, self.queues[index], self.features)
        return AsBatched(queue, entries, has(self.features, Feature.IN_ORDER))


class Twin(GoldenSide):
    """The golden net device, see `GoldenSide`."""

    def __init__(
        self, memory: GuestMemory, sizes: Sequence[int], features: int, policy: Any, seed: int
    ) -> None:
        super().__init__(memory, sizes, features, policy, seed)
        journal = Journal()
        self.pairs = [
            PairDriver(number, NetDriver(self.memory, self.allocator, rx, tx, features), journal)
            for number, (rx, tx) in enumerate(zip(self.queues[::2], self.queues[1::2], strict=True))
        ]
        self.transmitted: list[list[bytes]] = [[] for _ in self.pairs]

    def replay(
        self, journal: Journal, arrivals: Sequence[Sequence[bytes]], rtl: Sequence[PairDriver]
    ) -> None:
        """Do what the drivers did; let the golden device do what the RTL should have done.

        arrivals: by pair, the frames that came in from the wire.
        """
        devices = []
        for pair, theirs in zip(self.pairs, rtl, strict=True):
            rx, tx = (
                self.device_queue(2 * pair.number + way, theirs.used[way].entries)
                for way in (RX, TX)
            )
            devices.append(GoldenNet(self.memory, rx, tx, self.features))
        coming = [deque(frames) for frames in arrivals]
        for action, number, arguments in journal.actions:
            pair, device = self.pairs[number], devices[number]
            match action:
                case "post":
                    pair.post(*arguments)
                case "send":
                    pair.send(*arguments)
                case "reap":
                    self.transmitted[number] += device.process_tx(arguments[0])
                    pair.reap()
                case "receive":
                    for _ in range(arguments[0]):
                        device.receive(coming[number].popleft())
                    pair.receive()
