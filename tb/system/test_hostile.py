"""Drivers and hosts that break rules, or go to their edge: the device neither hangs nor harms."""

from __future__ import annotations

import random

import cocotb
from cocotb.triggers import with_timeout
from system_helper import counter, error_status, write_descriptor

from lib.net_system import NetSystem, exchange, random_frame, small_config
from lib.pcie.host import memory_request
from lib.pcie.packet import COMPLETER_ABORT, MEM_READ, MEM_WRITE, UNSUPPORTED_REQUEST
from lib.sim import params, simulate
from lib.streams import cycles
from virtio_model.rings.packed import DescFlags
from virtio_model.spec.status import DeviceStatus
from virtio_rtl.top import VirtioDevice

NEXT, AVAIL, USED = DescFlags.NEXT, DescFlags.AVAIL, DescFlags.USED

HEADER = 12
"""Bytes of the packet header."""


def make_system(dut, **options) -> NetSystem:
    return NetSystem(dut, small_config(params().config), **options)


async def start_again(system: NetSystem) -> None:
    """Reset in time, and work again."""
    await with_timeout(system.pci.reset(), 60, "us")
    system.source.clear()
    await system.until(lambda: system.source.idle)
    await system.start()
    await exchange(system, 8)


async def needs_reset(system: NetSystem) -> None:
    """The device has told the driver that only a reset helps; it does."""
    await system.until(lambda: 0 in system.interrupts, 10_000)
    assert await system.pci.status() & DeviceStatus.DEVICE_NEEDS_RESET
    system.host.target.faults.clear()
    await start_again(system)
    system.host.interrupts.received.clear()


@cocotb.test(timeout_time=400, timeout_unit="us")
async def driver_ok_without_virtqueues(dut) -> None:
    """No virtqueue is enabled: doorbells and frames cause no access."""
    system = make_system(dut)
    await system.bring_up()
    await system.pci.reset()
    await system.pci.start(system.accepted)
    await system.pci.driver_ok()
    before = (system.memory_reads, len(system.dma_writes))
    for _ in range(10):
        system.source.send(random_frame())
        for queue in range(2):
            await system.access.bar_write(0, 0x3000 + 4 * queue, queue, 2)
    await cycles(dut, 2000)
    assert (system.memory_reads, len(system.dma_writes)) == before
    assert not await system.pci.status() & DeviceStatus.DEVICE_NEEDS_RESET
    await start_again(system)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def doorbells_at_random(dut) -> None:
    """Doorbells without a reason, of any value, for virtqueues that are not there: harmless."""
    system = make_system(dut)
    await system.bring_up()

    async def ring() -> None:
        while True:
            at = 0x3000 + 4 * random.randrange(4)
            value = random.choice([0, 0, 1, 1, 2, 77, 0xFFFF])
            await system.access.bar_write(0, at, value, random.choice([2, 4]))

    tasks = [cocotb.start_soon(ring()) for _ in range(3)]
    await exchange(system, 40)
    for task in tasks:
        task.cancel()
    await cycles(dut, 500)
    assert not await system.pci.status() & DeviceStatus.DEVICE_NEEDS_RESET
    assert await counter(system, "bad_doorbell") > 0


@cocotb.test(timeout_time=400, timeout_unit="us")
async def receive_buffer_with_readable_part(dut) -> None:
    """Only the writable part is written and counted."""
    system = make_system(dut)
    await system.bring_up()
    queue, memory = system.queues[0], system.memory
    readable, writable = system.allocator.alloc(64, 64), system.allocator.alloc(2048, 64)
    memory.write(readable, b"R" * 64)
    queue.add([(readable, 40)], [(writable, 1000), (writable + 1000, 1000)], cookie=0)
    await system.kick(0)
    frame = random_frame(1200)
    system.source.send(frame)
    used = []
    await system.until(lambda: used.append(queue.poll()) or used[-1])
    assert used[-1].length == HEADER + len(frame)
    assert memory.read(writable + HEADER, len(frame)) == frame
    assert memory.read(readable, 64) == b"R" * 64
    system.host.check()


@cocotb.test(timeout_time=400, timeout_unit="us")
async def receive_buffer_without_room(dut) -> None:
    """A buffer that no frame can ever fit stops no virtqueue in silence: it needs a reset."""
    system = make_system(dut)
    await system.bring_up()
    for room in (0, 1, HEADER):
        await system.pci.reset()
        await system.start()
        queue, buffer = system.queues[0], system.allocator.alloc(64, 64)
        failed = await counter(system, "virtqueue_failed")
        dropped = await counter(system, "receive_dropped")
        system.memory.write(buffer, bytes(64))
        queue.add([(buffer, 40)], [(buffer + 40, room)] if room else [], cookie=0)
        system.net.post(1600)
        await system.kick(0)
        system.source.send(random_frame())
        await system.until(lambda: 0 in system.interrupts)
        assert await counter(system, "virtqueue_failed") == failed + 1
        assert await counter(system, "receive_dropped") == dropped + 1
        assert system.memory.read(buffer, 64) == bytes(64)
        await needs_reset(system)


@cocotb.test(timeout_time=400, timeout_unit="us")
async def smallest_receive_buffer(dut) -> None:
    """Room for the header and one byte is room, for a frame of one byte."""
    system = make_system(dut)
    await system.bring_up()
    for _ in range(3):
        system.net.post(HEADER + 1)
    await system.kick(0)
    for frame in (random_frame(60), b"ab", b"c"):
        system.source.send(frame)
    await system.until(lambda: system.poll() == [] and system.received)
    assert [got.frame for got in system.received] == [b"c"]
    assert await counter(system, "receive_dropped") == 2
    assert await counter(system, "virtqueue_failed") == 0


@cocotb.test(timeout_time=400, timeout_unit="us")
async def transmit_buffers_that_are_no_frame(dut) -> None:
    """Too long, or nothing behind the header: used, counted, not sent; the others are sent."""
    system = make_system(dut)
    await system.bring_up()
    longest = system.config.max_frame
    buffer = system.allocator.alloc(64, 64)
    sent = []
    for number, length in enumerate((longest + 1, 3 * longest, longest)):
        sent += [random_frame(200), random.randbytes(length)]
        system.net.send(sent[-2], cookie=2 * number)
        system.net.send(sent[-1], cuts=(length // 2,), cookie=2 * number + 1)
    for number, length in enumerate((1, HEADER)):
        system.queues[1].add([(buffer, length)], [], cookie=6 + number)
    await system.kick(1)
    done = []
    await system.until(lambda: done.extend(take_used(system)) or len(done) == 8)
    sent = [frame for frame in sent if len(frame) <= longest]
    await system.until(lambda: len(system.sink.frames) == len(sent))
    await cycles(dut, 200)
    assert system.sink.frames == sent
    assert len(set(done)) == 8
    assert await counter(system, "transmit_dropped") == 4
    assert await counter(system, "virtqueue_failed") == 0
    system.host.check()


def take_used(system: NetSystem) -> list[int]:
    """Ids of used transmit buffers, whoever has added them."""
    found = []
    while (used := system.queues[1].poll()) is not None:
        found.append(used.id)
    return found


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def tiny_rings(dut) -> None:
    """Rings of one, two and three slots: everything arrives, in order, once."""
    system = make_system(dut)
    await system.bring_up()
    count = 30
    for size in (1, 2, 3):
        system.sizes = (size, size)
        await system.pci.reset()
        await system.start()
        first = len(system.sink.frames)
        sent = [random_frame(300) for _ in range(count)]
        replies = [random_frame(300) for _ in range(count)]
        for reply in replies:
            system.source.send(reply)
        done, given = [], 0
        for _ in range(400):
            while given < count and system.queues[1].free_slots:
                system.net.send(sent[given], cuts=(), cookie=given)
                given += 1
            await system.kick(1)
            while system.queues[0].free_slots:
                system.net.post(1600)
            await system.kick(0)
            await cycles(dut, 50)
            done += system.poll()
            if len(done) == len(system.received) == count:
                break
        assert done == list(range(count))
        assert system.sink.frames[first:] == sent
        assert [got.frame for got in system.received] == replies
    system.host.check()


@cocotb.test(timeout_time=400, timeout_unit="us")
async def chain_without_an_end(dut) -> None:
    """Every slot of the ring says that another one follows: a reset still ends."""
    system = make_system(dut)
    await system.bring_up()
    queue, buffer = system.queues[1], system.allocator.alloc(4096, 64)
    system.memory.grant(buffer, 4096)
    for slot in range(queue.size):
        write_descriptor(queue, slot, buffer, 8, 0, AVAIL | NEXT)
    await system.pci.notify(1)
    await cycles(dut, 3000)
    await start_again(system)
    system.host.check()


@cocotb.test(timeout_time=400, timeout_unit="us")
async def chain_longer_than_the_ring(dut) -> None:
    """Made available lap by lap, ten slots in a ring of four: an error, and no write beside it."""
    system = make_system(dut, tx_size=4)
    await system.bring_up()
    queue, buffer = system.queues[1], system.allocator.alloc(4096, 64)
    system.memory.grant(buffer, 4096)
    for lap, flags in enumerate((AVAIL, USED, AVAIL)):
        for slot in range(4 if lap < 2 else 2):
            end = lap == 2 and slot == 1
            write_descriptor(queue, slot, buffer, 16, 7, flags | (0 if end else NEXT))
        await system.pci.notify(1)
        await cycles(dut, 800)
    write_descriptor(queue, 2, buffer, 100, 3, AVAIL)
    await system.pci.notify(1)
    await cycles(dut, 1500)
    system.host.check()
    # The buffer behind it may still be sent.
    assert system.sink.frames in ([], [bytes(100 - HEADER)])
    await needs_reset(system)


@cocotb.test(timeout_time=400, timeout_unit="us")
async def completion_timeout_disabled(dut) -> None:
    """With Completion Timeout Disable a read that is never answered is waited for."""
    system = make_system(dut)
    await system.bring_up()
    at = await system.capability(0x10)
    assert await system.access.config_read(at + 0x24, 4) & 0x10, "supported"
    await system.access.config_write(at + 0x28, 0x10, 2)
    await cycles(dut, 800)
    queue = system.queues[1]
    system.host.fault(queue.desc_addr, queue.desc_addr + 16, "drop", count=1)
    system.net.send(random_frame(), cookie=0)
    await system.kick(1)
    await cycles(dut, 12_000)
    assert not await system.pci.status() & DeviceStatus.DEVICE_NEEDS_RESET
    assert await counter(system, "read_timeout") == 0
    await system.access.config_write(at + 0x28, 0, 2)
    await needs_reset(system)


@cocotb.test(timeout_time=400, timeout_unit="us")
async def refused_requests_are_reported(dut) -> None:
    """What we refuse as a completer: answer, counter, Status and Device Status register."""
    system = make_system(dut)
    await system.bring_up()
    host, base = system.host, system.access.bar_address(0, 0)
    await error_status(system)

    answers = await host.mmio_request(memory_request(MEM_READ, base, 4 * 33))
    assert [answer.status for answer in answers] == [COMPLETER_ABORT]
    assert await counter(system, "request_aborted") == 1
    assert await error_status(system) == (0x0800, 0b0001), "signaled target abort, correctable"

    poisoned = memory_request(MEM_WRITE, base + 0x14, 1, b"\x00")
    poisoned.poisoned = 1
    host.link.submit(poisoned)
    assert await error_status(system) == (0x8000, 0b0010), "detected parity, non-fatal"
    assert await counter(system, "request_poisoned") == 1
    assert await system.pci.status() & DeviceStatus.DRIVER_OK, "it would have been a reset"

    answers = await host.mmio_request(memory_request(MEM_READ, base + (1 << 20), 4))
    assert [answer.status for answer in answers] == [UNSUPPORTED_REQUEST]
    assert await error_status(system) == (0, 0b1001), "unsupported, correctable"
    host.link.submit(memory_request(MEM_WRITE, base + (1 << 20), 4, bytes(4)))
    assert await error_status(system) == (0, 0b1010), "unsupported, non-fatal"
    assert await counter(system, "request_unsupported") == 2


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def failed_reads_are_reported(dut) -> None:
    """What we find wrong as a requester: Status and Device Status register."""
    system = make_system(dut)
    await system.bring_up()
    await error_status(system)
    for kind, expected in {
        "ur": (0x2000, 0),  # received master abort
        "ca": (0x1000, 0),  # received target abort
        "poison": (0x8000, 0b0010),  # detected parity, non-fatal
        "drop": (0, 0b0010),  # non-fatal
        "unexpected": (0, 0b0001),  # correctable
    }.items():
        queue = system.queues[1]
        await cycles(dut, 600)
        at = queue.desc_addr + 16 * queue.avail_position[0]
        system.host.fault(at, at + 4, kind, count=1)
        system.net.send(random_frame(), cookie=0)
        await system.kick(1)
        await cycles(dut, 8000 if kind == "drop" else 800)  # 1.5 time-outs
        assert await error_status(system) == expected, kind
        if kind == "unexpected":
            assert not await system.pci.status() & DeviceStatus.DEVICE_NEEDS_RESET
        else:
            await needs_reset(system)


def test_hostile():
    simulate(
        VirtioDevice(small_config("net-x8")),
        module=__name__,
        name="hostile",
        params={"config": "net-x8"},
    )
