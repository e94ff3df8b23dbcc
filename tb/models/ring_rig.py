"""A driver queue and a golden device queue over one guest memory, for the tests here."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from virtio_model.device.chain import Chain
from virtio_model.device.make import make_device_queue
from virtio_model.driver.framing import Layout, lay_out
from virtio_model.driver.free_list import FreePolicy
from virtio_model.driver.make import make_queue
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.spec.features import Feature, mask


@dataclass
class Buffer:
    """A buffer on its way: what the device must read and what it wrote."""

    readable: Layout
    writable: Layout
    sent: bytes
    answer: bytes = b""


@dataclass
class Rig:
    """Both sides and the buffers between them, in order.

    `any_order`: the device completes in any order. `drawn`: the driver draws at random whatever
    it is free to choose.
    """

    size: int
    packed: bool = True
    event_idx: bool = False
    indirect: bool = True
    in_order: bool = False
    seed: int = 0
    max_chain: int | None = None
    policy: FreePolicy | None = None
    any_order: bool = False
    drawn: bool = True
    memory: GuestMemory = field(init=False)
    flying: list[Buffer] = field(default_factory=list)
    taken: list[tuple[Buffer, Chain]] = field(default_factory=list)
    done: list[Buffer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.memory = GuestMemory(1 << 20, base=0x4000_0000)
        self.allocator = Allocator(self.memory)
        wanted = {
            Feature.RING_PACKED: self.packed,
            Feature.INDIRECT_DESC: self.indirect,
            Feature.EVENT_IDX: self.event_idx,
            Feature.IN_ORDER: self.in_order,
        }
        self.features = mask(feature for feature, yes in wanted.items() if yes)
        self.driver = make_queue(
            self.memory,
            self.allocator,
            self.size,
            self.features,
            policy=self.policy,
            mixed=True,
            max_chain=self.max_chain,
            shuffle_ids=self.random if self.drawn else None,
        )
        self.new_device()

    def new_device(self) -> None:
        """A device that has just been reset."""
        self.device = make_device_queue(
            self.memory, self.driver, self.features, max_chain=self.max_chain
        )
        for buffers in (self.flying, self.taken, self.done):
            buffers.clear()

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
            assert not self.flying
            return None
        buffer = self.flying.pop(0)
        assert chain.read_all(self.memory) == buffer.sent
        assert chain.writable == list(buffer.writable.segments)
        self.taken.append((buffer, chain))
        return chain

    def complete(self) -> bool:
        """The device answers a buffer that it took, with a random amount of data.

        With IN_ORDER it may answer several by one used entry, all but the last completely.
        """
        if not self.taken:
            return False
        count = self.random.randint(1, len(self.taken)) if self.in_order else 1
        first = self.random.randrange(len(self.taken)) if self.any_order else 0
        batch = self.taken[first : first + count]
        del self.taken[first : first + count]
        length = 0
        for buffer, chain in batch:
            length = capacity = chain.writable_length
            if chain is batch[-1][1]:
                length = self.random.choice([0, capacity, self.random.randint(0, capacity)])
            buffer.answer = self.random.randbytes(length)
            assert chain.write_all(self.memory, buffer.answer) == length
            self.done.append(buffer)
        self.device.complete_batch([chain for _, chain in batch], length)
        return True

    def poll(self) -> bool:
        """The driver takes a used buffer and finds in it what the device wrote."""
        used = self.driver.poll()
        if used is None:
            assert not self.done
            return False
        buffer = self.done.pop(0)
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
        assert not self.taken
        assert not self.done
        assert not self.memory.faults
        self.driver.audit()
        self.driver.close()
        assert self.allocator.outstanding == 0
