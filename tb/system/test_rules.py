"""Rules of the specification that ordinary traffic does not show by itself."""

from __future__ import annotations

import random

import cocotb
from system_helper import counter

from lib.net_system import NetSystem, exchange, random_cuts, random_frame, small_config
from lib.sim import params, simulate
from lib.streams import cycles
from virtio_model.driver.packed_queue import PackedQueue
from virtio_model.net_header import NetHeader
from virtio_model.rings.packed import (
    DESC_SIZE,
    DescFlags,
    PackedDescriptor,
    advance,
    used_bits,
)
from virtio_rtl.top import VirtioDevice

ETHERNET_HEADER = 14

VLAN_TAG = bytes.fromhex("81000064")

# Version 4, header length 20, TCP; both checksums are wrong.
WRONG_CHECKSUMS = bytes.fromhex(
    "020000000001 020000000002 0800"
    "45000028000100004006ffff0a0000010a000002"
    "0400005000000001000000025010ffffdead0000"
)


def make_system(dut, **options) -> NetSystem:
    return NetSystem(dut, small_config(params().config), **options)


class RingLog:
    """What goes into a descriptor ring: buffers of the driver, descriptors of the device."""

    def __init__(self, system: NetSystem, index: int):
        self.queue = system.queues[index]
        self.written: list[tuple[int, int, int]] = []
        """Slot, AVAIL and USED bits, and buffer id of each descriptor written by the device."""
        self.expected: list[tuple[int, int, int]] = []
        """The same for the buffers made available, used in their order."""
        self._position = self.queue.used_position
        self._add = self.queue.add
        self.queue.add = self._note_buffer
        system.memory.write_hooks.append(self._note_write)

    def _note_buffer(self, readable, writable, cookie=None, indirect=False) -> int:
        buffer_id = self._add(readable, writable, cookie, indirect)
        slot, wrap = self._position
        self.expected.append((slot, used_bits(wrap), buffer_id))
        slots = 1 if indirect else len(readable) + len(writable)
        self._position = advance(slot, wrap, slots, self.queue.size)
        return buffer_id

    def _note_write(self, address: int, data: bytes) -> None:
        start = address - self.queue.desc_addr
        if not -len(data) < start < DESC_SIZE * self.queue.size:
            return
        for at in range(0, len(data), DESC_SIZE):
            used = PackedDescriptor.decode(data[at : at + DESC_SIZE].ljust(DESC_SIZE, b"\0"))
            slot, rest = divmod(start + at, DESC_SIZE)
            # A write that is not of whole descriptors matches no expectation.
            whole = rest == 0 and len(data) % DESC_SIZE == 0
            flags = used.flags & ~int(DescFlags.WRITE)
            self.written.append((slot if whole else -1, flags, used.id))


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def used_descriptors_are_written_once_in_order(dut):
    """The ring is written at the used positions only, once each, in the order of the buffers."""
    system = make_system(dut, rx_size=17, tx_size=13)
    await system.bring_up()
    logs = [RingLog(system, index) for index in range(2)]
    await exchange(system, 60)
    for log, count in zip(logs, (60, 60), strict=True):
        assert len(log.written) == count
        assert log.written == log.expected[:count]
        assert max(slot for slot, _, _ in log.written) < log.queue.size


async def quiet(system: NetSystem, duration: int = 600) -> None:
    """Nothing is read, written, signalled or sent for a while."""

    def seen() -> tuple[int, ...]:
        return (
            system.memory_reads,
            len(system.dma_writes),
            len(system.interrupts),
            len(system.sink.frames),
        )

    before = seen()
    await cycles(system.dut, duration)
    assert seen() == before


@cocotb.test(timeout_time=400, timeout_unit="us")
async def nothing_happens_before_driver_ok(dut):
    """Buffers, doorbells and arriving frames: no access, no notification until DRIVER_OK."""
    system = make_system(dut)
    await system.bring_up()
    await system.pci.reset()
    frames = [random_frame() for _ in range(4)]

    async def early() -> None:
        for number, frame in enumerate(frames):
            system.net.send(frame, cookie=number)
            system.net.post(1600)
            system.source.send(random_frame())
        for queue in (0, 1, 1, 0):
            await system.pci.notify(queue)
        await quiet(system)
        await system.until(lambda: system.source.idle)
        assert system.interrupts == []

    await system.start(before_driver_ok=early)
    await system.until(lambda: system.sink.frames == frames)
    # What arrived too early was dropped; the buffers are still there.
    reply = random_frame()
    system.source.send(reply)
    await system.until(lambda: system.poll() == [] and system.received)
    assert [got.frame for got in system.received] == [reply]
    system.host.check()


async def kick_in_vain(system: NetSystem) -> None:
    """Kick both queues although nothing new is there: no frame, no used buffer, no interrupt."""
    before = (len(system.interrupts), len(system.sink.frames))
    held = [queue.outstanding for queue in system.queues]
    for queue in random.choices((0, 1), k=random.randint(1, 6)):
        await system.pci.notify(queue)
    await cycles(system.dut, 500)
    assert system.poll() == []
    assert (len(system.interrupts), len(system.sink.frames)) == before
    assert [queue.outstanding for queue in system.queues] == held
    for queue in system.queues:
        queue.audit()


def show_as_used(queue: PackedQueue) -> tuple[int, int]:
    """Give the slot due next the bits of a used descriptor of this lap; place and old value."""
    slot, wrap = queue.avail_position
    place = queue.desc_addr + DESC_SIZE * slot + 14
    old = queue.memory.read_u16(place)
    queue.memory.write_u16(place, used_bits(wrap))
    return place, old


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def kicks_without_buffers_do_nothing(dut):
    """Doorbells at every position of a small ring, over four laps, take nothing from it."""
    system = make_system(dut, rx_size=4, tx_size=3)
    await system.bring_up()
    sent = []
    for number in range(12):
        await kick_in_vain(system)
        queue = system.queues[1]
        place, old = show_as_used(queue)
        ring = queue.memory.read(queue.desc_addr, DESC_SIZE * queue.size)
        await system.pci.notify(1)
        await cycles(dut, 400)
        assert len(system.sink.frames) == number
        assert queue.memory.read(queue.desc_addr, DESC_SIZE * queue.size) == ring
        queue.memory.write_u16(place, old)
        sent.append(random_frame(300))
        system.net.send(sent[-1], cuts=(), cookie=number)
        await system.pci.notify(1)
        await system.until(lambda: system.sink.frames == sent)
        await system.until(lambda cookie=number: system.poll() == [cookie])
        await system.until(lambda: system.interrupts == [2] * len(sent))
    system.host.check()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def transmit_header_is_ignored(dut):
    """No field of the header, and no checksum of the frame, decides on what is sent."""
    system = make_system(dut)
    await system.bring_up()
    sent = []
    for number in range(40):
        word = lambda: random.choice([0, 1, 0xFFFF, random.randrange(1 << 16)])  # noqa: E731
        # NEEDS_CSUM, bit 0, is clear; without offloads the device knows no other bit.
        header = NetHeader(
            flags=random.randrange(256) & ~1,
            hdr_len=word(),
            gso_size=word(),
            csum_start=word(),
            csum_offset=word(),
        )
        sent.append(random.choice([WRONG_CHECKSUMS, random_frame()]))
        cuts = random_cuts(len(sent[-1]) + 12)
        if system.queues[1].free_slots < len(cuts) + 1:
            await system.kick(1)
            await system.until(lambda: system.poll() == [] and system.queues[1].free_slots > 40)
        system.net.send(sent[-1], header=header, cuts=cuts, cookie=number)
    await system.kick(1)
    await system.until(lambda: len(system.sink.frames) == len(sent))
    assert system.sink.frames == sent
    system.host.check()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def received_header_is_empty(dut):
    """Twelve bytes, all 0 but num_buffers, which is 1; one buffer for one frame."""
    system = make_system(dut)
    await system.bring_up()
    for _ in range(60):
        system.net.post(1600, fill=0xFF)
    await system.kick(0)
    frames = [WRONG_CHECKSUMS] + [random_frame() for _ in range(39)]
    for frame in frames:
        system.source.send(frame)
    await system.until(lambda: system.poll() == [] and len(system.received) == 40)
    assert [got.frame for got in system.received] == frames
    assert {got.header.encode() for got in system.received} == {bytes(10) + b"\1\0"}
    assert system.queues[0].outstanding == 20
    system.host.check()


def add_noise(queue: PackedQueue, slot: int) -> None:
    """Set every bit that means nothing in an indirect table and in the descriptor of one."""
    memory, place = queue.memory, queue.desc_addr + DESC_SIZE * slot
    table, length = memory.read_u64(place), memory.read_u32(place + 8)
    noise = 0xFFFF & ~int(DescFlags.WRITE)
    for entry in range(table, table + length, DESC_SIZE):
        memory.write_u16(entry + 12, random.randrange(1 << 16))
        flags = memory.read_u16(entry + 14)
        memory.write_u16(entry + 14, flags | random.randrange(1 << 16) & noise)
    memory.write_u16(place + 14, memory.read_u16(place + 14) | DescFlags.WRITE)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def indirect_noise_means_nothing(dut):
    """Ids and flags besides WRITE in a table, and WRITE beside INDIRECT, change nothing."""
    system = make_system(dut)
    await system.bring_up()
    sent, replies = [], []
    for number in range(12):
        # The device must be idle, so that it looks only when it is told to.
        await cycles(dut, 500)
        sent.append(random_frame())
        replies.append(random_frame())
        slots = [queue.avail_position[0] for queue in system.queues]
        system.net.post(1600, cuts=random_cuts(1600), indirect=True)
        system.net.send(
            sent[-1], cuts=random_cuts(len(sent[-1]) + 12), indirect=True, cookie=number
        )
        for queue, slot in zip(system.queues, slots, strict=True):
            add_noise(queue, slot)
        system.source.send(replies[-1])
        await system.pci.notify(0)
        await system.pci.notify(1)
        await system.until(lambda: system.sink.frames == sent)
        await system.until(lambda: len(system.interrupts) == 2 * len(sent))
        assert system.poll() == [number]
    assert [got.frame for got in system.received] == replies
    system.host.check()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def longest_frames_pass_whole(dut):
    """Frames of the MTU and an Ethernet header, without and with a VLAN tag, both ways."""
    system = make_system(dut)
    await system.bring_up()
    longest = system.config.mtu + ETHERNET_HEADER
    sent = [random.randbytes(length) for length in (longest, longest - 1, longest)]
    sent.insert(1, random.randbytes(12) + VLAN_TAG + random.randbytes(longest - 12))
    for number, frame in enumerate(sent):
        system.net.send(frame, cuts=random_cuts(len(frame) + 12), cookie=number)
        system.net.post(12 + longest + 4, cuts=random_cuts(len(frame) + 12))
        system.source.send(frame)
    await system.kick(1)
    await system.kick(0)
    await system.until(lambda: system.sink.frames == sent)
    await system.until(lambda: system.poll() == [] and len(system.received) == 4)
    assert [got.frame for got in system.received] == sent
    system.host.check()


@cocotb.test(timeout_time=400, timeout_unit="us")
async def frames_above_the_mtu_are_not_delivered(dut):
    """One byte too many, without and with a VLAN tag: counted, and no buffer is used for it."""
    system = make_system(dut)
    await system.bring_up()
    longest = system.config.mtu + ETHERNET_HEADER
    tag = len(VLAN_TAG)
    frames = [
        (b"", longest, True),
        (b"", longest + 1, False),
        (b"", longest + tag, False),
        (VLAN_TAG, longest + tag, True),
        (VLAN_TAG, longest + tag + 1, False),
        (b"", longest, True),
    ]
    expected = []
    for kind, length, delivered in frames:
        frame = (random.randbytes(12) + (kind or b"\x08\x00") + random.randbytes(length))[:length]
        system.net.post(12 + longest + 2 * tag)
        system.source.send(frame)
        if delivered:
            expected.append(frame)
    await system.kick(0)
    await system.until(lambda: system.source.idle)
    await system.until(lambda: system.poll() == [] and len(system.received) == 3)
    await cycles(dut, 200)
    assert system.poll() == []
    assert [got.frame for got in system.received] == expected
    assert await counter(system, "receive_dropped") == 3
    assert system.queues[0].outstanding == 3
    system.host.check()


def test_rules():
    simulate(
        VirtioDevice(small_config("net-x8")),
        module=__name__,
        name="rules",
        params={"config": "net-x8"},
    )
