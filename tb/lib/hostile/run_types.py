"""Hostile runs on each device type."""

from __future__ import annotations

import random
from typing import Any

from lib.hostile.actions import Incoming, Kick, Write
from lib.hostile.arena import ARENA, QUEUE_BYTES
from lib.hostile.config import HostileBlkSystem
from lib.hostile.neighbour import Neighbour
from lib.hostile.neighbour_blk import BlkNeighbour
from lib.hostile.neighbour_net import NetNeighbour
from lib.hostile.opening import BlkOpening, NetOpening
from lib.hostile.plan import Plan
from lib.hostile.run import OPENING_LIMIT, HostileRun
from lib.hostile.scenes import HOSTILE_SECTORS
from lib.hostile.setup import Ring
from lib.net_features import wanted_features
from lib.net_system import NetSystem
from lib.ring_features import ring_features
from lib.streams import cycles
from virtio_model.spec.blk import SECTOR_SIZE

__all__ = ["BlkHostileRun", "NetHostileRun", "make_hostile_run"]

PORT_LIMIT = 2000
_PORT_PAUSE = 16
"""Between two frames that are there, the port pauses for less."""


class NetHostileRun(HostileRun):
    """The first queue pair is the hostile one."""

    system: NetSystem

    def features_of(self, plan: Plan) -> int:
        return wanted_features(plan.ring, plan.features)

    def make_neighbour(self, plan: Plan, features: int) -> NetNeighbour:
        return NetNeighbour(self.system, self.setup, plan, features)

    def make_opening(self, plan: Plan) -> NetOpening:
        return NetOpening(self.system, plan)

    def clean_up(self) -> None:
        self.system.sink.frames.clear()
        self.system.sink.dests.clear()

    def come_in(self, action: Incoming) -> None:
        self.system.source.send(random.randbytes(action.length), bad=action.bad)

    async def settle(self, found: list[str]) -> None:
        """The receive port takes all; the transmit port sends what the device had whole."""
        source = self.system.source
        source.clear()
        end = self.setup.now + 4000
        while not source.idle and self.setup.now < end:
            await cycles(self.system.dut, 10)
        if not source.idle:
            found.append("the receive port takes no frame after a reset")
        end, quiet = self.setup.now + PORT_LIMIT, 0
        while quiet < _PORT_PAUSE:
            await cycles(self.system.dut)
            quiet = 0 if int(self.system.dut.net_tx__tvalid.value) else quiet + 1
            if self.setup.now > end:
                found.append("the transmit port goes on sending after a reset")
                return


class BlkHostileRun(HostileRun):
    """The first two virtqueues are hostile; what they ask for concerns the first sectors alone."""

    SHARED = True
    system: HostileBlkSystem

    def features_of(self, plan: Plan) -> int:
        return ring_features(plan.ring, plan.features) | self.system.offers

    def make_neighbour(self, plan: Plan, features: int) -> BlkNeighbour:
        # Attacked registers may have the device do requests once more.
        neighbour = BlkNeighbour(self.system, self.setup, plan, features)
        self._intruded = plan.intruder
        return neighbour

    def make_opening(self, plan: Plan) -> BlkOpening:
        return BlkOpening(self.system, plan)

    async def serves_on(self, plan: Plan, neighbour: Neighbour) -> list[str]:
        """A virtqueue reset is enough for the hostile virtqueues; the others do not notice."""
        if "ring_reset" not in plan.features:
            return []
        system = self.system
        system.host.target.faults.clear()
        for place in plan.places:
            await self.setup.reset_queue(place.index, self.reset_limit)
        system.memory.write(ARENA, bytes(2 * QUEUE_BYTES))
        for place in plan.places:
            ring = Ring(place.size, place.desc, place.driver, place.device)
            self.setup.enable(place.index, ring)
        await self.setup.read_status()
        for action in plan.opening:
            if isinstance(action, Write | Kick):
                await self.do(action)
        opening = self.make_opening(plan)
        end = self.setup.now + OPENING_LIMIT
        while not opening.done():
            if self.setup.now > end:
                return [f"no answer after a virtqueue reset: {opening.state}"]
            await cycles(system.dut, 20)
        return [f"after a virtqueue reset: {text}" for text in opening.compare()]

    async def settle(self, found: list[str]) -> None:
        """What attacked registers have led to is known again when it was written again."""
        self.system.stale |= self._intruded

    async def finish(self) -> list[str]:
        """Everything behind the hostile sectors is what it should be."""
        system = self.system
        parts = [system.part(index) for index in (2, 3)] if system.stale else []
        golden = system.golden.image
        await system.start()
        found = await system.look()
        for sector in range(HOSTILE_SECTORS, system.limits.capacity):
            place = slice(sector * SECTOR_SIZE, (sector + 1) * SECTOR_SIZE)
            if found[place] != golden[place] and not any(sector in part for part in parts):
                return [f"sector {sector}, which is none of the hostile driver's, was changed"]
        return []


def make_hostile_run(system: Any) -> HostileRun:
    """Runs for the device type of a system of `make_hostile_system`."""
    return BlkHostileRun(system) if system.config.device == "blk" else NetHostileRun(system)
