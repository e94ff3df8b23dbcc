"""SplitFetch: notifications, broken rules, failed reads, one virtqueue forgotten, speed."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from split_fetch_rig import INDIRECT, NEXT, Driver, Rig, split_descriptor
from virtqueue_helper import Moves, until

from lib.layout import unpack
from lib.sim import simulate
from lib.streams import cycles
from virtio_rtl.types.virtqueue import Descriptor
from virtio_rtl.virtqueue.fetch import Fetch


async def works_on(rig: Rig, queue: int = 0) -> None:
    """Another virtqueue delivers what it gets."""
    driver = rig.drivers[queue]
    before = rig.delivered[queue]
    await driver.add(2)
    await driver.add(1, 1)
    await until(rig.dut, lambda: rig.delivered[queue] == before + 3, 3000)


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(event_idx=[False, True])
async def no_buffer_is_lost_when_it_goes_idle(dut: Any, event_idx: bool) -> None:
    """Floods and lone buffers at any moment around their end; notified only when asked."""
    rig = Rig(dut, [16, 128], stall=0.0, event_idx=event_idx, order="up", slow=False,
              latency=(3, 30))  # fmt: skip
    await rig.start()
    driver, total = rig.drivers[1], 0
    for _ in range(20):
        for _ in range(random.randint(1, 12)):
            count = min(random.choice([1, 8, 20, 40]), driver.free)
            if count:
                await driver.add(*[1] * count)
                total += count
            await cycles(dut, random.randint(0, 60))
        await cycles(dut, random.randint(0, 300))
        if driver.free:
            await driver.add(1)
            total += 1
        await until(dut, lambda: rig.delivered[1] == total, 4000)  # noqa: B023
    assert driver.held_back, "every buffer was notified"
    await until(dut, lambda: rig.wants_notifications(1), 2000)
    if event_idx:
        assert rig.guest.flags == [0, 0]
    else:
        assert (1, 1) in rig.guest.written, "a flood never disabled notifications"
        pairs = zip(rig.guest.written, rig.guest.written[1:])
        assert all(one != two for one, two in pairs), "written again without need"


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_lone_buffer_costs_three_reads_in_a_row(dut: Any) -> None:
    """Index, entry, descriptor; a doorbell without a buffer reads the index and nothing else."""
    rig = Rig(dut, [16, 64], stall=0.0, event_idx=False, slow=False, latency=(20, 20))
    await rig.start()
    driver = rig.drivers[1]
    asked, ring = Moves(dut, "read_request"), Moves(dut, "ring_request")
    answered, done = Moves(dut, "ring_packet"), Moves(dut, "committed")
    came = Moves(dut, "read_packet")
    await driver.add(1)
    await until(dut, lambda: rig.delivered[1] == 1, 500)
    assert [read[1] for read in rig.guest.reads] == ["index", "ring", "table"]
    assert ring.cycles[1] - answered.cycles[0] <= 12  # with a scheduler in Python
    assert asked.cycles[0] - answered.cycles[1] <= 6
    assert done.cycles[0] - came.cycles[-1] <= 8
    await cycles(dut, 200)
    driver.kick()
    await cycles(dut, 200)
    assert [read[1] for read in rig.guest.reads[3:]] == ["index"]


def break_chain(driver: Driver, how: str) -> tuple[int, int]:
    """Make a broken chain available; return descriptors to be seen, and whether there is an end."""
    size = driver.size
    body = [split_descriptor(random.getrandbits(64), 100, NEXT, i + 1) for i in range(size)]
    head, stored = 2, 3
    if how == "loop":
        body[5] = split_descriptor(1, 1, NEXT, 2)
        stored = size
    elif how == "self":
        body[2] = split_descriptor(1, 1, NEXT, 2)
        stored = size
    elif how == "beyond":
        body[5] = split_descriptor(1, 1, NEXT, size)
    elif how == "far beyond":
        body[5] = split_descriptor(1, 1, NEXT, 0xFFFF)
    elif how == "indirect and next":
        body[5] = split_descriptor(1, 16, NEXT | INDIRECT, 6)
    elif how == "at the head":
        body[2], stored = split_descriptor(1, 16, NEXT | INDIRECT, 6), 0
    elif how == "bad head":
        head, stored = size, 0
    elif how == "worst head":
        head, stored = 0xFFFF, 0
    for index, content in enumerate(body):
        driver.put(index, content)
    driver.put_entry(driver.planned, head)
    driver.planned += 1
    driver.publish()
    return stored, int(stored > 0)


BROKEN = [
    "loop", "self", "beyond", "far beyond", "indirect and next", "at the head", "bad head",
    "worst head",
]  # fmt: skip


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(how=BROKEN, size=[16, 256])
async def a_broken_chain_has_an_end(dut: Any, how: str, size: int) -> None:
    """One error; the walker gets an indirect descriptor without a table; the others work on.

    The chain of 256 is longer than the read-ahead store: the walker is in its midst.
    """
    rig = Rig(dut, [16, size, 16, 16], stall=0.0, event_idx=False, slow=False)
    rig.check_chains = False
    await rig.start()
    driver = rig.drivers[1]
    stored, ends = break_chain(driver, how)
    driver.expected.append([])
    driver.kick()
    await until(dut, lambda: rig.failed.count == 1, 20_000)
    if ends:
        await until(dut, lambda: rig.delivered[1] == 1, 20_000)
        end = (rig.taken[1] - 1) % (2 * rig.depth)
        last = unpack(Descriptor, rig.store[1][end % rig.depth])
        assert (last.next, last.indirect, last.length, last.id) == (0, 1, 0, 2)
        assert rig.chain_lengths[1] == [stored + 1]
    # Nothing is read of that virtqueue any more.
    await until(dut, lambda: dut.idle.value == 1, 500)
    rig.guest.reads.clear()
    driver.kick()
    await works_on(rig)
    await works_on(rig, 3)
    assert all(read[0] != 1 for read in rig.guest.reads)
    assert rig.failed.count == 1
    assert rig.delivered[1] == ends


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(jump=[17, 100, 0x8000, -1])
async def an_index_that_jumps_is_reported(dut: Any, jump: int) -> None:
    """More available than the virtqueue has, or fewer than before: one error, no heads read."""
    rig = Rig(dut, [16, 16], stall=0.0, event_idx=False)
    await rig.start()
    driver = rig.drivers[1]
    await driver.add(1)
    await until(dut, lambda: rig.delivered[1] == 1, 1000)
    rig.guest.reads.clear()
    driver.put_index(1 + jump)
    driver.kick()
    await until(dut, lambda: rig.failed.count == 1, 1000)
    driver.kick()
    await works_on(rig)
    assert [read for read in rig.guest.reads if read[0] == 1] == [(1, "index", 0, 1)]
    assert rig.failed.count == 1


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(area=["index", "ring", "table"])
async def a_failed_read_brings_nothing(dut: Any, area: str) -> None:
    """One error; nothing is read again before the next doorbell, which finds all buffers."""
    rig = Rig(dut, [16, 16], stall=0.0, event_idx=False)
    await rig.start()
    config, driver = rig.guest.configs[1], rig.drivers[1]
    ranges = {
        "index": range(config["driver_area"] + 2, config["driver_area"] + 4),
        "ring": range(config["driver_area"] + 4, config["driver_area"] + 40),
        "table": range(config["descriptor_area"], config["descriptor_area"] + 256),
    }
    failing = True
    for client in (rig.reads, rig.ring_reads):
        client.fail = lambda address: failing and address in ranges[area]
    driver.add_now(1, 2, 1)
    driver.kick()
    await until(dut, lambda: rig.failed.count, 1000)
    await until(dut, lambda: dut.idle.value == 1 and not rig.pending, 2000)
    assert rig.delivered[1] == 0
    before, errors = len(rig.guest.reads), rig.failed.count
    await works_on(rig)
    assert all(read[0] == 0 for read in rig.guest.reads[before:])
    failing = False
    driver.kick()
    await until(dut, lambda: rig.delivered[1] == 3, 3000)
    assert rig.failed.count == errors


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_failed_read_ends_a_chain_that_the_walker_is_in(dut: Any) -> None:
    """A chain longer than the store, whose rest cannot be read, ends in an error."""
    rig = Rig(dut, [16, 256], stall=0.0, event_idx=False, order="up", slow=False)
    rig.check_chains = False
    await rig.start()
    driver = rig.drivers[1]
    area = rig.guest.configs[1]["descriptor_area"]
    rig.reads.fail = lambda address: address >= area + 16 * 200 and address >> 24 == 2
    driver.add_now(250)
    driver.kick()
    await until(dut, lambda: rig.delivered[1] == 1, 20_000)
    assert rig.failed.count == 1
    await works_on(rig)


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(event_idx=[False, True])
async def one_virtqueue_is_forgotten(dut: Any, event_idx: bool) -> None:
    """Held, idle, forgotten: it starts again from position 0, and no other one notices."""
    rig = Rig(dut, [16, 16, 16], stall=0.1, event_idx=event_idx)
    await rig.start()
    for driver in rig.drivers:
        for _ in range(4):
            await driver.add(1, 3)
    await cycles(dut, random.randint(0, 400))
    rig.hold = True
    await cycles(dut, 2)
    await until(dut, lambda: dut.idle.value == 1, 3000)
    await until(dut, lambda: all(rig.taken[q] == rig.committed[q] for q in range(3)), 3000)
    rig.shown[1] = rig.taken[1] = rig.committed[1] = rig.delivered[1] = 0
    rig.store[1].clear()
    driver = rig.drivers[1]
    driver.expected.clear()
    driver.index = driver.planned = 0
    driver.put_index(0)
    driver.free_list = list(range(16))
    rig.guest.flags[1] = rig.guest.events[1] = 0
    dut.forget.value, dut.forget_queue.value = 1, 1
    await cycles(dut, 1)
    dut.forget.value = 0
    await cycles(dut, 2)
    rig.hold = False
    for queue in range(3):
        rig.ring(queue)
    for _ in range(10):
        for each in rig.drivers:
            if each.free >= 3:
                await each.add(2, 1)
    await until(dut, lambda: not any(d.expected for d in rig.drivers), 10_000)
    assert rig.delivered[1] > 1
    assert rig.failed.count == 0


async def flood(dut: Any, order: str, length: int) -> float:
    """Buffers per cycle over two virtqueues that always have 256 descriptors available."""
    rig = Rig(dut, [256, 256], stall=0.0, event_idx=False, order=order, slow=False,
              latency=(60, 60))  # fmt: skip
    await rig.start()
    total = 1200 // length

    async def supply(driver: Driver) -> None:
        left = total
        while left:
            count = min(left, driver.free // length, 32)
            if count:
                driver.add_now(*[length] * count)
                driver.kick(driver.index - count)
                left -= count
            await cycles(dut, 2)

    for driver in rig.drivers:
        cocotb.start_soon(supply(driver))
    reached = []
    for goal in (total // 3, 5 * total // 3):
        await until(dut, lambda: sum(rig.delivered) >= goal, 20_000)  # noqa: B023
        reached.append((rig.now, sum(rig.delivered)))
    await until(dut, lambda: sum(rig.delivered) == 2 * total, 20_000)
    (start, first), (end, last) = reached
    return (last - first) / (end - start)


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(order=["up", "down"])
async def a_flood_of_single_descriptors(dut: Any, order: str) -> None:
    """Over receive and transmit together 0.7 buffers a cycle and more."""
    rate = await flood(dut, order, 1)
    dut._log.warning("RATE %s 1: %.2f", order, rate)
    assert rate >= 0.7


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def a_flood_of_pairs(dut: Any) -> None:
    """Chains of two descriptors: at least 0.35 of them a cycle."""
    rate = await flood(dut, "pairs", 2)
    dut._log.warning("RATE pairs 2: %.2f", rate)
    assert rate >= 0.35


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def chains_around_the_table_cost_no_second_look(dut: Any) -> None:
    """Chains of three over the table's end, two virtqueues in turn: entries are read once."""
    rig = Rig(dut, [64, 128], stall=random.choice([0.0, 0.2]), event_idx=False, order="up")
    await rig.start()
    for driver in rig.drivers:
        await driver.add(3)  # from here on the device reckons with chains of three
    await until(dut, lambda: all(d.free == d.size for d in rig.drivers), 1000)
    rig.guest.reads.clear()
    for _ in range(12):
        for driver in rig.drivers:
            driver.add_now(*[3] * 20)
        for driver in rig.drivers:
            driver.kick()
        await until(dut, lambda: all(d.free == d.size for d in rig.drivers), 3000)
    entries = sum(count for _, area, _, count in rig.guest.reads if area == "ring")
    assert entries == sum(d.index - 1 for d in rig.drivers)
    assert rig.failed.count == 0


NAMES = [
    "no_buffer_is_lost_when_it_goes_idle",
    "a_lone_buffer_costs_three_reads_in_a_row",
    "a_broken_chain_has_an_end",
    "an_index_that_jumps_is_reported",
    "a_failed_read_brings_nothing",
    "a_failed_read_ends_a_chain_that_the_walker_is_in",
    "one_virtqueue_is_forgotten",
    "chains_around_the_table_cost_no_second_look",
]
FLOODS = ["a_flood_of_single_descriptors", "a_flood_of_pairs"]


@pytest.mark.parametrize("width", [64, 256])
def test_split_fetch_rules(width: int) -> None:
    batch, depth = 16, 128
    simulate(
        Fetch(width, 4, 2, batch, depth),
        module=__name__,
        name=f"split_fetch_rules_{width}",
        testcase=[*NAMES, *(FLOODS if width > 64 else [])],
        params={"width": width, "batch": batch, "depth": depth},
    )
