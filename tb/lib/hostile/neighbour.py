"""The well-behaved queue pair beside the hostile one: all of its traffic is compared."""

from __future__ import annotations

import random

from lib.hostile.arena import MEMORY_BASE, MEMORY_BYTES, NEIGHBOUR
from lib.hostile.plan import Plan
from lib.hostile.setup import Ring, Setup
from lib.net_system import NetSystem, random_frame
from lib.queue_pair import QueuePair
from lib.streams import cycles
from virtio_model.driver.make import make_queue
from virtio_model.driver.net import NetDriver
from virtio_model.errors import ModelError
from virtio_model.memory import Allocator
from virtio_model.spec.features import Feature, has
from virtio_model.spec.pci import notify_value
from virtio_rtl.regs.maps import NOTIF_CONFIG_DATA, NOTIFY

__all__ = ["PAIR", "Neighbour"]

PAIR = 1
FRAMES = 4
"""Each way."""
_LONGEST = 400


class Neighbour:
    """The driver of pair 1, for one run.

    Parameters
    ----------
    system, setup
        The device, and the way to its registers.
    plan, features
        What was negotiated, and virtqueue sizes.
    """

    def __init__(self, system: NetSystem, setup: Setup, plan: Plan, features: int) -> None:
        self._system = system
        self._setup = setup
        self._features = features
        self._draw = random.Random(plan.seed)
        memory = system.memory
        self._allocator = Allocator(memory, NEIGHBOUR, MEMORY_BASE + MEMORY_BYTES)
        rx, tx = (
            make_queue(memory, self._allocator, size, features, shuffle_ids=self._draw)
            for size in plan.neighbour_sizes
        )
        self.queues = [rx, tx]
        self._pair = QueuePair(NetDriver(memory, self._allocator, rx, tx, features=features))
        self._sent: list[bytes] = []
        self._replies: list[bytes] = []
        self._done: list[int] = []
        self._broken = ""

    @property
    def rings(self) -> list[Ring]:
        """What the device is told."""
        return [Ring(q.size, q.desc_addr, q.driver_addr, q.device_addr) for q in self.queues]

    def close(self) -> None:
        """Take everything back, after a reset."""
        self._pair.net.take_back(self._pair.net.rx)
        self._pair.net.take_back(self._pair.net.tx)
        for queue in self.queues:
            queue.close()

    def _kick(self, way: int) -> None:
        queue = self.queues[way]
        if not queue.needs_kick():
            return
        index = 2 * PAIR + way
        name = index | (NOTIF_CONFIG_DATA if has(self._features, Feature.NOTIF_CONFIG_DATA) else 0)
        wide = has(self._features, Feature.NOTIFICATION_DATA)
        value = notify_value(name, queue.notification_data() if wide else None)
        data = value.to_bytes(4, "little")
        self._setup.write(NOTIFY.start + 4 * index, data, 15 if wide else 3)

    def begin(self) -> None:
        """Buffers for all frames, and the first frame out."""
        for _ in range(FRAMES):
            self._pair.net.post(1600)
        self._kick(0)
        self._send()

    def _send(self) -> None:
        if len(self._sent) < FRAMES and self.queues[1].free_slots > 1:
            frame = random_frame(_LONGEST)
            self._pair.net.send(frame, cookie=len(self._sent))
            self._sent.append(frame)
            self._kick(1)

    def receive(self) -> None:
        """A frame comes in."""
        if len(self._replies) < FRAMES:
            self._replies.append(random_frame(_LONGEST))
            self._system.source.send(self._replies[-1], dest=PAIR)

    def poll(self, count: int) -> bool:
        """Whether at least `count` frames have gone each way."""
        self._done += self._pair.poll()
        # A buffer is used when the device has its bytes; the frame leaves when it is whole.
        gone = self._system.sink.dests.count(PAIR)
        return min(len(self._done), len(self._pair.received), gone) >= count

    async def run(self) -> None:
        """All the other frames, some at a time; without an end if they do not arrive.

        What the driver model complains about is kept for `compare`.
        """
        try:
            await self._exchange()
        except (ModelError, ValueError, LookupError) as error:
            self._broken = f"neighbour: {type(error).__name__}: {error}"

    async def _exchange(self) -> None:
        while not self.poll(FRAMES):
            if self._draw.random() < 0.5:
                self._send()
            if self._draw.random() < 0.5:
                self.receive()
            await cycles(self._system.dut, self._draw.choice((20, 40, 80)))

    @property
    def state(self) -> str:
        """How far it came."""
        return (
            f"neighbour: {len(self._done)} of {len(self._sent)} sent frames are done, "
            f"{len(self._pair.received)} of {len(self._replies)} have come in"
        )

    def compare(self) -> list[str]:
        """What is wrong with its traffic, once all of it has come."""
        if self._broken:
            return [self._broken]
        sink = self._system.sink
        port = [f for f, dest in zip(sink.frames, sink.dests, strict=True) if dest == PAIR]
        found = []
        if self._done != list(range(FRAMES)):
            found.append(f"neighbour: used in the order {self._done}")
        if port != self._sent:
            found.append("neighbour: the frames at the port are not those that were sent")
        if [got.frame for got in self._pair.received] != self._replies:
            found.append("neighbour: received frames differ from those at the port")
        # With EVENT_IDX a driver that has looked before the device asks it wants no interrupt.
        due = not has(self._features, Feature.EVENT_IDX)
        for way in range(2):
            if due and self._system.vector_of(2 * PAIR + way) not in self._system.interrupts:
                found.append(f"neighbour: no interrupt of virtqueue {2 * PAIR + way}")
            self.queues[way].audit()
        return found
