"""Plans of hostile runs, and the judge of the device's writes, without a device."""

from __future__ import annotations

import random
import struct
from types import SimpleNamespace
from typing import Any

import pytest

from lib.hostile import draw_plan
from lib.hostile.actions import BusFault, Flip, Incoming, Kick, Register, Write
from lib.hostile.arena import ARENA, ARENA_BYTES, BUFFERS, MEMORY_BASE, MEMORY_BYTES, NEIGHBOUR
from lib.hostile.oracle import WriteOracle
from lib.hostile.scenes import HOSTILE_SECTORS
from virtio_model.blk_request import RequestHeader
from virtio_model.memory import GuestMemory

SEEDS = range(600)
DEVICES = pytest.mark.parametrize("device", ["net", "blk"])
NOTES = {
    "clean", "odd buffers", "huge", "empty", "writable first", "wrong direction", "reserved flags",
    "longer than the ring", "table", "table in table", "table with a jump", "table, odd length",
    "rewritten", "noise", "wishes", "loop", "next out of range", "head out of range", "same head",
    "index jump", "random descriptors", "endless", "no end", "behind a hole", "hole filled",
    "wrong wrap", "all slots", "taken back",
}  # fmt: skip


@DEVICES
@pytest.mark.parametrize("seed", [0, 1, 77, 123456789])
def test_a_plan_is_drawn_again(seed: int, device: str) -> None:
    """The same seed, the same actions, whatever else was drawn; another seed, other actions."""
    plan = draw_plan(seed, device=device)
    random.seed(5)
    assert draw_plan(seed, device=device) == plan
    assert draw_plan(seed + 1, device=device).actions != plan.actions
    assert all(repr(action) in plan.show() for action in plan.opening + plan.actions)


@DEVICES
def test_every_kind_of_hostility_occurs(device: str) -> None:
    """In some hundred runs, both formats, with every feature and without it."""
    plans = [draw_plan(seed, device=device) for seed in SEEDS]
    actions = [action for plan in plans for action in plan.actions]
    assert {a.note for a in actions if isinstance(a, Write)} >= NOTES
    kinds = {"Wait", "Write", "Flip", "Kick", "Register", "Config", "FunctionReset", "BusFault"}
    if device == "net":
        kinds.add("Incoming")
    assert {type(action).__name__ for action in actions} == kinds
    assert any(a.queue > 3 for a in actions if isinstance(a, Kick)), "for virtqueues not there"
    for ring in ("split", "packed"):
        some = [plan for plan in plans if plan.ring == ring]
        assert 0.2 < sum(plan.intruder for plan in some) / len(some) < 0.4
        for name in ("indirect_desc", "event_idx", "in_order", "ring_reset", "notification_data"):
            assert {name in plan.features for plan in some} == {True, False}
    enables = {a.first for a in actions if isinstance(a, Register)}
    assert enables == set(range(16))


@DEVICES
def test_hostilities_stay_in_the_arena(device: str) -> None:
    """Only hostile memory is written, only hostile reads fail; without an intruder, no register."""
    for seed in SEEDS:
        plan = draw_plan(seed, device=device)
        for action in plan.opening + plan.actions:
            if isinstance(action, Write | Flip):
                assert action.address >= ARENA
                assert action.address + len(action.data) <= ARENA + ARENA_BYTES
            elif isinstance(action, BusFault):
                assert ARENA <= action.start < action.end <= NEIGHBOUR
            elif not plan.intruder:
                assert not isinstance(action, Register)
        if device == "net":
            assert any(isinstance(action, Incoming) for action in plan.opening)


def test_hostile_requests_name_hostile_sectors() -> None:
    """Of the disk, no more than the first half is asked for."""
    for seed in SEEDS:
        plan = draw_plan(seed, device="blk")
        requests = [
            action
            for action in plan.opening + plan.actions
            if isinstance(action, Write) and action.note in ("request", "headers")
        ]
        assert requests
        for request in requests:
            whole = len(request.data) if request.note == "headers" else 16
            for at in range(0, whole, 16):
                assert RequestHeader.decode(request.data[at : at + 16]).sector < HOSTILE_SECTORS


class Judge:
    """A `WriteOracle` on memory without a device."""

    def __init__(self, ring: str) -> None:
        self.plan = draw_plan(11, ring=ring, intruder=False)
        self.memory = GuestMemory(MEMORY_BYTES, MEMORY_BASE, raise_faults=False)
        self.memory.grant(ARENA, ARENA_BYTES, writable=True)
        target: Any = SimpleNamespace(unclaimed=[])
        self.oracle = WriteOracle(self.memory, target)

    def descriptor(self, address: int, length: int, *, at: int, writable: bool = True) -> None:
        """Stands in memory, and is read by the device."""
        flags = (0, 2 * writable) if self.plan.ring == "packed" else (2 * writable, 0)
        self.memory.write(at, struct.pack("<QIHH", address, length, *flags))
        self.memory.device_read(at, 16)

    def wrong(self) -> list[str]:
        return self.oracle.judge(self.plan, [])


@pytest.mark.parametrize("ring", ["split", "packed"])
def test_writes_that_were_given(ring: str) -> None:
    """Within one descriptor, over two that are neighbours, in the rings, for an unaligned table."""
    judge = Judge(ring)
    judge.descriptor(BUFFERS, 100, at=ARENA)
    judge.descriptor(BUFFERS + 100, 100, at=ARENA + 16)
    judge.descriptor(BUFFERS + 1000, 64, at=ARENA + 0x4003)
    judge.memory.device_read(ARENA + 0x4000, 16)
    judge.memory.device_read(ARENA + 0x4010, 16)
    judge.descriptor(1 << 60, 4, at=ARENA + 32)
    judge.memory.device_write(BUFFERS, bytes(10))
    judge.memory.device_write(BUFFERS + 50, bytes(150))
    judge.memory.device_write(BUFFERS + 1000, bytes(64))
    judge.memory.device_write(1 << 60, bytes(4))
    for place in judge.plan.places:
        for start, end in place.written:
            judge.memory.device_write(start, bytes(end - start))
    assert judge.wrong() == []


@pytest.mark.parametrize("ring", ["split", "packed"])
def test_writes_that_nobody_gave(ring: str) -> None:
    """One byte too far, a readable buffer, a driver's area, a descriptor that was never read."""
    judge = Judge(ring)
    judge.descriptor(BUFFERS, 100, at=ARENA)
    judge.descriptor(BUFFERS + 200, 100, at=ARENA + 16, writable=False)
    judge.memory.write(ARENA + 32, struct.pack("<QIHH", BUFFERS + 400, 100, 2, 2))
    wrong = [
        (BUFFERS, 101), (BUFFERS - 1, 2), (BUFFERS + 200, 4), (BUFFERS + 400, 4),
        (judge.plan.places[0].driver, 2), (NEIGHBOUR - 64, 4), (MEMORY_BASE, 4),
    ]  # fmt: skip
    for at, length in wrong:
        judge.memory.device_write(at, bytes(length))
    found = judge.wrong()
    assert len(found) == len(wrong)
    assert all(any(f"{at:#x}" in text for text in found) for at, _ in wrong)
    judge.oracle.begin()
    assert judge.wrong() == []
