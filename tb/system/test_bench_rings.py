"""The benchmark's bulk drivers, against the golden net device."""

from __future__ import annotations

import random

import numpy as np
import pytest

from bench.bulk_ring import BulkRing
from bench.fast_chains import FastChains, draw_framings
from bench.fast_ring import FastRing
from bench.pattern import expected_frames
from bench.ring_layout import Ring
from virtio_model.device.make import GoldenQueue
from virtio_model.device.net import GoldenNet
from virtio_model.device.packed_queue import DevicePackedQueue
from virtio_model.device.split_queue import DeviceSplitQueue
from virtio_model.errors import DeviceBreach
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.spec.net import HEADER_SIZE

RINGS: tuple[Ring, ...] = ("packed", "split")


def golden(memory: GuestMemory, bulk: BulkRing, ring: Ring) -> GoldenQueue:
    """The golden device's side of a bulk ring."""
    kind = DevicePackedQueue if ring == "packed" else DeviceSplitQueue
    return kind(memory, bulk.size, bulk.desc_addr, bulk.driver_addr, bulk.device_addr)


class Rig:
    """Two bulk rings with the golden net device behind them."""

    def __init__(self, size: int = 64, frame_bytes: int = 60, ring: Ring = "packed") -> None:
        self.memory = GuestMemory(1 << 20, 1 << 32)
        allocator = Allocator(self.memory)
        draw = np.random.default_rng(3)
        self.rx, self.tx = (
            FastRing(
                self.memory, allocator, size, frame_bytes, receive=receive, draw=draw, ring=ring
            )
            for receive in (True, False)
        )
        rx, tx = (golden(self.memory, bulk, ring) for bulk in (self.rx, self.tx))
        self.device = GoldenNet(self.memory, rx, tx)

    def receive(self, first: int, count: int) -> None:
        """Let the device receive numbered frames."""
        for row in expected_frames(first, count, self.rx.frame_bytes):
            assert self.device.receive(row.tobytes())


@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize("frame_bytes", [14, 60, 1500])
def test_bulk_rings_over_many_laps(frame_bytes, ring):
    """Batches of any size, three laps and more: frames right, used buffers all found."""
    rig = Rig(frame_bytes=frame_bytes, ring=ring)
    draw = random.Random(frame_bytes)
    sent: list[bytes] = []
    received = 0
    while rig.rx.taken < 250 or rig.tx.taken < 250:
        rig.tx.add(draw.randint(0, rig.tx.free))
        rig.rx.add(draw.randint(0, rig.rx.free))
        sent += rig.device.process_tx(draw.randint(0, 40))
        before = rig.tx.taken
        assert rig.tx.poll() == len(sent) - before
        count = draw.randint(0, rig.rx.size - rig.rx.free)
        rig.receive(received, count)
        received += count
        assert rig.rx.poll() == count
        assert rig.rx.taken == received
        assert rig.tx.taken == len(sent)
    for row, frame in zip(expected_frames(0, len(sent), frame_bytes), sent, strict=True):
        assert row.tobytes() == frame


@pytest.mark.parametrize("ring", RINGS)
def test_kicks_follow_the_device(ring):
    """A device that publishes DISABLE, or NO_NOTIFY, is not kicked."""
    rig = Rig(ring=ring)
    assert rig.tx.needs_kick()
    rig.device.tx.enable_notifications(False)
    assert not rig.tx.needs_kick()
    rig.device.tx.enable_notifications(True)
    assert rig.tx.needs_kick()
    assert not rig.device.tx.should_interrupt()


@pytest.mark.parametrize(
    ("offset", "complaint"), [(8, "len"), (12, "id"), (14, "flags"), (None, "frame"), (0, "header")]
)
def test_bulk_rings_find_mistakes(offset, complaint):
    """Each field of a used descriptor, the header and the frame are looked at."""
    rig = Rig()
    rig.rx.add(40)
    rig.receive(0, 20)
    slot = 13
    at = rig.rx.desc_addr + 16 * slot + (offset or 0)
    if complaint == "frame":
        at = rig.rx.pool + slot * rig.rx.stride + 12 + 59
    elif complaint == "header":
        at = rig.rx.pool + slot * rig.rx.stride + 11
    rig.memory.write(at, bytes([rig.memory.read(at, 1)[0] ^ 1]))
    with pytest.raises(DeviceBreach, match=f"^{complaint} of a used buffer.*buffer=0xd"):
        rig.rx.poll()


@pytest.mark.parametrize(("offset", "complaint"), [(4, "len"), (0, "id")])
def test_bulk_split_rings_find_mistakes(offset, complaint):
    """Both words of a used element are looked at."""
    rig = Rig(ring="split")
    rig.rx.add(40)
    rig.receive(0, 20)
    at = rig.rx.device_addr + 4 + 8 * 13 + offset
    rig.memory.write(at, bytes([rig.memory.read(at, 1)[0] ^ 1]))
    with pytest.raises(DeviceBreach, match=f"^{complaint} of a used buffer.*buffer=0xd"):
        rig.rx.poll()


# Random framing

LENGTHS = (60, 9000, 61, 1514, 777, 64, 300, 3000)


class ChainRig:
    """Two rings of random chains with the golden net device behind them."""

    def __init__(self, seed: int, ring: Ring = "packed") -> None:
        size = 48 if ring == "packed" else 64
        self.memory = GuestMemory(1 << 21, 1 << 32)
        allocator = Allocator(self.memory)
        draw = random.Random(seed)
        self.rings: dict[bool, FastChains] = {}
        for receive in (True, False):
            framings = draw_framings(draw, LENGTHS, receive=receive)
            while sum(len(framing.pieces) for framing in framings) < size:
                framings = draw_framings(draw, LENGTHS, receive=receive)
            self.rings[receive] = FastChains(
                self.memory, allocator, size, framings, receive=receive, draw=draw, ring=ring
            )
        self.rx, self.tx = self.rings[True], self.rings[False]
        rx, tx = (golden(self.memory, bulk, ring) for bulk in (self.rx, self.tx))
        self.device = GoldenNet(self.memory, rx, tx)

    def frame(self, number: int) -> bytes:
        """Return what frame `number` must be."""
        return expected_frames(number, 1, LENGTHS[number % len(LENGTHS)]).tobytes()


def test_framings():
    """1 to 16 pieces, none empty, cut anywhere; receive buffers may be longer than the packet."""
    draw = random.Random(1)
    for receive in (False, True):
        framings = draw_framings(draw, [60] * 2000, receive=receive)
        counts = {len(framing.pieces) for framing in framings}
        assert counts == set(range(1, 17))
        assert all(min(framing.pieces) > 0 for framing in framings)
        totals = {sum(framing.pieces) for framing in framings}
        assert totals == (set(range(72, 72 + 64)) if receive else {72})
        assert {framing.pieces[0] for framing in framings} >= set(range(1, 2 * HEADER_SIZE))


@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize("seed", range(4))
def test_chains_over_many_laps(seed, ring):
    """Any batches, many laps: frames right both ways, used buffers all found."""
    rig = ChainRig(seed, ring)
    draw = random.Random(seed)
    sent: list[bytes] = []
    received = 0
    while rig.rx.taken < 60 or rig.tx.taken < 60:
        for ring in (rig.rx, rig.tx):
            count = draw.randint(0, 4)
            if ring.can_add(count):
                ring.add(count)
        sent += rig.device.process_tx(draw.randint(0, 4))
        before = rig.tx.taken
        assert rig.tx.poll() == len(sent) - before
        count = draw.randint(0, rig.rx.available - rig.rx.taken)
        for number in range(received, received + count):
            assert rig.device.receive(rig.frame(number))
        received += count
        assert rig.rx.poll() == count
    assert sent == [rig.frame(number) for number in range(len(sent))]


@pytest.mark.parametrize(
    ("offset", "complaint"), [(8, "len"), (12, "id"), (14, "flags"), (None, "frame")]
)
def test_chains_find_mistakes(offset, complaint):
    """Each field of a used descriptor, and the frame in its pieces, are looked at."""
    rig = ChainRig(7)
    rig.rx.add(3)
    for number in range(3):
        assert rig.device.receive(rig.frame(number))
    wrong = 1
    at = rig.rx.desc_addr + 16 * rig.rx.slots_before(wrong) + (offset or 0)
    if complaint == "frame":
        at, _ = rig.rx.area(wrong)[0]
    rig.memory.write(at, bytes([rig.memory.read(at, 1)[0] ^ 1]))
    with pytest.raises(DeviceBreach, match=f"^{complaint} of a used buffer.*buffer=0x1"):
        rig.rx.poll()


@pytest.mark.parametrize("size", [64, 256, 1024])
def test_a_batch_of_chains_always_fits(size):
    """However the pieces fall, an empty ring takes the driver's batch."""
    memory = GuestMemory(1 << 21, 1 << 32)
    draw = random.Random(size)
    framings = draw_framings(draw, [100] * 1200, receive=False)
    framings = [framing for framing in framings if len(framing.pieces) == 16] * 2
    ring = FastChains(memory, Allocator(memory), size, framings, receive=False, draw=draw)
    assert ring.can_add(ring.batch)
    assert 1 <= ring.batch <= 32


def test_ring_of_chains_must_not_hold_a_framing_twice():
    """A ring with room for all framings at once is refused."""
    memory = GuestMemory(1 << 16, 1 << 32)
    draw = random.Random(1)
    framings = draw_framings(draw, [60], receive=True)
    with pytest.raises(ValueError, match="ring of 64"):
        FastChains(memory, Allocator(memory), 64, framings, receive=True, draw=draw)
