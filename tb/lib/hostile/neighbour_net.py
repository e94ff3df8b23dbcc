"""The neighbour on a net device: a queue pair of its own."""

from __future__ import annotations

from lib.hostile.neighbour import Neighbour
from lib.hostile.plan import Plan
from lib.hostile.setup import Setup
from lib.net_system import NetSystem, random_frame
from lib.queue_pair import QueuePair
from lib.streams import cycles
from virtio_model.driver.net import NetDriver

__all__ = ["PAIR", "NetNeighbour"]

PAIR = 1
FRAMES = 4
"""Each way."""
_LONGEST = 400


class NetNeighbour(Neighbour):
    """Frames both ways."""

    def __init__(self, system: NetSystem, setup: Setup, plan: Plan, features: int) -> None:
        super().__init__(system, setup, plan, features)
        self._system = system
        rx, tx = self.queues
        driver = NetDriver(system.memory, self.allocator, rx, tx, features=features)
        self._pair = QueuePair(driver)
        self._sent: list[bytes] = []
        self._replies: list[bytes] = []
        self._done: list[int] = []

    def take_back(self) -> None:
        self._pair.net.take_back(self._pair.net.rx)
        self._pair.net.take_back(self._pair.net.tx)

    def begin(self) -> None:
        """Buffers for all frames, and the first frame out."""
        for _ in range(FRAMES):
            self._pair.net.post(1600)
        self.kick(0)
        self._send()

    def _send(self) -> None:
        if len(self._sent) < FRAMES and self.queues[1].free_slots > 1:
            frame = random_frame(_LONGEST)
            self._pair.net.send(frame, cookie=len(self._sent))
            self._sent.append(frame)
            self.kick(1)

    def come_in(self) -> None:
        if len(self._replies) < FRAMES:
            self._replies.append(random_frame(_LONGEST))
            self._system.source.send(self._replies[-1], dest=PAIR)

    def poll(self, count: int) -> bool:
        self._done += self._pair.poll()
        # A buffer is used when the device has its bytes; the frame leaves when it is whole.
        gone = self._system.sink.dests.count(PAIR)
        return min(len(self._done), len(self._pair.received), gone) >= count

    async def exchange(self) -> None:
        while not self.poll(FRAMES):
            if self.draw.random() < 0.5:
                self._send()
            if self.draw.random() < 0.5:
                self.come_in()
            await cycles(self._system.dut, self.draw.choice((20, 40, 80)))

    @property
    def state(self) -> str:
        return (
            f"neighbour: {len(self._done)} of {len(self._sent)} sent frames are done, "
            f"{len(self._pair.received)} of {len(self._replies)} have come in"
        )

    def differences(self) -> list[str]:
        sink = self._system.sink
        port = [f for f, dest in zip(sink.frames, sink.dests, strict=True) if dest == PAIR]
        found = []
        if self._done != list(range(FRAMES)):
            found.append(f"neighbour: used in the order {self._done}")
        if port != self._sent:
            found.append("neighbour: the frames at the port are not those that were sent")
        if [got.frame for got in self._pair.received] != self._replies:
            found.append("neighbour: received frames differ from those at the port")
        return found
