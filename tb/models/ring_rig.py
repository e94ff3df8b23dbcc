"""A driver queue and a golden device queue over one guest memory, for the tests here."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from virtio_model.device.chain import Chain
from virtio_model.device.packed_queue import DevicePackedQueue
from virtio_model.driver.framing import Layout, lay_out
from virtio_model.driver.packed_queue import PackedQueue
from virtio_model.memory import Allocator, GuestMemory


@dataclass
class Buffer:
    """A buffer on its way: what the device must read and what it wrote."""

    readable: Layout
    writable: Layout
    sent: bytes
    answer: bytes = b""


@dataclass
class Rig:
    """Both sides and the buffers between them, in order."""

    size: int
    event_idx: bool = False
    indirect: bool = True
    seed: int = 0
    max_chain: int | None = None
    memory: GuestMemory = field(init=False)
    flying: list[Buffer] = field(default_factory=list)
    taken: list[tuple[Buffer, Chain]] = field(default_factory=list)
    done: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.memory = GuestMemory(1 << 20, base=0x4000_0000)
        self.allocator = Allocator(self.memory)
        self.driver = PackedQueue(
            self.memory,
            self.allocator,
            self.size,
            indirect=self.indirect,
            event_idx=self.event_idx,
            max_chain=self.max_chain,
            shuffle_ids=self.random,
        )
        self.device = DevicePackedQueue(
            self.memory,
            self.size,
            self.driver.desc_addr,
            self.driver.driver_addr,
            self.driver.device_addr,
            indirect=self.indirect,
            event_idx=self.event_idx,
            max_chain=self.max_chain,
        )

    def layout(self, lengths: list[int]) -> Layout:
        return Layout(
            tuple(
                lay_out(self.allocator, length, align=8, skew=self.random.randrange(8)).segments[0]
                for length in lengths
            )
        )

    def add(self, readable: list[int], writable: list[int], indirect: bool = False) -> Buffer:
        """Post a buffer with segments of these lengths."""
        buffer = Buffer(
            self.layout(readable), self.layout(writable), self.random.randbytes(sum(readable))
        )
        buffer.readable.write(self.memory, buffer.sent)
        buffer.writable.write(self.memory, bytes([0xEE]) * sum(writable))
        self.driver.add(buffer.readable.segments, buffer.writable.segments, buffer, indirect)
        self.flying.append(buffer)
        return buffer

    def take(self) -> Chain | None:
        """The device takes a buffer and finds in it what the driver sent."""
        chain = self.device.next_buffer()
        if chain is None:
            assert len(self.taken) == len(self.flying) - self.done
            return None
        buffer = self.flying[self.done + len(self.taken)]
        assert chain.read_all(self.memory) == buffer.sent
        assert chain.writable == list(buffer.writable.segments)
        self.taken.append((buffer, chain))
        return chain

    def complete(self) -> bool:
        """The device answers the oldest buffer that it took, with a random amount of data."""
        if not self.taken:
            return False
        buffer, chain = self.taken.pop(0)
        self.done += 1
        capacity = chain.writable_length
        length = self.random.choice([0, capacity, self.random.randint(0, capacity)])
        buffer.answer = self.random.randbytes(length)
        assert chain.write_all(self.memory, buffer.answer) == length
        self.device.complete(chain, length)
        return True

    def poll(self) -> bool:
        """The driver takes a used buffer and finds in it what the device wrote."""
        used = self.driver.poll()
        if used is None:
            assert self.done == 0
            return False
        buffer = self.flying.pop(0)
        self.done -= 1
        assert used.cookie is buffer
        assert used.length == len(buffer.answer)
        untouched = buffer.writable.length - used.length
        assert buffer.writable.read(self.memory, buffer.writable.length) == (
            buffer.answer + bytes([0xEE]) * untouched
        )
        buffer.readable.free(self.allocator)
        buffer.writable.free(self.allocator)
        return True

    def drain(self) -> None:
        """Finish everything under way and check that nothing leaked."""
        while self.take():
            pass
        while self.complete():
            pass
        self.driver.audit()
        while self.poll():
            pass
        assert self.driver.free_slots == self.size
        assert not self.flying
        assert not self.memory.faults
        self.driver.audit()
        self.driver.close()
        assert self.allocator.outstanding == 0
