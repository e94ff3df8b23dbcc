"""EVENT_IDX: the arithmetic by itself, and interrupts of EventCheck when a position is passed."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from amaranth.hdl import Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from cocotb.triggers import Event
from event_rig import EventRig
from virtqueue_helper import Moves

from lib.layout import pack
from lib.sim import params, simulate
from lib.streams import cycles, reset, start_clock
from virtio_rtl.virtqueue.event import EventCheck
from virtio_rtl.virtqueue.event_idx import EventPassed

DESCRIPTOR = 2

QUESTION = data.StructLayout({"packed": 1, "size": 16, "index": 16, "count": 16, "event": 16})


class Bench(wiring.Component):
    """EventPassed between two registers."""

    def __init__(self, rings: tuple[str, ...]):
        self.rings = rings
        super().__init__({"question": In(QUESTION), "passed": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        """Wire it."""
        m = Module()
        m.submodules.arithmetic = arithmetic = EventPassed(self.rings)
        for name in QUESTION.members:
            m.d.sync += getattr(arithmetic, name).eq(self.question[name])
        m.d.sync += self.passed.eq(arithmetic.passed)
        return m


def split_wants(event: int, new: int, old: int) -> int:
    """[virtio 1.4 §2.7.7.2], in numbers of 16 bits."""
    return int((new - event - 1) & 0xFFFF < (new - old) & 0xFFFF)


def packed_wants(event: int, new: int, count: int, size: int) -> int:
    """[virtio 1.4 §2.8.14]: is the slot, of that lap, one of the last `count`? By counting."""
    slot, wrap = new & 0x7FFF, new >> 15
    for _ in range(count):
        slot -= 1
        if slot < 0:
            slot, wrap = size - 1, 1 - wrap
        if slot | wrap << 15 == event:
            return 1
    return 0


def near(*values: int) -> int:
    """A number of 16 bits, often near an interesting one."""
    if random.random() < 0.2:
        return random.getrandbits(16)
    return (random.choice(values) + random.randint(-2, 2)) & 0xFFFF


def split_question() -> tuple[dict[str, int], int]:
    """A question, and the answer of the formula."""
    old = near(0, 0x7FFF, 0x8000, 0xFFFF)
    new = near(old, old + 16, old - 1, 0, 0x8000)
    event = near(old, new, new - 1, 0, 0x8000)
    values = {"packed": 0, "size": random.getrandbits(16), "index": new, "event": event}
    return {**values, "count": (new - old) & 0xFFFF}, split_wants(event, new, old)


def packed_question() -> tuple[dict[str, int], int]:
    """A question, and the answer of someone who counts."""
    size = random.choice([1, 2, 3, 7, 16, 17, 64, 100, 32767, 32768])
    count = random.randint(0, min(size, 50))
    if random.random() < 0.1 and size <= 100:
        count = size
    new = random.choice([random.randrange(size), 0, size - 1]) | random.getrandbits(1) << 15
    event = random.choice([new & 0x7FFF, random.randrange(size), 0, size - 1])
    event = (event + random.randint(-2, 2)) % size | random.getrandbits(1) << 15
    values = {"packed": 1, "size": size, "index": new, "event": event, "count": count}
    return values, packed_wants(event, new, count, size)


async def ask(dut: Any, questions: list[tuple[dict[str, int], int]]) -> None:
    """Put questions and compare the answers, two cycles later."""
    start_clock(dut)
    await reset(dut)
    asked: list[tuple[dict[str, int], int]] = []
    for question in [*questions, *questions[:3]]:
        dut.question.value = pack(QUESTION, question[0])
        await cycles(dut)
        asked.append(question)
        if len(asked) > 3:
            # In at the first edge, through at the second, seen at the third.
            wanted = asked[-3]
            assert int(dut.passed.value) == wanted[1], wanted[0]


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def split_formula_in_full_width(dut: Any) -> None:
    """The specification's formula, near every wrap."""
    await ask(dut, [split_question() for _ in range(20_000)])


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def packed_offset_and_wrap(dut: Any) -> None:
    """Whether exactly that slot of that lap is among the ones that were used."""
    await ask(dut, [packed_question() for _ in range(20_000)])


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def every_slot_of_small_rings(dut: Any) -> None:
    """All positions, all events, all counts up to the size."""
    questions = [
        (
            {"packed": 1, "size": size, "index": new | lap << 15, "event": event | of << 15,
             "count": count},
            packed_wants(event | of << 15, new | lap << 15, count, size),
        )
        for size in (1, 2, 3, 4, 5)
        for new in range(size)
        for event in range(size)
        for lap in (0, 1)
        for of in (0, 1)
        for count in range(size + 1)
    ]  # fmt: skip
    await ask(dut, questions)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_lap_or_more_passes_all_of_the_last_lap(dut: Any) -> None:
    """However much more than the ring's size was used, up to "65535 or more"."""
    questions = []
    for _ in range(5000):
        values, _ = packed_question()
        size = values["size"]
        back = random.randint(1, size)
        slot = (values["index"] & 0x7FFF) - back
        lap = values["index"] >> 15 ^ (slot < 0)
        event = slot % size | lap << 15
        count = min(random.choice([size, size + 1, 2 * size, 65535]), 65535)
        questions.append(({**values, "event": event, "count": count}, 1))
    await ask(dut, questions)


@pytest.mark.parametrize("rings", [("split", "packed"), ("split",), ("packed",)])
def test_event_passed(rings: tuple[str, ...]) -> None:
    packed = ["packed_offset_and_wrap", "every_slot_of_small_rings",
              "a_lap_or_more_passes_all_of_the_last_lap"]  # fmt: skip
    tests = {"split": ["split_formula_in_full_width"], "packed": packed}
    simulate(
        Bench(rings),
        module=__name__,
        name=f"event_passed_{'_'.join(rings)}",
        testcase=[test for ring in rings for test in tests[ring]],
    )


def sizes() -> list[int]:
    """Sizes of all virtqueues."""
    packed = params().ring == "packed"
    choices = [1, 2, 3, 17, 64, 32768] if packed else [1, 2, 16, 64, 32768]
    return random.choices(choices, k=params().queues)


async def phase(rig: EventRig, queue: int, total: int, ahead: int) -> None:
    """Use `total` positions while the event lies `ahead`; one interrupt if it is among them."""
    start = rig.position[queue]
    rig.structures.event[queue] = rig.number(queue, start + ahead)
    left = total
    while left:
        count = min(left, random.choice([1, 1, 5, 16, total]))
        rig.written.queue([rig.move(queue, count)])
        left -= count
        await cycles(rig.dut, random.choice([0, 0, 1, 10, 100]))
    await rig.quiet()
    passed = rig.number(queue, start + ahead) in {
        rig.number(queue, position) for position in range(start, start + total)
    }
    assert rig.told()[queue] == passed


@cocotb.test(timeout_time=4, timeout_unit="ms")
async def an_interrupt_when_the_event_is_passed(dut: Any) -> None:
    """Exactly one, and none while it is ahead or behind; however the progress is cut into reads."""
    rig = EventRig(dut, sizes(), stall=0.1, latency=(3, 40))
    rig.structures.flags = [DESCRIPTOR] * params().queues
    await rig.start()
    for _ in range(60):
        queue = random.randrange(params().queues)
        longest = min(rig.sizes[queue], 200)
        total = random.randint(1, longest)
        # A driver asks for one of the next `size` positions; some, it has long passed.
        ahead = random.choice([0, total - 1, total, random.randint(0, rig.sizes[queue] - 1), -1])
        await phase(rig, queue, total, ahead)


@cocotb.test(timeout_time=4, timeout_unit="ms")
async def positions_wrap(dut: Any) -> None:
    """Past 65535, or past the end of the largest ring, in large steps."""
    rig = EventRig(dut, [32768] * params().queues, stall=0.0, latency=(3, 20))
    rig.structures.flags = [DESCRIPTOR] * params().queues
    await rig.start()
    for lap in range(1, 5):
        rig.structures.event[0] = rig.number(0, lap * 32768 - 5000)
        while rig.position[0] < lap * 32768 - 20:
            rig.written.queue([rig.move(0, min(lap * 32768 - 20 - rig.position[0], 9999))])
        await rig.quiet()
        assert rig.told()[0] == 1
        for _ in range(12):
            await phase(rig, 0, random.randint(1, 4), random.randint(0, 4))


@cocotb.test(timeout_time=4, timeout_unit="ms")
async def progress_adds_up_and_saturates(dut: Any) -> None:
    """More than a lap, or than 65535, used during one read: what it passed is not forgotten."""
    rig = EventRig(dut, [64, 32768] + [16] * (params().queues - 2), stall=0.0, latency=(300, 300))
    rig.structures.flags = [DESCRIPTOR] * params().queues
    await rig.start()
    for queue, step, number in ((0, 16, 7), (1, 32768, 4)):
        rig.structures.event[queue] = rig.number(queue, 3 * rig.sizes[queue])
        rig.written.queue([rig.move(queue, 1)])
        await cycles(dut, 20)
        for _ in range(number):
            rig.written.queue([rig.move(queue, step)])
        await rig.written.idle()
        rig.structures.event[queue] = rig.number(queue, rig.position[queue] - 10)
        await rig.quiet()
        assert rig.told()[queue] == 1


@cocotb.test(timeout_time=4, timeout_unit="ms")
async def no_wake_up_is_lost(dut: Any) -> None:
    """Drivers that ask for a position a little ahead, look once more, and sleep until told.

    A driver sees used buffers before the device is told that the posted path took them.
    """
    queues = params().queues
    rig = EventRig(dut, [64] * queues, stall=0.1, latency=(3, 80))
    rig.structures.flags = [DESCRIPTOR] * queues
    await rig.start()
    goal = 400
    visible = [0] * queues
    seen = [0] * queues
    told = [Event() for _ in range(queues)]

    async def interrupts() -> None:
        while True:
            interrupt = await rig.interrupts.receive()
            told[interrupt.queue].set()

    async def device(queue: int) -> None:
        while visible[queue] < goal:
            count = random.choice([1, 1, 2, 16])
            # A ring has no more buffers than these.
            while visible[queue] + count > seen[queue] + 64:
                await cycles(dut)
            visible[queue] += count
            await cycles(dut, random.choice([0, 1, 20]))
            await rig.written.send(rig.move(queue, count))
            await cycles(dut, random.choice([0, 0, 3, 60, 200]))

    async def driver(queue: int) -> None:
        while visible[queue] < goal or seen[queue] < visible[queue]:
            seen[queue] = visible[queue]
            target = min(seen[queue] + random.choice([0, 0, 1, 30]), max(goal - 1, seen[queue]))
            told[queue].clear()
            rig.structures.event[queue] = rig.number(queue, target)
            await cycles(dut, random.choice([0, 1, 5]))
            if visible[queue] <= target and visible[queue] < goal:
                await told[queue].wait()

    cocotb.start_soon(interrupts())
    tasks = [cocotb.start_soon(role(queue)) for queue in range(queues) for role in (device, driver)]
    for task in tasks:
        await task
    await rig.quiet()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_lone_virtqueue_waits_for_nothing(dut: Any) -> None:
    """One cycle from the used write to the read, one from the answer to the interrupt."""
    rig = EventRig(dut, stall=0.0)
    rig.structures.flags = [DESCRIPTOR] * params().queues
    await rig.start()
    names = ("written", "request", "packet", "interrupt")
    moves = {name: Moves(dut, name) for name in names}
    for queue in range(params().queues):
        rig.structures.event[queue] = rig.number(queue, rig.position[queue])
        rig.use(queue)
        await rig.quiet()
    written, request, packet, interrupt = (moves[name].cycles for name in names)
    assert len(written) == len(interrupt) == params().queues
    assert all(after - before == 1 for before, after in zip(written, request, strict=True))
    assert all(after - before == 1 for before, after in zip(packet, interrupt, strict=True))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_virtqueue_that_begins_again(dut: Any) -> None:
    """After a virtqueue reset it is not thought to have passed what it passed before."""
    rig = EventRig(dut, stall=0.0)
    rig.structures.flags = [DESCRIPTOR] * params().queues
    await rig.start()
    for _ in range(20):
        await phase(rig, 1, random.randint(1, 16), random.randint(0, 15))
        rig.position[1] = 0


POSITIONS = [
    "an_interrupt_when_the_event_is_passed", "positions_wrap", "progress_adds_up_and_saturates",
    "no_wake_up_is_lost", "a_lone_virtqueue_waits_for_nothing",
    "a_virtqueue_that_begins_again",
]  # fmt: skip


@pytest.mark.parametrize("ring", ["packed", "split"])
@pytest.mark.parametrize(("width", "queues"), [(64, 2), (512, 4)])
def test_event_positions(width: int, queues: int, ring: str) -> None:
    simulate(
        EventCheck(width, queues),
        module=__name__,
        name=f"event_idx_{ring}_{width}",
        testcase=POSITIONS,
        params={"width": width, "queues": queues, "ring": ring, "event_idx": True},
    )


@pytest.mark.parametrize("ring", ["packed", "split"])
def test_event_positions_of_one_format(ring: str) -> None:
    """The other format is not built."""
    simulate(
        EventCheck(256, 3, rings=(ring,)),
        module=__name__,
        name=f"event_idx_{ring}_only",
        testcase=POSITIONS,
        params={"width": 256, "queues": 3, "ring": ring, "event_idx": True},
    )
