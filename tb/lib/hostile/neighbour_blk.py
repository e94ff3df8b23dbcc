"""The neighbour on a block device: two virtqueues, and sectors of its own."""

from __future__ import annotations

from lib.blk_system import random_framing
from lib.blk_traffic import random_request
from lib.hostile.config import HostileBlkSystem
from lib.hostile.neighbour import FIRST, Neighbour
from lib.hostile.plan import Plan
from lib.hostile.setup import Setup
from lib.streams import cycles
from virtio_model.blk_request import RequestHeader
from virtio_model.driver.blk import BlkDriver
from virtio_model.driver.framing import WHOLE, Framing
from virtio_model.spec.blk import SECTOR_SIZE, RequestType

__all__ = ["BlkNeighbour"]

REQUESTS = 5
"""In each virtqueue, and the first one."""


class BlkNeighbour(Neighbour):
    """Every answer is the golden device's, and so is what earlier runs have left on the disk."""

    def __init__(self, system: HostileBlkSystem, setup: Setup, plan: Plan, features: int) -> None:
        super().__init__(system, setup, plan, features)
        self._system = system
        system.golden.features = features
        self._driver = BlkDriver(
            system.memory, self.allocator, self.queues, features, limits=system.limits
        )
        self._sent: list[list[tuple[bytes, int]]] = [[], []]
        self._done = [0, 0]
        self._found: list[str] = []

    def take_back(self) -> None:
        """What was not answered may have been done, wholly, partly or not."""
        for queue in self.queues:
            if self._driver.take_back(queue):
                self._system.stale = True

    def _send(self, way: int, request: tuple[bytes, int], framing: Framing) -> None:
        queue = self.queues[way]
        slots = len(framing.readable) + len(framing.writable) + 2
        if queue.free_slots < (1 if framing.indirect else slots) or slots > queue.size:
            return
        self._driver.send(*request, way, framing=framing, cookie=len(self._sent[way]))
        self._sent[way].append(request)
        self.kick(way)

    def begin(self) -> None:
        """A look at what was there before; or all of it is written, where that is not known."""
        kind = RequestType.OUT if self._system.stale else RequestType.IN
        for way in range(2):
            part = self._system.part(FIRST + way)
            header, length = RequestHeader(kind, part.start).encode(), SECTOR_SIZE * len(part)
            request = header, length + 1
            if kind == RequestType.OUT:
                request = header + self.draw.randbytes(length), 1
            self._send(way, request, WHOLE)
        self._system.stale = False

    def come_in(self) -> None:
        """Nothing comes from outside."""

    def poll(self, count: int) -> bool:
        for way in range(2):
            while (done := self._driver.poll(way)) is not None:
                request = self._sent[way][self._done[way]]
                wanted = self._system.golden.answer(*request)
                if done.cookie != self._done[way]:
                    self._found.append(f"neighbour: answer {done.cookie} out of turn")
                elif (done.data, done.status) != (wanted[:-1], wanted[-1]):
                    text = f"{request[0][:16].hex()}, {request[1]} bytes: {done.status!r}"
                    self._found.append(f"neighbour: another answer to {text}")
                self._done[way] += 1
        return min(self._done) >= count

    async def exchange(self) -> None:
        while not self.poll(REQUESTS):
            for way in range(2):
                if self.draw.random() < 0.5 and len(self._sent[way]) < REQUESTS:
                    readable, writable = random_request(self._system, FIRST + way)
                    table = self.queues[way].indirect
                    self._send(
                        way, (readable, writable), random_framing(len(readable), writable, table)
                    )
            await cycles(self._system.dut, self.draw.choice((20, 40, 80)))

    @property
    def state(self) -> str:
        return f"neighbour: {self._done} of {[len(sent) for sent in self._sent]} answered"

    def differences(self) -> list[str]:
        return self._found[:3]
