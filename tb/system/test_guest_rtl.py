"""A guest that is served by the RTL, with a client in QEMU's place."""

from __future__ import annotations

import os
import random
import select
import struct
from collections.abc import Callable

import cocotb
import pytest
from guest_client_helper import (
    GUEST_ADDRESS,
    GUEST_MAC,
    MESSAGE_ADDRESS,
    RX,
    TX,
    Guest,
    Session,
    chosen_config,
    device,
)

from guest.client import Client
from guest.feature_mask import FeatureMask
from guest.net_peer import checksum
from guest.protocol import Command, Region
from lib.pcie.dma import MemoryTarget
from lib.pcie.latency import ReadLatency
from lib.pcie.packet import Packet
from lib.sim import simulate
from virtio_model.spec import features as feat
from virtio_model.spec.features import Feature
from virtio_model.spec.status import DeviceStatus
from virtio_rtl.top import VirtioDevice

_EXPRESS, _MSIX = 0x10, 0x11


def echo_request(size: int, number: int) -> bytes:
    """An ICMP echo request of the guest to the peer, as an Ethernet frame."""
    message = struct.pack("!BBHHH", 8, 0, 0, 1, number) + random.randbytes(size)
    message = message[:2] + struct.pack("!H", checksum(message)) + message[4:]
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(message), number, 0x4000, 64, 1, 0)
    header += GUEST_ADDRESS + bytes((10, 0, 0, 2))
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    return bytes.fromhex("020000000002") + GUEST_MAC + b"\x08\0" + header + message


def ping(guest: Guest, sizes: list[int]) -> None:
    """Send all requests at once, and take every answer; each has its request's data."""
    requests = {number: echo_request(size, number) for number, size in enumerate(sizes)}
    for request in requests.values():
        guest.net.post(max(2048, len(request) + 12))
        guest.net.send(request)
    guest.kick(RX)
    guest.kick(TX)
    answers: dict[int, bytes] = {}

    def complete() -> bool:
        guest.net.reap()
        while (got := guest.net.receive()) is not None:
            number = int.from_bytes(got.frame[40:42], "big")
            answers[number] = got.frame
        return len(answers) == len(requests) and guest.net.tx.outstanding == 0

    guest.until(complete)
    for number, request in requests.items():
        answer = answers[number]
        assert answer[42 : len(request)] == request[42:]
        assert answer[:6] == GUEST_MAC
        assert answer[34] == 0


def capability(client: Client, kind: int) -> int:
    """Offset of a PCI capability."""
    at = client.read(Region.CONFIG, 0x34, 1)[0]
    while at and client.read(Region.CONFIG, at, 1)[0] != kind:
        at = client.read(Region.CONFIG, at + 1, 1)[0]
    return at


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def pings_through_the_device(dut):
    """Driver, requests and answers, interrupts by the device's own table, both ring formats."""
    function = await device(dut)
    for ring in ("packed", "split"):
        session = Session(function)

        def scenario(guest: Guest, ring: str = ring) -> None:
            guest.client.start()
            guest.bring_up(ring)
            ping(guest, [random.randrange(1, 1400) for _ in range(24)])
            wanted = {(MESSAGE_ADDRESS, struct.pack("<I", 0x4000 + i)) for i in (RX, TX)}
            # The rings may have said first that all is done.
            guest.until(lambda: set(guest.client.messages) >= wanted)
            assert set(guest.client.messages) == wanted
            guest.leave()

        await session.serve(scenario)
    assert function.notifications >= 4
    assert function.root.interrupts.received
    function.root.check()


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def time_stands_still_while_the_guest_thinks(dut):
    """The server's sleeps take no simulated time, and it sleeps whenever the device is idle."""
    session = Session(await device(dut))

    def scenario(guest: Guest) -> None:
        guest.client.start()
        guest.bring_up()
        ping(guest, [100])
        # Nothing is said until the server sleeps.
        assert session.connection.asleep.wait(60)
        ping(guest, [200])

    await session.serve(scenario)
    assert session.connection.sleeps
    assert all(before == after for before, after in session.connection.sleeps)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def a_long_frame_gets_through_while_nothing_else_moves(dut):
    """No sleep while a lone frame passes a port, or waits in the device for its first bytes."""
    function = await device(dut)
    ports, target = function.ports, function.root.target
    before = ports._sink.stall, ports._source.stall
    session = Session(function)

    def scenario(guest: Guest) -> None:
        guest.client.start()
        guest.bring_up()
        ports._sink.stall = ports._source.stall = 0.9  # a frame takes some 10 us
        ping(guest, [8900])
        ports._sink.stall = ports._source.stall = 0
        target.read = first_is_last(target)
        ping(guest, [7400])

    await session.serve(scenario)
    ports._sink.stall, ports._source.stall = before


def first_is_last(target: MemoryTarget) -> Callable[..., None]:
    """Read memory so that the first long read is answered last: all behind it waits inside."""
    plain, late = ReadLatency(200.0, None), ReadLatency(2900.0, None)
    first = True

    def read(packet: Packet, send: Callable[[Packet], None]) -> None:
        nonlocal first
        is_first = first and packet.length_dw > 64
        first = first and not is_first
        target.latency = late if is_first else plain
        MemoryTarget.read(target, packet, send)

    return read


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def a_guest_that_leaves_in_the_middle(dut):
    """Whatever the device has in flight, the server ends, and the next guest gets a whole one."""
    function = await device(dut)
    for _ in range(4):
        session = Session(function)

        def leaves(guest: Guest) -> None:
            guest.client.start()
            guest.bring_up()
            for number in range(16):
                guest.net.post(2048)
                guest.net.send(echo_request(1000, number))
            guest.kick(RX)
            guest.kick(TX)
            for _ in range(random.randrange(4)):
                guest.client.read(0, 0x14, 1)

        await session.serve(leaves)
    session = Session(function)

    def stays(guest: Guest) -> None:
        guest.client.start()
        guest.bring_up()
        ping(guest, [64] * 8)

    await session.serve(stays)
    assert not function.root.violations


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def reset_while_traffic_runs(dut):
    """Of the device by the client, and of the function by the guest; BARs keep their places."""
    function = await device(dut)
    session = Session(function)

    def scenario(guest: Guest) -> None:
        client = guest.client
        client.start()
        control = capability(client, _EXPRESS) + 8
        for by_guest in (False, True, False):
            guest.bring_up()
            for number in range(16):
                guest.net.send(echo_request(1000, number))
            guest.kick(TX)
            if by_guest:
                value = int.from_bytes(client.read(Region.CONFIG, control, 2), "little")
                client.write(Region.CONFIG, control, (value | 0x8000).to_bytes(2, "little"))
            else:
                client.call(Command.DEVICE_RESET)
            assert client.read(Region.CONFIG, 4, 2) == b"\0\0"
            client.write(Region.CONFIG, 4, b"\6\0")
            assert client.read(0, 0x14, 1) == b"\0"
            for queue in (guest.net.rx, guest.net.tx):
                guest.net.take_back(queue)
                queue.close()
            guest.pci.queues.clear()
        client.messages.clear()
        guest.bring_up()
        ping(guest, [500] * 4)
        guest.leave()

    await session.serve(scenario)
    function.root.check()


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def memory_that_the_guest_does_not_have(dut):
    """A read there is an unsupported request on the bus, and the device asks for its reset."""
    function = await device(dut)
    session = Session(function)

    def scenario(guest: Guest) -> None:
        client = guest.client
        client.start()
        guest.bring_up()
        guest.net.send(echo_request(100, 0))
        queue = guest.net.tx
        at = queue.desc_addr
        guest.memory.write(at, struct.pack("<Q", len(client.memory)))
        guest.kick(TX)
        while not client.read(0, 0x14, 1)[0] & DeviceStatus.DEVICE_NEEDS_RESET:
            pass

    await session.serve(scenario)
    assert function.root.target.unclaimed
    assert not session.server.memory.faults
    assert not function.root.violations


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def sees_the_configuration_space(dut):
    """All of it in one access, the bytes as the device has them, its MSI-X under its own name."""
    function = await device(dut)
    session = Session(function)

    def scenario(guest: Guest) -> None:
        client = guest.client
        client.start()
        whole = client.read(Region.CONFIG, 0, 4096)
        pieces = b""
        while len(pieces) < 256:
            size = random.choice([1, 2, 3, 4, 7])
            pieces += client.read(Region.CONFIG, len(pieces), size)
        assert whole[: len(pieces)] == pieces
        assert whole[:4] == struct.pack("<HH", 0x1AF4, 0x1041)
        assert not int.from_bytes(whole[0x10:0x18], "little") & ~0xF
        assert capability(client, _MSIX)
        control = capability(client, _EXPRESS) + 8
        client.write(Region.CONFIG, control, struct.pack("<H", 0 << 5 | 1 << 12))

    await session.serve(scenario)
    # The host obeys the sizes that the guest has programmed, and holds the device to them.
    target = function.root.target
    sizes = (target.max_payload, target.checker.max_payload, target.checker.max_read_request)
    assert sizes == (128, 128, 256)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def is_offered_what_is_wanted(dut):
    """Hidden features are not offered, and all others are."""
    function = await device(dut)
    hidden = feat.mask([Feature.RING_PACKED, Feature.EVENT_IDX])
    session = Session(FeatureMask(function, hidden))
    offered = []

    def scenario(guest: Guest) -> None:
        guest.client.start()
        guest.client.write(Region.CONFIG, 4, b"\6\0")
        for word in range(4):
            guest.client.write(0, 0, struct.pack("<I", word))
            low = guest.client.read(0, 4, 2) + guest.client.read(0, 6, 2)
            assert low == guest.client.read(0, 4, 4)
            offered.append(int.from_bytes(low, "little"))

    await session.serve(scenario)
    bare = Session(function)
    all_of_them = []

    def again(guest: Guest) -> None:
        guest.client.start()
        guest.client.write(Region.CONFIG, 4, b"\6\0")
        for word in range(4):
            guest.client.write(0, 0, struct.pack("<I", word))
            all_of_them.append(int.from_bytes(guest.client.read(0, 4, 4), "little"))

    await bare.serve(again)
    masks = [hidden >> 32 * word & 0xFFFF_FFFF for word in range(4)]
    assert all(word & mask for word, mask in zip(all_of_them, masks) if mask)
    assert offered == [word & ~mask for word, mask in zip(all_of_them, masks)]


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def interrupts_by_eventfd(dut):
    """A client that keeps the MSI-X table gets an eventfd for each vector."""
    function = await device(dut)
    session = Session(function, own_msix=False)
    eventfds = tuple(os.eventfd(0, os.EFD_NONBLOCK) for _ in range(3))

    def scenario(guest: Guest) -> None:
        client = guest.client
        client.start()
        body = struct.pack("<IIIII", 20, 4 | 32, 2, 0, 3)
        client.write(Region.CONFIG, capability(client, _MSIX) + 3, b"\x80")
        client.write(Region.CONFIG, 4, b"\6\0")
        client.call(Command.DEVICE_SET_IRQS, body, eventfds)
        guest.bring_up(table=False)
        guest.net.send(echo_request(100, 0))
        guest.kick(TX)
        assert select.select([eventfds[1 + TX]], [], [], 60)[0]
        assert os.eventfd_read(eventfds[1 + TX]) == 1
        assert not client.messages

    await session.serve(scenario)
    for fd in eventfds:
        os.close(fd)


@pytest.mark.parametrize(
    ("config", "stall"),
    [
        ("net-x8", 0),
        ("net-x8", 0.2),
        pytest.param("guest", 0, marks=pytest.mark.sweep),
    ],
)
def test_guest_rtl(config, stall):
    simulate(
        VirtioDevice(chosen_config(config)),
        module=__name__,
        name=f"guest_rtl_{config}_{stall}",
        params={"config": config, "stall": stall},
        limit_s=120,
    )
