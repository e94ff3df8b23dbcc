"""Every kind of fault at every kind of read, in both ring formats: each has a defined end."""

from __future__ import annotations

from typing import NamedTuple

import cocotb
from system_helper import counter

from lib.net_system import NetSystem, exchange, random_frame, small_config
from lib.sim import params, simulate
from lib.streams import cycles
from virtio_model.driver.make import Queue
from virtio_model.driver.split_queue import SplitQueue
from virtio_model.rings.packed import DESC_SIZE
from virtio_model.rings.split import (
    IDX_OFFSET,
    INDEX_MASK,
    DescFlags,
    SplitDescriptor,
    avail_entry_offset,
    used_event_offset,
)
from virtio_model.spec.status import DeviceStatus
from virtio_rtl.top import VirtioDevice

RX, TX = 0, 1
FORMATS = ("split", "packed")
COUNTER_OF = {
    "ur": "read_unsupported",
    "ca": "read_aborted",
    "late_ca": "read_aborted",
    "poison": "read_poisoned",
    "drop": "read_timeout",
}
PLACES = {
    "split": (
        "available index", "available entry", "descriptor", "jump", "table", "jump in the table",
        "payload", "suppression",
    ),
    "packed": ("descriptor", "jump", "table", "jump in the table", "payload", "suppression"),
}  # fmt: skip
PIECES = 8
"""Elements of the buffer whose reads fail."""
LENGTH = 400


class Reads(NamedTuple):
    """Where the device reads: descriptors of a chain, entries of its table, the first bytes."""

    chain: list[int]
    table: list[int]
    payload: int


def make_system(dut, ring: str) -> NetSystem:
    """With EVENT_IDX the driver's suppression state is read alone in both formats."""
    features = ("indirect_desc", "event_idx")
    return NetSystem(dut, small_config(params().config), ring=ring, features=features)


def walk(memory, at: int, table: int, found: list[int]) -> SplitDescriptor:
    """Follow a split list from `at` on, into `found`; its last descriptor."""
    while True:
        found.append(at)
        descriptor = SplitDescriptor.decode(memory.read(at, DESC_SIZE))
        if not descriptor.flags & DescFlags.NEXT:
            return descriptor
        at = table + DESC_SIZE * descriptor.next


def split_reads(queue: SplitQueue) -> Reads:
    """Of the buffer that was made available last."""
    memory, last = queue.memory, queue.avail_index - 1 & INDEX_MASK
    head = memory.read_u16(queue.driver_addr + avail_entry_offset(last, queue.size))
    chain: list[int] = []
    table: list[int] = []
    end = walk(memory, queue.desc_addr + DESC_SIZE * head, queue.desc_addr, chain)
    if end.flags & DescFlags.INDIRECT:
        walk(memory, end.addr, end.addr, table)
    first = (chain if len(chain) > 1 or not table else table)[0]
    return Reads(chain, table, memory.read_u64(first))


def packed_reads(queue: Queue, slot: int, *, indirect: bool) -> Reads:
    """Of a buffer whose first descriptor is in `slot`."""
    memory, size = queue.memory, queue.size
    count = 1 if indirect else PIECES
    chain = [queue.desc_addr + DESC_SIZE * ((slot + at) % size) for at in range(count)]
    table = []
    if indirect:
        start = memory.read_u64(chain[0])
        table = [start + DESC_SIZE * at for at in range(PIECES)]
    return Reads(chain, table, memory.read_u64((table or chain)[0]))


def add_buffer(system: NetSystem, index: int, place: str, frame: bytes) -> int:
    """Make a buffer in pieces available without a kick; the address of the read to be hit."""
    queue = system.queues[index]
    slot = 0 if isinstance(queue, SplitQueue) else queue.avail_position[0]
    indirect = "table" in place
    cuts = tuple(40 * at for at in range(1, PIECES))
    if index == TX:
        system.net.send(frame, cuts=cuts, indirect=indirect, cookie=0)
    else:
        system.net.post(LENGTH + 12, cuts=cuts, indirect=indirect)
    if isinstance(queue, SplitQueue):
        reads = split_reads(queue)
        last = queue.avail_index - 1 & INDEX_MASK
        suppression = queue.driver_addr + used_event_offset(queue.size)
        entry = queue.driver_addr + avail_entry_offset(last, queue.size)
    else:
        reads = packed_reads(queue, slot, indirect=indirect)
        suppression = queue.driver_addr
        entry = 0
    match place:
        case "available index":
            return queue.driver_addr + IDX_OFFSET
        case "available entry":
            return entry
        case "descriptor":
            return reads.chain[0]
        case "jump":
            return reads.chain[-1]
        case "table":
            return reads.table[0]
        case "jump in the table":
            return reads.table[-1]
        case "payload":
            return reads.payload
    return suppression


async def works(system: NetSystem, spare: int) -> None:
    """A frame each way arrives; then the device is idle and has so many receive buffers."""
    frame, sent, received = random_frame(), len(system.sink.frames), len(system.received)
    for _ in range(1 + spare):
        system.net.post(1600)
    await system.kick(RX)
    system.source.send(frame)
    system.net.send(frame, cookie=0)
    await system.kick(TX)
    done: list[int] = []
    await system.until(lambda: done.extend(system.poll()) or (done and system.received[received:]))
    await system.until(lambda: len(system.sink.frames) > sent)
    assert system.received[received:][0].frame == system.sink.frames[sent] == frame
    await cycles(system.dut, 600)  # the looks behind DRIVER_OK are over
    system.host.check()


async def fail_once(system: NetSystem, index: int, place: str, kind: str) -> None:
    """One read for a virtqueue fails; the other virtqueue goes on; a reset repairs all."""
    what = (index, place, kind)
    before = await counter(system, COUNTER_OF[kind])
    sent, received = len(system.sink.frames), len(system.received)
    frame = random_frame(LENGTH).ljust(LENGTH, b"\xee")[:LENGTH]
    at = add_buffer(system, index, place, frame)
    fault = system.host.fault(at, at + 2, kind, count=1)
    await system.pci.notify(index)
    if index == RX:
        # Tables are walked when a frame asks for the buffer.
        system.source.send(frame)
    await system.until(lambda: 0 in system.interrupts, 40_000)
    assert fault.hits == 1, what
    assert await counter(system, COUNTER_OF[kind]) == before + 1, what
    assert await system.pci.status() & DeviceStatus.DEVICE_NEEDS_RESET, what
    if index == TX:
        assert len(system.sink.frames) == sent + (place == "suppression"), what
        system.source.send(frame)
        await system.until(lambda: system.poll() is not None and len(system.received) > received)
        assert system.received[-1].frame == frame, what
    else:
        system.net.send(frame, cookie=0)
        await system.pci.notify(TX)
        await system.until(lambda: len(system.sink.frames) > sent)
        assert system.sink.frames[-1] == frame, what
    assert await counter(system, "virtqueue_failed") >= 1, what
    system.host.check()
    system.host.target.faults.clear()
    await system.pci.reset()
    system.source.clear()
    await system.until(lambda: system.source.idle)
    system.host.interrupts.received.clear()
    await system.start()
    await works(system, spare=int(index == TX))
    assert 0 not in system.interrupts, what


@cocotb.test(timeout_time=20, timeout_unit="ms")
@cocotb.parametrize(("ring", FORMATS))
async def faults_of_transmission(dut, ring):
    """Each kind at each read for the transmit virtqueue; reception goes on."""
    system = make_system(dut, ring)
    await system.bring_up()
    await works(system, spare=1)
    for place in PLACES[ring]:
        for kind in COUNTER_OF:
            await fail_once(system, TX, place, kind)


@cocotb.test(timeout_time=20, timeout_unit="ms")
@cocotb.parametrize(("ring", FORMATS))
async def faults_of_reception(dut, ring):
    """Each kind at each read for the receive virtqueue; transmission goes on."""
    system = make_system(dut, ring)
    await system.bring_up()
    await works(system, spare=0)
    for place in PLACES[ring]:
        if place != "payload":
            for kind in COUNTER_OF:
                await fail_once(system, RX, place, kind)


@cocotb.test(timeout_time=20, timeout_unit="ms")
@cocotb.parametrize(("ring", FORMATS))
async def stray_completions_at_every_read(dut, ring):
    """Duplicate and unexpected completions at each kind of read: dropped and counted."""
    system = make_system(dut, ring)
    await system.bring_up()
    for place in PLACES[ring]:
        for kind in ("duplicate", "unexpected"):
            await cycles(dut, 600)
            before = await counter(system, "completion_unexpected")
            frame, sent = random_frame(LENGTH).ljust(LENGTH, b"\xee"), len(system.sink.frames)
            at = add_buffer(system, TX, place, frame)
            fault = system.host.fault(at, at + 2, kind, count=1)
            await system.kick(TX)
            await system.until(lambda sent=sent: len(system.sink.frames) > sent)
            await system.until(lambda fault=fault: fault.hits == 1)
            assert system.sink.frames[-1] == frame, (place, kind)
            await system.until(lambda: system.poll() == [0])
            await cycles(dut, 400)
            assert await counter(system, "completion_unexpected") > before, (place, kind)
            system.host.target.faults.clear()
    await exchange(system, 20)
    assert not await system.pci.status() & DeviceStatus.DEVICE_NEEDS_RESET


def test_bus_faults():
    simulate(
        VirtioDevice(small_config("net-x8")),
        module=__name__,
        name="bus_faults",
        params={"config": "net-x8"},
    )
