"""The golden comparison of a block device: a right one passes, each kind of mistake is named."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from lib.golden import Check, DiskDriver, DiskTwin, Journal, QueueMaker, compare_disk, stray_byte
from lib.ring_features import ring_features
from virtio_model.blk_request import BlkLimits, RequestHeader
from virtio_model.device.blk import GoldenBlk
from virtio_model.device.make import make_device_queue
from virtio_model.driver.blk import BlkDriver
from virtio_model.driver.framing import Framing
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.spec.blk import SECTOR_SIZE, BlkFeature, RequestType
from virtio_model.spec.features import mask

FORMATS = ("split", "packed")
FEATURES = ((), ("indirect_desc",), ("in_order",), ("indirect_desc", "event_idx", "in_order"))
SIZES = (8, 16)
LIMITS = BlkLimits(16)
SERIAL = b"twin"


class Disk:
    """A driver, and a golden device in the place of the RTL."""

    def __init__(self, ring: str, features: tuple[str, ...]) -> None:
        self.draw = random.Random(ring + "".join(features))
        self.indirect = "indirect_desc" in features
        self.accepted = ring_features(ring, features) | mask([BlkFeature.FLUSH])
        self.memory = GuestMemory(1 << 17, 1 << 32)
        allocator = Allocator(self.memory)
        maker = QueueMaker(self.memory, allocator, self.accepted, "random", 5)
        self.queues = [maker.make(size) for size in SIZES]
        self.twin = DiskTwin(
            self.memory, SIZES, self.accepted, "random", 5, limits=LIMITS, serial=SERIAL
        )
        self.journal = Journal()
        blk = BlkDriver(self.memory, allocator, self.queues, self.accepted, limits=LIMITS)
        self.driver = DiskDriver(blk, self.journal)
        self.sides = [make_device_queue(self.memory, queue, self.accepted) for queue in self.queues]
        self.golden = GoldenBlk(
            self.memory,
            self.sides,
            bytearray(LIMITS.capacity * SECTOR_SIZE),
            self.accepted,
            limits=LIMITS,
            serial=SERIAL,
            strict=False,
        )

    def send(self, index: int) -> None:
        """A random request for a virtqueue's half of the disk."""
        draw = self.draw
        kind = draw.choice([RequestType.IN, RequestType.OUT, RequestType.OUT, 8, 4, 77])
        header = RequestHeader(kind, 8 * index + draw.randrange(8)).encode()
        data = draw.randbytes(SECTOR_SIZE) if kind == RequestType.OUT else b""
        room = 1 + (SECTOR_SIZE if kind == RequestType.IN else draw.choice([0, 20]))
        cut = (draw.randint(1, 30),)
        self.driver.send(index, header + data, room, Framing(cut, cut, self.indirect, 3))

    def step(self) -> None:
        """Some requests, some answers."""
        for index, queue in enumerate(self.queues):
            while queue.free_slots >= 4 and self.draw.random() < 0.8:
                self.send(index)
            self.golden.process(index, self.draw.randint(0, 3))
        for index in range(2):
            self.driver.poll(index)

    def reset_queue(self, index: int) -> None:
        """In mid-traffic: a request more is done in part, then what is on the disk is read."""
        if (chain := self.sides[index].next_buffer()) is not None:
            data = self.golden.answer(chain.read_all(self.memory), chain.writable_length)
            chain.write_all(self.memory, data[: len(data) // 2])
        self.driver.poll(index)
        self.driver.take_back(index)
        self.sides[index] = make_device_queue(self.memory, self.queues[index], self.accepted)
        for sector in range(8 * index, 8 * index + 8):
            header = RequestHeader(RequestType.IN, sector).encode()
            self.driver.send(index, header, SECTOR_SIZE + 1, Framing())
            self.golden.process(index)
            assert self.driver.read_back(index, sector)

    def finish(self) -> list[Check]:
        """Answer the rest; the checks that fail."""
        for index in range(2):
            self.golden.process(index)
            self.driver.poll(index)
        self.driver.close()
        self.twin.replay(self.journal, self.driver)
        checks = compare_disk(self.memory, self.driver, self.twin)
        return [check for check in checks if not check.passed]


def run(ring: str, features: tuple[str, ...], spoil: Callable[[Disk], None] | None) -> list[Check]:
    """Random requests with resets in between; `spoil` comes in the middle."""
    disk = Disk(ring, features)
    for step in range(30):
        disk.step()
        if step == 15 and spoil:
            spoil(disk)
        if step in (10, 20, 21):
            disk.reset_queue(step % 2)
    return disk.finish()


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("ring", FORMATS)
def test_right_disk_passes(ring, features):
    """Whatever a reset has cut off."""
    assert run(ring, features, None) == []


def another_byte(disk: Disk) -> None:
    """A sector is not what was written."""
    disk.golden.image[8 * SECTOR_SIZE :] = disk.draw.randbytes(8 * SECTOR_SIZE)


def write_lost(disk: Disk) -> None:
    """Writes are answered and not done."""
    disk.golden.limits = BlkLimits(16, read_only=True)


def stray_write(disk: Disk) -> None:
    """A byte of memory that nobody asked for."""
    disk.memory.write(disk.memory.end - 1, b"x")


def changed_before_a_reset(disk: Disk) -> None:
    """What is found after a reset was never written."""
    disk.golden.image[0] ^= 1
    disk.reset_queue(0)


MISTAKES = {
    another_byte: "answers",
    write_lost: "answers",
    stray_write: "guest memory",
    changed_before_a_reset: "disk after a reset",
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
@pytest.mark.parametrize("ring", FORMATS)
def test_mistakes_of_a_disk_are_named(ring, mistake):
    """By their check."""
    failed = run(ring, ("indirect_desc",), mistake)
    assert any(MISTAKES[mistake] in check.name for check in failed), failed


def test_bytes_that_nobody_wrote():
    """A sector may be of any age, or mixed of several; byte by byte, none is new."""
    old, new = bytes(1024), b"\1" * 1024
    for found in (old, new, old[:512] + new[512:], old[:700] + new[700:], new[:3] + old[3:]):
        assert stray_byte(found, [old, new]) is None
    assert stray_byte(old[:600] + b"\2" + new[601:], [old, new]) == 600
    assert stray_byte(new, [old]) == 0
