"""The virtqueue engine of a request device: a driver in memory, a device at the door."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import cocotb
import pytest
from request_rig import CONFIG, Rig, echo
from virtqueue_helper import Moves, spread, until

from lib.sim import params, simulate
from lib.streams import cycles
from virtio_rtl.types.virtqueue import MAX_REQUEST_BYTES
from virtio_rtl.virtqueue.engine import VirtqueueEngine


def cut(length: int, most: int) -> tuple[int, ...]:
    """Cuts of a part: none, anywhere, before the last byte, or at every byte of the end."""
    if length < 2 or most < 1:
        return ()
    kind = random.randrange(4)
    if kind == 0:
        return ()
    if kind == 1:
        return (length - 1,)
    if kind == 2:
        return tuple(range(max(1, length - most), length))
    return tuple(random.randrange(1, length) for _ in range(random.randint(1, most)))


def submit_any(rig: Rig, queue: int) -> bool:
    """A request of any shape, if there is room for it."""
    readable = random.choice([0, 1, 16, 17, random.randint(1, 600)])
    writable = random.choice([0, 1, 20, 513, random.randint(1, 600)])
    if readable + writable == 0:
        writable = 1
    cuts = cut(readable, 5), cut(writable, 5)
    indirect = random.random() < 0.4
    if rig.queues[queue].free_slots < (1 if indirect else len(cuts[0]) + len(cuts[1]) + 2):
        return False
    rig.submit(queue, readable, writable, out_cuts=cuts[0], into_cuts=cuts[1], indirect=indirect)
    return True


async def any_requests(rig: Rig, count: int) -> None:
    """So many requests of any shape in both virtqueues, all answered."""
    sent = 0
    while sent < count:
        for _ in range(random.randint(1, 20)):
            sent += submit_any(rig, random.randrange(2))
        for queue in range(2):
            rig.kick(queue)
        await cycles(rig.dut, random.choice([1, 5, 50, 300]))
        rig.reap()
    await rig.finish()


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def answers_requests_of_any_framing(dut: Any) -> None:
    """Direct and indirect, cut anywhere, without one of the parts; early answers among them."""
    rig = Rig(dut, stall=random.choice([0, 0.2]), early=0.3, sizes=(16, 64), shuffle=True)
    await rig.start()
    await any_requests(rig, 200)
    assert rig.failed.count == 0
    assert len(rig.interrupts) > 0


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def slow_device(dut: Any) -> None:
    """Thinks long over some of them, and its ports stall: all the same, here with IN_ORDER."""
    rig = Rig(dut, stall=0.3, early=0.1, latency=(1, 10), in_order=True)
    rig.device.thinks = (0, 120)
    await rig.start()
    await any_requests(rig, 60)
    assert rig.failed.count == 0


def break_table(rig: Rig, entry: int, *, write: bool = False, length: int | None = None) -> None:
    """Patch the indirect table that was made last."""
    at = rig.allocator.last + 16 * entry
    flags = at + (14 if params().ring == "packed" else 12)
    if write:
        rig.memory.write_u16(flags, rig.memory.read_u16(flags) | 2)
    if length is not None:
        rig.memory.write_u32(at + 8, length)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def rule_breakers_never_reach_the_device(dut: Any) -> None:
    """Wrong order, a part too long, too many segments: back in error, between good ones."""
    rig = Rig(dut, stall=0.1, sizes=(512, 64))
    await rig.start()
    reads = rig.reads["payload"]
    for kind in ("order", "readable", "writable", "sum", "many", "many writable"):
        rig.submit(0, 30, 40, into_cuts=(10,))
        if kind == "order":
            rig.submit(0, 32, 9, out_cuts=(16,), indirect=True, broken=True)
            break_table(rig, 0, write=True)
        elif kind == "readable":
            rig.submit(0, 32, 9, out_cuts=(16,), indirect=True, broken=True)
            break_table(rig, 1, length=MAX_REQUEST_BYTES - 15)
        elif kind == "writable":
            rig.submit(0, 16, 40, indirect=True, broken=True)
            break_table(rig, 1, length=MAX_REQUEST_BYTES + 1)
        elif kind == "sum":
            rig.submit(0, 16, 40, into_cuts=(20, 30), indirect=True, broken=True)
            break_table(rig, 1, length=0xFFFF_FFFF)
            break_table(rig, 2, length=0xFFFF_FFFF)
        elif kind == "many":
            cuts = tuple(range(1, 257))
            rig.submit(0, 257, 9, out_cuts=cuts, indirect=True, broken=True)
        else:
            cuts = tuple(range(1, 300))
            rig.submit(0, 16, 300, into_cuts=cuts, indirect=True, broken=True)
        rig.submit(0, 20, 70)
        rig.kick(0)
        before = rig.failed.count, reads.requests
        await rig.finish()
        assert rig.failed.count == before[0] + 1, kind
        assert reads.requests == before[1] + 2, "nothing of it was read"
    assert len(rig.device.seen) == 12


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def the_longest_chain(dut: Any) -> None:
    """256 segments, of one part or of both, several of them in a row."""
    rig = Rig(dut, sizes=(512, 64))
    await rig.start()
    for readable in (255, 1, 128, 64):
        writable = 256 - readable
        rig.submit(
            0, readable, 2 * writable,
            out_cuts=tuple(range(1, readable)), into_cuts=tuple(range(2, 2 * writable, 2)),
            indirect=True,
        )  # fmt: skip
    rig.kick(0)
    await rig.finish()
    assert rig.failed.count == 0
    assert [len(one.data) for one in rig.device.seen] == [255, 1, 128, 64]


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def a_failed_read_is_the_devices_to_answer(dut: Any) -> None:
    """The device is told, answers, and needs no reset; requests around are untouched."""
    rig = Rig(dut, stall=0.1)
    await rig.start()
    for _ in range(3):
        rig.submit(0, 100, 100, out_cuts=(40,))
    bad = rig.sent[0][1].out.segments[1]
    rig.reads["payload"].fail = lambda address: bad.addr <= address < bad.addr + bad.length
    rig.kick(0)
    await rig.finish()
    assert [one.error for one in rig.device.seen] == [False, True, False]
    assert rig.failed.count == 0


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def a_reply_without_room_is_dropped(dut: Any) -> None:
    """Nothing is written past the buffer, whatever the device says; it comes back empty."""
    rig = Rig(dut, stall=0.1)
    rig.device.answer = lambda request, data: echo(data) * 3
    await rig.start()
    for room in (90, 89, 0, 200):
        rig.submit(1, 30, room, into_cuts=(17,))
    rig.kick(1)
    await rig.finish()
    assert [len(one.reply) for one in rig.device.seen] == [90] * 4


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def not_given_back_while_it_is_read(dut: Any) -> None:
    """An early answer: the driver has its memory back only when nothing of it is still read."""
    rig = Rig(dut, early=1.0)
    rig.device.readable.stall = 1.0
    await rig.start()
    for _ in range(4):
        rig.submit(0, 100, 10)
    rig.kick(0)
    await until(dut, lambda: rig.device.replies.count > 0, 2000)
    await cycles(dut, 500)
    assert rig.reap() == 0
    rig.device.readable.stall = 0.0
    await rig.finish()


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def many_in_flight(dut: Any) -> None:
    """64 requests of three descriptors are at the device before it has answered one."""
    rig = Rig(dut, sizes=(256, 64))
    rig.device.replies.stall = 1.0
    await rig.start()
    for _ in range(80):
        rig.submit(0, 16, 65, into_cuts=(64,))
    rig.kick(0)
    await until(dut, lambda: rig.device.requests.count >= 64, 5000)
    await cycles(dut, 300)
    assert rig.device.readable.count == 2 * rig.device.requests.count * 64 // rig.width
    assert rig.done == 0
    rig.device.replies.stall = 0.0
    await rig.finish()


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def comes_to_rest(dut: Any) -> None:
    """Not before all that was begun is given back; then nothing moves; and it goes on."""
    rig = Rig(dut, sizes=(256, 64))
    rig.device.replies.stall = 1.0
    await rig.start()
    for _ in range(30):
        rig.submit(0, 16, 65, into_cuts=(64,))
    rig.kick(0)
    await until(dut, lambda: rig.device.requests.count >= 3, 5000)
    dut.pause.value = 1
    await cycles(dut, 500)
    begun = rig.device.requests.count
    assert not dut.rested.value, "requests are at the device"
    for _ in range(10):
        rig.submit(0, 16, 65)
    rig.submit(1, 16, 65)
    rig.kick(0)
    rig.kick(1)
    rig.device.replies.stall = 0.0
    await rig.rested()
    assert rig.device.requests.count == begun
    assert rig.reap() == begun, "all that was begun was given back"
    dut.hold.value = 1
    await until(dut, lambda: bool(dut.fetch_idle.value), 5000)
    quiet = [model.requests for model in rig.reads.values()]
    await cycles(dut, 200)
    assert rig.device.requests.count == begun
    assert [model.requests for model in rig.reads.values()] == quiet
    dut.pause.value = dut.hold.value = 0
    await rig.finish()
    assert rig.done == 41


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def keeps_pace(dut: Any) -> None:
    """Requests that wait: the device is fed without a gap, and its answers are taken as fast."""
    rig = Rig(dut, sizes=(256, 64))
    rig.device.readable.stall = 1.0
    await rig.start()
    asked, given = Moves(dut, "readable"), Moves(dut, "writable")
    lanes = rig.width // 8
    for _ in range(60):
        rig.submit(0, 6 * lanes, 6 * lanes, into_cuts=(6 * lanes - 1,))
    rig.kick(0)
    await until(dut, lambda: rig.device.requests.count == 60, 5000)
    await cycles(dut, 200)
    rig.device.readable.stall = 0.0
    await rig.finish()
    assert len(asked.cycles) == len(given.cycles) == 360
    assert spread(asked.cycles) == 360
    # It answers a packet when it has the whole.
    assert spread(given.cycles) <= 365


@pytest.mark.parametrize("ring", ["packed", "split"])
def test_request_engine(ring: str) -> None:
    config = replace(CONFIG, width=64, read_ahead=64)
    simulate(
        VirtqueueEngine(config, paths="requests"), module=__name__, name=f"request_engine_{ring}",
        params={"width": 64, "ring": ring},
    )  # fmt: skip
