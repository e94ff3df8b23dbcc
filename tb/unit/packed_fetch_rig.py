"""A driver's packed rings around a `Fetch`."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

from fetch_rig import FetchRig
from virtqueue_helper import descriptor_bytes, queue_config, until

from lib.sim import params
from lib.streams import cycles

NEXT, WRITE, INDIRECT, AVAIL, USED = 1, 2, 4, 1 << 7, 1 << 15

Areas = dict[int, dict[str, int]]
"""Virtqueue to the addresses of its areas that a test chooses itself."""


class Guest:
    """Memory with nothing but rings and event suppression structures; strict about accesses."""

    def __init__(self, sizes: list[int], *, loose: bool, areas: Areas | None = None):
        # Rings may start anywhere in a cache line.
        self.configs = [
            queue_config(size, (queue + 1 << 24) + (16 * (queue % 4) if loose else 0))
            for queue, size in enumerate(sizes)
        ]
        for queue, places in (areas or {}).items():
            self.configs[queue] |= places
        self.rings = [bytearray(16 * size) for size in sizes]
        self.flags = [0 for _ in sizes]
        self.disabled = 0
        self.reads: list[tuple[int, int, int]] = []  # queue, slot, count

    def device_read(self, address: int, length: int) -> bytes:
        """Return what a descriptor read finds; it must stay inside one ring."""
        for queue, ring in enumerate(self.rings):
            offset = address - self.configs[queue]["descriptor_area"]
            if 0 <= offset <= len(ring) - length:
                break
        else:
            raise AssertionError(f"{length} bytes at {address:#x} are no part of a ring")
        assert offset % 16 == 0
        assert length % 16 == 0
        self.reads.append((queue, offset // 16, length // 16))
        return bytes(ring[offset : offset + length])

    def device_write(self, address: int, content: bytes) -> None:
        """Take an event suppression structure. [virtio 1.4 §2.8.14]"""
        places = [config["device_area"] for config in self.configs]
        assert address in places, f"wrote to {address:#x}"
        queue = places.index(address)
        assert content in (bytes(4), bytes([0, 0, 1, 0]))
        self.flags[queue] = content[2]
        self.disabled += content[2]


class Driver:
    """Makes chains available in the order in which Linux writes them, step by step."""

    def __init__(self, rig: Rig, queue: int, size: int):
        self.rig, self.queue, self.size = rig, queue, size
        self.slot, self.wrap, self.free = 0, 1, size
        self.expected: deque[list[dict[str, int]]] = deque()
        self.used_slot, self.used_wrap = 0, 1
        self.held_back = 0  # notifications that the device had disabled

    def _flags(self, wrap: int, flags: int) -> int:
        return flags | (AVAIL if wrap else USED)

    def put(self, slot: int, offset: int, content: bytes) -> None:
        """Write a part of a ring slot."""
        start = 16 * slot + offset
        self.rig.guest.rings[self.queue][start : start + len(content)] = content

    def plan(self, length: int) -> list[tuple[int, int, dict[str, int]]]:
        """Reserve slots for a chain: (slot, flags, descriptor) of each."""
        assert length <= self.free
        self.free -= length
        steps = []
        buffer_id = random.getrandbits(16)
        for index in range(length):
            descriptor = {
                "address": random.getrandbits(64),
                "length": random.getrandbits(32),
                "id": buffer_id,
                "next": int(index < length - 1),
                "write": random.getrandbits(1),
                "indirect": random.getrandbits(1),
            }
            bits = descriptor["next"] * NEXT + descriptor["write"] * WRITE
            bits += descriptor["indirect"] * INDIRECT
            steps.append((self.slot, self._flags(self.wrap, bits), descriptor))
            self.slot += 1
            if self.slot == self.size:
                self.slot, self.wrap = 0, 1 - self.wrap
        self.expected.append([descriptor for _, _, descriptor in steps])
        return steps

    def write_flags(self, step: tuple[int, int, dict[str, int]]) -> None:
        """The flags of a descriptor."""
        self.put(step[0], 14, step[1].to_bytes(2, "little"))

    def write_body(self, step: tuple[int, int, dict[str, int]]) -> None:
        """All of a descriptor but its flags."""
        d = step[2]
        self.put(step[0], 0, descriptor_bytes(d["address"], d["length"], d["id"])[:14])

    def add_now(self, length: int) -> None:
        """Make a chain available at once."""
        for step in reversed(self.plan(length)):
            self.write_body(step)
            self.write_flags(step)

    async def add(self, length: int) -> None:
        """Make a chain available: flags first, then the rest, the head's flags last."""
        steps = self.plan(length)
        for index, step in enumerate(steps):
            if index:
                self.write_flags(step)
                await self.pause()
            self.write_body(step)
            await self.pause()
        self.write_flags(steps[0])
        await self.pause()
        self.kick()

    async def pause(self) -> None:
        """Let some cycles pass, or none."""
        if random.random() < 0.3:
            await cycles(self.rig.dut, random.choice([1, 1, 2, 5, 30]))

    def kick(self) -> None:
        """Notify the device unless it has disabled that."""
        if self.rig.guest.flags[self.queue] == 1:
            self.held_back += 1
        else:
            self.rig.ring(self.queue)

    async def use(self, chain: list[Any]) -> None:
        """Give the slots back, with a used descriptor in the first, as the device would."""
        slot, used = self.used_slot, (AVAIL | USED) if self.used_wrap else 0
        self.used_slot += len(chain)
        if self.used_slot >= self.size:
            self.used_slot, self.used_wrap = self.used_slot - self.size, 1 - self.used_wrap
        if self.rig.slow:
            await cycles(self.rig.dut, 5)
        self.put(slot, 0, descriptor_bytes(0, random.getrandbits(8), chain[0]["id"], flags=used))
        self.free += len(chain)


class Rig(FetchRig):
    """A packed `Fetch` with everything around it."""

    def __init__(
        self, dut: Any, sizes: list[int], *, stall: float, held: bool = False, slow: bool = True,
        latency: tuple[int, int] = (3, 60), areas: Areas | None = None,
    ):  # fmt: skip
        self.features = {"packed": 1, "event_idx": 0, "in_order": 0}
        guest = Guest(sizes, loose=not held, areas=areas)
        drivers = [Driver(self, queue, size) for queue, size in enumerate(sizes)]
        super().__init__(dut, guest, drivers, stall=stall, held=held, slow=slow, latency=latency)


async def two_in_flight(rig: Rig) -> int:
    """Answer the first batch, full; return the batch size with the next two reads in flight."""
    batch, driver, held = rig.batch, rig.drivers[1], rig.held
    for _ in range(batch):
        driver.add_now(1)
    driver.kick()
    await until(rig.dut, lambda: len(held.requests) == 1, 100)
    held.answer(held.sample(0))
    await until(rig.dut, lambda: len(held.requests) == 3, 200)
    area = rig.guest.configs[1]["descriptor_area"]
    for index in range(3):
        assert held.requests[index]["address"] == area + 16 * batch * index
        assert held.requests[index]["length"] == 16 * batch
    return batch


async def flood_in_flight(dut: Any) -> Rig:
    """A rig whose next two reads are in flight, the first of them full but for its last slot."""
    rig = Rig(dut, [100, 8 * params().batch], stall=0.0, held=True)
    await rig.start()
    await two_in_flight(rig)
    for _ in range(rig.batch - 1):
        rig.drivers[1].add_now(1)
    return rig
