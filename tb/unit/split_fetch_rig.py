"""A driver's split rings around a `Fetch`."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

from fetch_rig import FetchRig
from virtqueue_helper import queue_config

from lib.streams import cycles

NEXT, WRITE, INDIRECT = 1, 2, 4

Areas = dict[int, dict[str, int]]
"""Virtqueue to the addresses of its areas that a test chooses itself."""


def split_descriptor(address: int, length: int, flags: int, link: int) -> bytes:
    """Sixteen bytes of a split descriptor. [virtio 1.4 §2.7.5]"""
    return (
        address.to_bytes(8, "little")
        + length.to_bytes(4, "little")
        + flags.to_bytes(2, "little")
        + link.to_bytes(2, "little")
    )


class Guest:
    """Memory with nothing but split virtqueues; strict about what a device may touch.

    The device reads descriptors, `avail.idx` and available entries, and writes `used.flags` or
    `avail_event`. What no driver has written is random.
    """

    def __init__(
        self, sizes: list[int], *, loose: bool, event_idx: bool, areas: Areas | None = None
    ):
        self.event_idx = event_idx
        self.configs = [queue_config(size, queue + 1 << 24) for queue, size in enumerate(sizes)]
        if loose:  # aligned as far as the driver must, no further
            for config in self.configs:
                config["descriptor_area"] += 16 * random.randrange(16)
                config["driver_area"] += 2 * random.randrange(32)
                config["device_area"] += 4 * random.randrange(16)
        for queue, places in (areas or {}).items():
            self.configs[queue] |= places
        self.tables = [bytearray(random.randbytes(16 * size)) for size in sizes]
        self.rings = [bytearray(4) + random.randbytes(2 * size) for size in sizes]
        self.flags = [0 for _ in sizes]
        self.events = [0 for _ in sizes]
        self.written: list[tuple[int, int]] = []  # queue, flags or avail_event
        self.reads: list[tuple[int, str, int, int]] = []  # queue, area, place, count

    def device_read(self, address: int, length: int) -> bytes:
        """Return what the device finds in a descriptor table or an available ring."""
        for queue, config in enumerate(self.configs):
            table, offset = self.tables[queue], address - config["descriptor_area"]
            if 0 <= offset <= len(table) - length:
                assert offset % 16 == 0
                assert length % 16 == 0
                self.reads.append((queue, "table", offset // 16, length // 16))
                return bytes(table[offset : offset + length])
            ring, offset = self.rings[queue], address - config["driver_area"]
            if 0 <= offset <= len(ring) - length:
                break
        else:
            raise AssertionError(f"{length} bytes at {address:#x} are no part of a virtqueue")
        if offset == 2:
            assert length == 2
            self.reads.append((queue, "index", 0, 1))
        else:
            assert offset >= 4
            assert length % 2 == 0
            assert address >> 5 == (address + length - 1) >> 5
            self.reads.append((queue, "ring", (offset - 4) // 2, length // 2))
        return bytes(ring[offset : offset + length])

    def device_write(self, address: int, content: bytes) -> None:
        """Take `used.flags` or `avail_event`. [virtio 1.4 §2.7.8, §2.7.10]"""
        places = [
            config["device_area"] + (4 + 8 * config["size"] if self.event_idx else 0)
            for config in self.configs
        ]
        assert address in places, f"wrote to {address:#x}"
        queue = places.index(address)
        value = int.from_bytes(content, "little")
        assert len(content) == 2
        if self.event_idx:
            self.events[queue] = value
        else:
            assert value in (0, 1)
            self.flags[queue] = value
        self.written.append((queue, value))


class Driver:
    """Makes chains available; `order` says which descriptors it takes.

    "up", "down": free descriptors in this order; "pairs": chains go up, one lies below the other;
    "wild": any.
    """

    def __init__(self, rig: Rig, queue: int, size: int, order: str):
        self.rig, self.queue, self.size, self.order = rig, queue, size, order
        self.index = 0  # as in `avail.idx`
        self.planned = 0  # ring entries written
        self.free_list = list(range(size))
        if order == "down":
            self.free_list.reverse()
        elif order == "wild":
            random.shuffle(self.free_list)
        self.expected: deque[list[dict[str, int]]] = deque()
        self.held_back = 0  # notifications that the device did not want
        self.kicks = 0

    @property
    def free(self) -> int:
        """Descriptors that are not in use."""
        return len(self.free_list)

    def put(self, index: int, content: bytes) -> None:
        """Write a descriptor."""
        self.rig.guest.tables[self.queue][16 * index : 16 * index + 16] = content

    def put_entry(self, position: int, head: int) -> None:
        """Write an entry of the available ring."""
        place = 4 + 2 * (position % self.size)
        self.rig.guest.rings[self.queue][place : place + 2] = head.to_bytes(2, "little")

    def put_index(self, index: int) -> None:
        """Write `avail.idx`."""
        self.rig.guest.rings[self.queue][2:4] = (index & 0xFFFF).to_bytes(2, "little")

    def take(self, length: int) -> list[int]:
        """Take descriptors from the free list."""
        free = self.free_list
        if self.order == "wild":
            for place in range(length):
                other = random.randrange(place, len(free))
                free[place], free[other] = free[other], free[place]
        taken = free[:length]
        del free[:length]
        return sorted(taken) if self.order == "pairs" else taken

    def plan(self, length: int, taken: list[int] | None = None) -> list[tuple[int, bytes]]:
        """Reserve descriptors for a chain: (index, content) of each."""
        taken = taken or self.take(length)
        chain, steps = [], []
        for number, index in enumerate(taken):
            last = number == length - 1
            flags = random.choice([0, WRITE]) + (0 if last else NEXT)
            if last and random.random() < 0.2:
                flags |= INDIRECT
            descriptor = {
                "address": random.getrandbits(64),
                "length": random.getrandbits(32),
                "id": taken[0],
                "next": int(not last),
                "write": int(bool(flags & WRITE)),
                "indirect": int(bool(flags & INDIRECT)),
            }
            link = random.getrandbits(16) if last else taken[number + 1]
            content = split_descriptor(descriptor["address"], descriptor["length"], flags, link)
            chain.append(descriptor)
            steps.append((index, content))
        self.expected.append(chain)
        return steps

    def add_now(self, *lengths: int) -> None:
        """Make chains available at once."""
        for length in lengths:
            steps = self.plan(length)
            for index, content in steps:
                self.put(index, content)
            self.put_entry(self.planned, steps[0][0])
            self.planned += 1
        self.publish()

    async def add(self, *lengths: int) -> None:
        """Make chains available step by step: descriptors, entry, then the index; then notify."""
        for length in lengths:
            steps = self.plan(length)
            head = steps[0][0]
            random.shuffle(steps)
            for index, content in steps:
                self.put(index, content)
                await self.pause()
            self.put_entry(self.planned, head)
            self.planned += 1
            await self.pause()
        before = self.index
        self.publish()
        await self.pause()
        self.kick(before)

    def publish(self) -> None:
        """Make what is planned available."""
        self.index = self.planned
        self.put_index(self.index)

    async def pause(self) -> None:
        """Let some cycles pass, or none."""
        if random.random() < 0.2:
            await cycles(self.rig.dut, random.choice([1, 1, 2, 5, 30]))

    def kick(self, before: int | None = None) -> None:
        """Notify the device if it wants that of the buffers added since `before`."""
        guest = self.rig.guest
        if before is None:
            wanted = True
        elif guest.event_idx:
            event = guest.events[self.queue]
            wanted = (self.index - event - 1) & 0xFFFF < (self.index - before) & 0xFFFF
        else:
            wanted = guest.flags[self.queue] == 0
        if wanted:
            self.kicks += 1
            self.rig.ring(self.queue)
        else:
            self.held_back += 1

    async def use(self, chain: list[Any]) -> None:
        """Take the chain's descriptors back; what is in them is lost."""
        indices = []
        index = chain[0]["id"]
        for number in range(len(chain)):
            indices.append(index)
            if number < len(chain) - 1:
                table = self.rig.guest.tables[self.queue]
                index = int.from_bytes(table[16 * index + 14 : 16 * index + 16], "little")
        if self.rig.slow:
            await cycles(self.rig.dut, 5)
        for index in indices:
            self.put(index, random.randbytes(16))
        if self.order == "down":
            indices.reverse()
        if self.order == "pairs":
            self.free_list[:0] = indices
        else:
            self.free_list += indices


class Rig(FetchRig):
    """A split `Fetch` with everything around it."""

    def __init__(
        self, dut: Any, sizes: list[int], *, stall: float, event_idx: bool, order: str = "wild",
        held: bool = False, slow: bool = True, latency: tuple[int, int] = (3, 60),
        areas: Areas | None = None,
    ):  # fmt: skip
        self.features = {"packed": 0, "event_idx": int(event_idx), "in_order": 0}
        guest = Guest(sizes, loose=not held, event_idx=event_idx, areas=areas)
        drivers = [Driver(self, queue, size, order) for queue, size in enumerate(sizes)]
        super().__init__(
            dut, guest, drivers, stall=stall, held=held, slow=slow, latency=latency,
            ascending=False,
        )  # fmt: skip

    def wants_notifications(self, queue: int) -> bool:
        """The next buffer would make the driver notify."""
        if self.guest.event_idx:
            return self.guest.events[queue] == self.drivers[queue].index & 0xFFFF
        return self.guest.flags[queue] == 0


async def drive(driver: Driver, chains: int, most: int = 100) -> None:
    """Make random chains of up to `most` available as fast as there is room, in bursts."""
    dut = driver.rig.dut
    sent = 0
    while sent < chains:
        burst = random.choice([1, 1, 2, 10, 60])
        longest = min(driver.size, most, random.choice([1, 1, 2, 2, 3, 20, 100]))
        while burst and sent < chains:
            lengths = [random.randint(1, longest) for _ in range(random.choice([1, 1, 2, 5]))]
            lengths = lengths[: min(chains - sent, driver.size)]
            while sum(lengths) > driver.size:
                lengths.pop()
            if driver.free < sum(lengths):
                await cycles(dut, 5)
                continue
            await driver.add(*lengths)
            burst -= 1
            sent += len(lengths)
        await cycles(dut, random.choice([0, 10, 100, 300]))
