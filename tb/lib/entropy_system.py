"""A whole system: host, link, the entropy device in RTL with a golden source, its driver."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lib.device_system import DeviceSystem, small_config
from lib.entropy_stand_in import StandInBytes
from lib.streams import cycles
from virtio_model.device.entropy import SeededBytes
from virtio_model.driver.entropy import EntropyDriver
from virtio_model.driver.framing import Framing
from virtio_model.spec import entropy
from virtio_rtl.config import DeviceConfig
from virtio_rtl.config_entropy import EntropyConfig

__all__ = ["EntropySystem", "entropy_config", "exchange"]


def entropy_config(name: str = "net-x4", **source: Any) -> DeviceConfig:
    """A small entropy device, of the width and with the rings of a named configuration.

    source: fields of `EntropyConfig`; unless told, a seeded source and short replies.
    """
    chosen: dict[str, Any] = {"source": "seeded", "seed": 0x5EED, "largest_reply": 100}
    return replace(
        small_config(name),
        device="entropy",
        queue_pairs=1,
        entropy=EntropyConfig(**chosen | source),
    )


class EntropySystem(DeviceSystem):
    """Brings an entropy device up; every byte is compared with those of the golden source.

    See `DeviceSystem` for parameters.
    """

    DEPENDENCIES = entropy.DEPENDENCIES
    DEVICE_CONFIG = False

    def __init__(self, dut: Any, config: DeviceConfig, **more: Any):
        super().__init__(dut, config, **more)
        self.driver: EntropyDriver
        self.waiting: deque[int] = deque()
        """Bytes asked for by each request that was not answered."""
        self.may_be_short = 0
        """How many of these, the oldest ones, may get fewer bytes: a suspend did not wait."""
        self.answered = 0
        self.bytes_given = 0
        self.source: Callable[[int], bytes]

    def make_drivers(self) -> None:
        """One driver; the source starts again, as after each reset."""
        self.driver = EntropyDriver(self.memory, self.allocator, self.queues[0])
        entropy, beat_bytes = self.config.entropy, self.config.width // 8
        self.source = (
            SeededBytes(entropy.seed, beat_bytes)
            if entropy.source == "seeded"
            else StandInBytes(entropy, beat_bytes)
        )
        self._forget()

    def _forget(self) -> None:
        """Nothing is asked for."""
        self.waiting.clear()
        self.may_be_short = 0

    def close(self) -> None:
        """Take back all buffers and the virtqueue."""
        if self.queues:
            self.driver.take_back()
        super().close()

    def take_back(self, index: int) -> list[Any]:
        """Cookies of what was not answered."""
        self._forget()
        return self.driver.take_back()

    def queue_replaced(self, index: int) -> None:
        """The driver goes on with the new one."""
        self.driver.queue = self.queues[index]

    async def suspend(self) -> None:
        """Suspend the device; requests that wait may get fewer bytes than they have room for."""
        self.may_be_short = len(self.waiting)
        await super().suspend()

    def ask(self, length: int) -> bool:
        """Ask for bytes in a buffer cut at random; False if there is no room."""
        count = random.choice([0, 0, 1, 3]) if length > 1 else 0
        cuts = tuple(random.randrange(1, length) for _ in range(count))
        table = self.queues[0].indirect and random.random() < 0.4
        if self.queues[0].free_slots <= len(cuts):
            return False
        self.driver.request(
            length, framing=Framing(writable=cuts, indirect=table, skew=random.randrange(64))
        )
        self.waiting.append(length)
        return True

    def expect(self, room: int) -> bytes:
        """What the device puts into the next buffer."""
        return self.source(min(room, self.config.entropy.largest_reply))

    def poll(self) -> int:
        """Take the answers; how many there were. All must be as expected."""
        before = self.answered
        while (got := self.driver.poll()) is not None:
            room = self.waiting.popleft()
            length = min(room, self.config.entropy.largest_reply)
            if self.may_be_short:
                self.may_be_short -= 1
                length = min(length, len(got.data))
            assert got.data == self.source(length), f"other bytes in a buffer of {room}"
            assert got.rest == bytes([EntropyDriver.FILL]) * (room - len(got.data))
            self.answered += 1
            self.bytes_given += length
        return self.answered - before

    async def finish(self, limit: int = 20_000) -> None:
        """Wait until all is answered."""
        for _ in range(limit // 20):
            self.poll()
            if not self.waiting:
                return
            await cycles(self.dut, 20)
        raise AssertionError(f"{len(self.waiting)} requests not answered within {limit} cycles")


async def exchange(system: EntropySystem, count: int) -> None:
    """Have `count` random requests answered."""
    left = count
    while left:
        for _ in range(random.randint(0, 16)):
            length = random.choice([1, random.randint(1, 40), random.randint(1, 300)])
            if not left or not system.ask(length):
                break
            left -= 1
        await system.kick(0)
        await cycles(system.dut, random.choice([10, 100, 400]))
        system.poll()
        system.queues[0].audit()
    await system.finish()
    system.host.check()
    assert not system.memory.faults
