"""EventCheck: asks the driver whether it wants an interrupt."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import cocotb
import pytest
from event_rig import EventRig
from virtqueue_helper import Moves, busy_while_offered, until

from lib.sim import params, simulate
from lib.streams import cycles
from virtio_rtl.virtqueue.event import EventCheck


def any_flags() -> int:
    """What a driver may write: packed 2 bits, without EVENT_IDX any of them; split one."""
    if params().ring == "split":
        return random.getrandbits(1)
    return random.choice([0, 1, 1, 3] if params().event_idx else [0, 1, 1, 2, 3])


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def one_interrupt_for_each_read_that_wants_it(dut: Any) -> None:
    """Flags at random: interrupts are those of the reads, and each write is covered by a read."""
    rig = EventRig(dut, stall=0.2)
    await rig.start()
    busy_while_offered(dut, "written", "request", "interrupt")
    queues = params().queues
    wrote: Counter[int] = Counter()
    for _ in range(60):
        rig.structures.flags = [any_flags() for _ in range(queues)]
        for _ in range(random.choice([1, 1, 5])):
            queue = random.randrange(queues)
            wrote[queue] += 1
            rig.use(queue)
        await cycles(dut, random.choice([0, 5, 100]))
    await rig.quiet()
    reads = Counter(queue for queue, _ in rig.structures.read)
    assert rig.told() == Counter(queue for queue, flags in rig.structures.read if flags != 1)
    assert all(1 <= reads[queue] <= wrote[queue] for queue in wrote)
    assert set(reads) == set(wrote)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_write_during_the_read_is_read_for_again(dut: Any) -> None:
    """The driver enables interrupts after the first read and before the second write."""
    rig = EventRig(dut, stall=0.0, latency=(80, 80))
    await rig.start()
    queue = params().queues - 1
    rig.structures.flags[queue] = 1
    rig.use(queue)
    await until(dut, lambda: rig.reads.requests == 1, 200)
    await until(dut, lambda: len(rig.structures.read) == 1, 200)
    rig.structures.flags[queue] = 0
    for _ in range(5):
        rig.use(queue)
    await rig.quiet()
    # Five writes while the first read was in flight: one more read for all of them, at most two.
    assert 2 <= rig.reads.requests <= 3
    assert sum(rig.told().values()) == rig.reads.requests - 1


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def one_read_in_flight_for_a_virtqueue(dut: Any) -> None:
    """A flood of one virtqueue costs one read per round trip, not one per write."""
    rig = EventRig(dut, stall=0.0, latency=(100, 100))
    await rig.start()
    sent = Moves(dut, "request")
    rig.use(*[1] * 400)
    await rig.quiet()
    assert 4 <= len(sent.cycles) <= 6
    gaps = [after - before for before, after in zip(sent.cycles, sent.cycles[1:])]
    assert min(gaps) >= 100


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def reads_of_different_virtqueues_overlap(dut: Any) -> None:
    """A request every cycle, none waits for another one's answer."""
    rig = EventRig(dut, stall=0.0, latency=(150, 150))
    await rig.start()
    await cycles(dut, params().queues)
    sent = Moves(dut, "request")
    count = min(params().queues, 16)
    rig.use(*range(count))
    await rig.quiet()
    assert sent.cycles[-1] - sent.cycles[0] == count - 1
    assert rig.told() == Counter(range(count))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_lone_virtqueue_waits_for_nothing(dut: Any) -> None:
    """One cycle from the used write to the read, one from the answer to the interrupt."""
    rig = EventRig(dut, stall=0.0)
    await rig.start()
    await cycles(dut, params().queues + 5)
    names = ("written", "request", "packet", "interrupt")
    moves = {name: Moves(dut, name) for name in names}
    for queue in range(params().queues):
        rig.use(queue)
        await rig.quiet()
    written, request, packet, interrupt = (moves[name].cycles for name in names)
    assert len(written) == len(interrupt) == params().queues
    assert all(after - before == 1 for before, after in zip(written, request, strict=True))
    assert all(after - before == 1 for before, after in zip(packet, interrupt, strict=True))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_failed_read_sends_nothing(dut: Any) -> None:
    """It is reported, and the next write asks again."""
    rig = EventRig(dut, stall=0.0)
    await rig.start()
    rig.structures.failing = {1}
    rig.use(0, 1)
    await rig.quiet()
    assert rig.failed.count == 1
    assert rig.told() == Counter([0])
    rig.structures.failing = set()
    rig.use(1)
    await rig.quiet()
    assert rig.told() == Counter([1])


COMMON = [
    "one_interrupt_for_each_read_that_wants_it", "a_write_during_the_read_is_read_for_again",
    "one_read_in_flight_for_a_virtqueue", "reads_of_different_virtqueues_overlap",
    "a_lone_virtqueue_waits_for_nothing", "a_failed_read_sends_nothing",
]  # fmt: skip


@pytest.mark.parametrize("ring", ["packed", "split"])
@pytest.mark.parametrize(("width", "queues"), [(64, 2), (128, 3), (256, 64), (512, 4)])
def test_event(width: int, queues: int, ring: str) -> None:
    """Flags only: EVENT_IDX is built, and was not negotiated."""
    simulate(
        EventCheck(width, queues),
        module=__name__,
        name=f"event_{ring}_{width}",
        testcase=COMMON,
        params={"width": width, "queues": queues, "ring": ring, "event_idx": False},
    )


def test_event_with_event_idx() -> None:
    """EVENT_IDX was negotiated, and the packed structures say ENABLE or DISABLE all the same."""
    simulate(
        EventCheck(256, 64),
        module=__name__,
        name="event_packed_with_event_idx",
        testcase=COMMON,
        params={"width": 256, "queues": 64, "ring": "packed", "event_idx": True},
    )


@pytest.mark.parametrize("ring", ["packed", "split"])
def test_flags_of_one_format_only(ring: str) -> None:
    """Neither the other format nor EVENT_IDX is built; whatever the features say."""
    simulate(
        EventCheck(128, 3, rings=(ring,), event_idx=False),
        module=__name__,
        name=f"event_{ring}_only",
        testcase=COMMON,
        params={
            "width": 128, "queues": 3, "ring": ring, "event_idx": False, "any_features": True
        },
    )  # fmt: skip
