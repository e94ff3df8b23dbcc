"""The golden comparison: a right device passes, each kind of mistake is named."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from lib.golden import Check, Journal, PairDriver, QueueMaker, Twin, compare
from lib.net_features import wanted_features
from virtio_model.device.chain import Chain
from virtio_model.device.make import make_device_queue
from virtio_model.device.net import GoldenNet
from virtio_model.driver.net import NetDriver
from virtio_model.memory import Allocator, GuestMemory

FORMATS = ("split", "packed")
FEATURES = ((), ("indirect_desc",), ("in_order",), ("indirect_desc", "event_idx", "in_order"))
SIZES = (8, 16)


@dataclass
class Device:
    """A device in the place of the RTL; the mistakes are made on its way to memory."""

    memory: GuestMemory
    net: GoldenNet
    driver: PairDriver
    port: list[bytes]


def run(
    ring: str,
    features: tuple[str, ...],
    spoil: Callable[[Device, int], None] | None = None,
    change: Callable[[bytes], bytes] | None = None,
) -> list[Check]:
    """Random traffic through a golden device; the checks that failed.

    spoil: called after each step. change: changes the first write that it does not leave alone,
    after 50 writes.
    """
    draw = random.Random(ring + "".join(features))
    accepted = wanted_features(ring, features)
    memory = GuestMemory(1 << 18, 1 << 32)
    allocator = Allocator(memory)
    maker = QueueMaker(memory, allocator, accepted, "random", 5)
    rx, tx = (maker.make(size) for size in SIZES)
    twin = Twin(memory, SIZES, accepted, "random", 5)
    journal = Journal()
    driver = PairDriver(0, NetDriver(memory, allocator, rx, tx, accepted), journal)
    golden = GoldenNet(
        memory,
        make_device_queue(memory, rx, accepted),
        make_device_queue(memory, tx, accepted),
        accepted,
    )
    device = Device(memory, golden, driver, [])
    if change:
        change_once(memory, change)
    arrivals: list[bytes] = []
    indirect = "indirect_desc" in features
    for step in range(40):
        while tx.free_slots >= 2:
            frame = draw.randbytes(draw.randint(20, 90))
            driver.send(frame, (draw.randint(1, 30),), indirect, 3)
        while rx.free_slots >= 2:
            driver.post(draw.choice([60, 120]), (20,), indirect, 5)
        if "in_order" in features:
            device.port += together(golden, draw.randint(1, 4))
        else:
            device.port += golden.process_tx(draw.randint(1, 4))
        frame = draw.randbytes(draw.randint(20, 90))
        arrivals.append(frame)
        golden.receive(frame)
        if spoil:
            spoil(device, step)
        driver.reap()
        driver.receive()
    driver.close()
    twin.replay(journal, [arrivals], [driver])
    checks = compare(memory, [driver], twin, [device.port])
    return [check for check in checks if not check.passed]


def change_once(memory: GuestMemory, change: Callable[[bytes], bytes]) -> None:
    """Change one write of the device."""
    write, left = memory.device_write, [50]

    def changed(address: int, data: bytes) -> None:
        left[0] -= 1
        if left[0] < 0 and (other := change(data)) != data:
            data, left[0] = other, 1 << 30
        write(address, data)

    setattr(memory, "device_write", changed)  # noqa: B010


def together(device: GoldenNet, count: int) -> list[bytes]:
    """Transmit, and use all buffers by one entry, as IN_ORDER allows."""
    chains: list[Chain] = []
    while len(chains) < count and (chain := device.tx.next_buffer()):
        chains.append(chain)
    frames = [chain.read_all(device.memory)[12:] for chain in chains]
    if chains:
        device.tx.complete_batch(chains)
    return frames


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("ring", FORMATS)
def test_right_device_passes(ring, features):
    """However it joins used buffers."""
    assert run(ring, features) == []


def frame_at_the_port(device: Device, step: int) -> None:
    """One bit of a frame that leaves."""
    if step == 20:
        device.port[-1] = device.port[-1][:-1] + bytes([device.port[-1][-1] ^ 1])


def frame_lost(device: Device, step: int) -> None:
    """A frame is not sent."""
    if step == 20:
        device.port.pop()


def frames_swapped(device: Device, step: int) -> None:
    """Two frames overtake each other."""
    if step == 20:
        device.port[-2:] = device.port[:-3:-1]


def stray_write(device: Device, step: int) -> None:
    """A byte of memory that nobody asked for."""
    if step == 20:
        device.memory.write(device.memory.end - 1, b"x")


def beyond_the_frame(device: Device, step: int) -> None:
    """A byte of a receive buffer behind its frame."""
    if step == 39:
        at = device.memory.read(device.memory.base, device.memory.size).rindex(b"\xa5")
        device.memory.write(device.memory.base + at, b"\xa6")


MISTAKES = {
    frame_at_the_port: "frames at the port",
    frame_lost: "frames at the port",
    frames_swapped: "frames at the port",
    stray_write: "guest memory",
    beyond_the_frame: "guest memory",
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
@pytest.mark.parametrize("ring", FORMATS)
def test_mistakes_are_named(ring, mistake):
    """Each by the check that is meant for it, and by no other."""
    assert [check.name for check in run(ring, (), mistake)] == [MISTAKES[mistake]]


def shorter_by_one(data: bytes) -> bytes:
    """The length in a used entry of a receive buffer, if it is one."""
    at = {8: 4, 16: 8}.get(len(data))
    if at is None or not any(data[at : at + 4]):
        return data
    length = int.from_bytes(data[at : at + 4], "little") - 1
    return data[:at] + length.to_bytes(4, "little") + data[at + 4 :]


def first_piece(data: bytes) -> bytes:
    """The last byte of a frame's first piece, if it is one."""
    return data[:-1] + bytes([data[-1] ^ 0x80]) if len(data) == 20 else data


ENTRIES = {"split": "elements", "packed": "descriptors"}
WRITES = {shorter_by_one: "used {}, receive", first_piece: "frames received"}


@pytest.mark.parametrize("change", WRITES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("ring", FORMATS)
def test_wrong_writes_are_named(ring, change):
    """A single write of the device that is wrong."""
    names = [check.name for check in run(ring, (), change=change)]
    assert WRITES[change].format(ENTRIES[ring]) in names
    assert "frames received" in names
    assert f"used {ENTRIES[ring]}, transmit" not in names


def test_suppression_is_a_matter_of_timing():
    """What a device says about kicks is not compared."""

    def silent(device: Device, step: int) -> None:
        device.net.rx.enable_notifications(step % 3 == 0)

    for ring in FORMATS:
        assert run(ring, ("event_idx",), silent) == []
