"""The demo's comparison: a golden device plays the RTL, then mistakes are made on purpose."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from lib.golden import RX, TX, Check, Journal, PairDriver, QueueMaker, Twin, compare
from lib.golden.used import UsedEntry
from virtio_model.device.make import make_device_queue
from virtio_model.device.net import GoldenNet
from virtio_model.driver.net import NetDriver
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.spec.features import Feature, mask

SIZE = 1 << 18
NOTE = " (and a note)"
BASE = 1 << 32
SPLIT = mask([Feature.VERSION_1, Feature.INDIRECT_DESC])
PACKED = SPLIT | mask([Feature.RING_PACKED])


class Played:
    """A run whose device is a second golden model, and what it left for the comparison."""

    def __init__(self, seed: int, frames: int = 40, ring: int = 16, features: int = PACKED) -> None:
        draw = random.Random(seed)
        self.frames = [draw.randbytes(draw.randint(14, 700)) for _ in range(frames)]
        self.memory = memory = GuestMemory(SIZE, BASE)
        allocator = Allocator(memory)
        maker = QueueMaker(memory, allocator, features, None, seed)
        self.queues = rx, tx = [maker.make(ring) for _ in (RX, TX)]
        self.journal = Journal()
        self.driver = driver = PairDriver(
            0, NetDriver(memory, allocator, rx, tx, features), self.journal
        )
        self.twin = Twin(memory, [ring, ring], features, None, seed)
        device = GoldenNet(
            memory, *(make_device_queue(memory, queue, features) for queue in (rx, tx))
        )
        self.port: list[bytes] = []
        sent = received = 0
        waiting: list[bytes] = []
        while received < frames:
            while rx.free_slots:
                driver.post(1024)
            while sent < frames and tx.free_slots and draw.random() < 0.8:
                driver.send(self.frames[sent])
                sent += 1
            # Like the RTL: what is received may be ahead of what is reaped.
            out = device.process_tx(draw.randint(0, 9))
            self.port += out
            waiting += out
            for _ in range(draw.randint(0, 9)):
                if waiting and device.receive(waiting[0]):
                    waiting.pop(0)
            if draw.random() < 0.5:
                driver.reap()
            received += driver.receive()
        driver.reap()

    def checks(self) -> dict[str, Check]:
        """Replay and compare."""
        self.twin.replay(self.journal, [self.frames], [self.driver])
        checks = compare(
            self.memory, [self.driver], self.twin, [self.port], frames=[self.frames], note=NOTE
        )
        return {check.name: check for check in checks}

    def failing(self) -> set[str]:
        """Return the names of the checks that fail."""
        return {name for name, check in self.checks().items() if not check.passed}


def spoil(entries: list[UsedEntry], at: int, name: str) -> None:
    """One bit of a used entry is wrong."""
    entries[at] = entries[at]._replace(**{name: getattr(entries[at], name) ^ 1})


def swap(entries: list[UsedEntry], at: int) -> None:
    """Two used entries were written in the wrong order."""
    entries[at], entries[at + 1] = entries[at + 1], entries[at]


@pytest.mark.parametrize("features", [PACKED, SPLIT, SPLIT | mask([Feature.EVENT_IDX])])
@pytest.mark.parametrize("seed", range(8))
def test_a_good_run_is_the_same(seed, features):
    """A device that does all right passes, whatever the timing and the ring format."""
    checks = Played(seed, features=features).checks()
    assert all(check.passed for check in checks.values()), checks
    assert checks["frames received"].detail == f"40 frames{NOTE}"
    entry = "descriptors" if features == PACKED else "elements"
    assert checks[f"used {entry}, receive"].detail == f"40 {entry}"


def test_a_changed_frame_at_the_port_is_found():
    """One byte is enough."""
    run = Played(1)
    run.port[7] = run.port[7][:-1] + b"?"
    assert run.failing() == {"frames at the port"}


def test_a_lost_frame_is_found():
    """Frames and headers are counted."""
    run = Played(2)
    run.driver.received.pop(5)
    assert run.failing() == {"frames received", "packet headers"}


def test_a_wrong_header_is_found():
    """Headers are compared in all fields."""
    run = Played(3)
    got = run.driver.received[4]
    run.driver.received[4] = replace(got, header=replace(got.header, hdr_len=14))
    assert run.failing() == {"packet headers"}


def test_a_wrong_used_descriptor_is_found():
    """Used descriptors are compared bit for bit."""
    for name in ("address", "length", "id", "flags", "place"):
        run = Played(4)
        spoil(run.driver.used[TX].entries, 11, name)
        assert run.failing() == {"used descriptors, transmit"}


def test_used_descriptors_out_of_order_are_found():
    """So is their order."""
    run = Played(5)
    swap(run.driver.used[RX].entries, 3)
    assert run.failing() == {"used descriptors, receive"}


def test_a_wrong_used_element_is_found():
    """The same for split rings: elements, their order, and idx behind them."""
    run = Played(4, features=SPLIT)
    spoil(run.driver.used[TX].entries, 11, "length")
    swap(run.driver.used[RX].entries, 3)
    assert run.failing() == {"used elements, transmit", "used elements, receive"}
    run = Played(4, features=SPLIT)
    run.memory.write_u16(run.queues[RX].device_addr + 2, 41)
    assert run.failing() == {"guest memory"}


def test_event_suppression_is_not_compared():
    """When notifications are wanted is a matter of timing; all else in the rings is not."""
    for features, places in ((PACKED, (0, 1, 2, 3)), (SPLIT, (0, 1, 4 + 2 * 16, 5 + 2 * 16))):
        run = Played(5, features=features)
        for place in places:
            run.memory.write(run.queues[TX].driver_addr + place, b"\x77")
        for place in (0, 1, 2, 3) if features == PACKED else (0, 1, 4 + 8 * 16):
            run.memory.write(run.queues[TX].device_addr + place, b"\x77")
        assert run.failing() == set()


def test_a_stray_write_is_found():
    """A byte anywhere in guest memory that the golden model would not write."""
    run = Played(6)
    memory = run.memory
    memory.write(memory.end - 100, b"\1")
    checks = run.checks()
    assert not checks["guest memory"].passed
    assert f"{memory.end - 100:#x}" in checks["guest memory"].detail
