"""PackedFetch against packed rings in Python: what is available is found, once, and fresh."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from packed_fetch_rig import AVAIL, USED, Rig, flood_in_flight, two_in_flight
from virtqueue_helper import Moves, until

from lib.sim import params, simulate
from lib.streams import cycles
from virtio_rtl.virtqueue.fetch import Fetch

SIZES = {64: (4, 8), 128: (16, 32), 256: (16, 128), 512: (8, 64)}
"""Width to (batch, depth)."""


async def drive(rig: Rig, queue: int, chains: int) -> None:
    """Make random chains available as fast as there is room, in bursts, with pauses."""
    driver = rig.drivers[queue]
    sent = 0
    while sent < chains:
        burst = random.choice([1, 1, 2, 10, 100])
        longest = min(driver.size, random.choice([1, 1, 2, 3, 20, 100]))
        while burst and sent < chains:
            length = random.randint(1, longest)
            if driver.free < length:
                await cycles(rig.dut, 5)
                continue
            await driver.add(length)
            burst -= 1
            sent += 1
        await cycles(rig.dut, random.choice([0, 10, 100, 300]))


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def finds_every_chain_once(dut: Any) -> None:
    """Random rings, chains, speeds and moments of reading: all arrive, in order, unchanged."""
    sizes = random.sample([1, 2, 3, 7], 2) + random.sample([16, 33, 100], 2)
    random.shuffle(sizes)
    rig = Rig(dut, sizes, stall=random.choice([0.0, 0.2]))
    await rig.start()
    chains = 120
    drivers = [cocotb.start_soon(drive(rig, queue, chains)) for queue in range(4)]
    for task in drivers:
        await task
    await until(dut, lambda: rig.delivered == [chains] * 4, 6000)
    # At rest the driver is asked to notify, and reads have come to an end.
    await until(dut, lambda: not any(rig.guest.flags), 1000)
    await cycles(dut, 300)
    before = len(rig.guest.reads)
    await cycles(dut, 300)
    assert len(rig.guest.reads) == before
    assert all(rig.announced)
    assert rig.failed.count == 0


@cocotb.test(timeout_time=4, timeout_unit="ms")
async def no_doorbell_is_lost_when_it_goes_idle(dut: Any) -> None:
    """Floods that make the device disable notifications, each followed by a lone buffer.

    The lone buffer comes at any moment around the end of the flood; the driver notifies only if
    it reads ENABLE.
    """
    rig = Rig(dut, [100, 64], stall=0.0, slow=False, latency=(3, 20))
    await rig.start()
    total = 0
    driver = rig.drivers[1]
    for _ in range(25):
        flood = random.randint(40, 64)
        for _ in range(flood):
            driver.add_now(1)
        driver.kick()
        total += flood
        await until(dut, lambda: driver.free >= 10, 4000)
        for _ in range(3):
            await cycles(dut, random.randint(0, 90))
            if driver.free:
                await driver.add(1)
                total += 1
        await until(dut, lambda: rig.delivered[1] == total, 3000)  # noqa: B023
        await until(dut, lambda: driver.free == 64, 100)
    assert rig.guest.disabled, "the device never disabled notifications"
    assert driver.held_back, "no notification was held back"


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(body=[1, 2, 3])
async def a_body_read_before_its_head_is_not_believed(dut: Any, body: int) -> None:
    """Linux writes a body's flags, then its address; the head's flags last.

    The speculative read of the body is sampled between the two, the read of the head after all:
    every descriptor looks available, but the body's addresses are those of long ago.
    """
    rig = await flood_in_flight(dut)
    batch, driver, held = rig.batch, rig.drivers[1], rig.held
    chain = driver.plan(1 + body)
    for step in chain[1:]:
        driver.write_flags(step)
    early = held.sample(2)
    for step in chain:
        driver.write_body(step)
    driver.write_flags(chain[0])
    held.answer(held.sample(1))
    held.answer(early)
    held.automatic = True
    driver.kick()
    await until(dut, lambda: rig.delivered[1] == 2 * batch, 1000)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_later_head_proves_a_body(dut: Any) -> None:
    """What a speculative read brought is not read twice when a later buffer is there as well."""
    rig = await flood_in_flight(dut)
    batch, driver, held = rig.batch, rig.drivers[1], rig.held
    driver.add_now(2)
    driver.add_now(1)
    first, second = held.sample(1), held.sample(2)
    held.answer(first)
    held.answer(second)
    await until(dut, lambda: rig.delivered[1] == 2 * batch + 1, 400)
    # Nothing but the slot behind is asked for again.
    area = rig.guest.configs[1]["descriptor_area"]
    again = [request["address"] - area for request in held.requests[3:]]
    assert all(offset >= 16 * (2 * batch + 2) for offset in again)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_body_that_is_not_there_yet_is_read_again(dut: Any) -> None:
    """The speculative read found the body's flags not written: one more read, no doorbell."""
    rig = Rig(dut, [100, 8 * params().batch], stall=0.0, held=True)
    await rig.start()
    batch = await two_in_flight(rig)
    driver, held = rig.drivers[1], rig.held
    early = held.sample(2)
    for _ in range(batch - 1):
        driver.add_now(1)
    driver.add_now(2)
    held.answer(held.sample(1))
    held.answer(early)
    held.automatic = True
    await until(dut, lambda: rig.delivered[1] == 2 * batch, 1000)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_doorbell_during_the_read_looks_again(dut: Any) -> None:
    """The read was sampled before the buffer; its doorbell came while the read was in flight."""
    rig = Rig(dut, [100, 16], stall=0.0, held=True)
    await rig.start()
    driver, held = rig.drivers[1], rig.held
    driver.kick()
    await until(dut, lambda: len(held.requests) == 1, 100)
    early = held.sample(0)
    driver.add_now(1)
    driver.kick()
    await cycles(dut, 20)
    held.answer(early)
    held.automatic = True
    await until(dut, lambda: rig.delivered[1] == 1, 500)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_failed_read_brings_nothing(dut: Any) -> None:
    """An error drops the whole fetch and is reported once; the next doorbell reads again."""
    rig = Rig(dut, [100, 16], stall=0.0, held=True)
    await rig.start()
    driver, held = rig.drivers[1], rig.held
    driver.add_now(1)
    driver.add_now(2)
    driver.kick()
    await until(dut, lambda: len(held.requests) == 1, 100)
    held.answer(held.sample(0), error=True)
    await cycles(dut, 100)
    assert rig.failed.count == 1
    assert rig.committed[1] == 0
    assert len(held.requests) == 1
    held.automatic = True
    driver.kick()
    await until(dut, lambda: rig.delivered[1] == 2, 500)
    assert rig.failed.count == 1


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def only_flipped_flags_make_available(dut: Any) -> None:
    """AVAIL must equal the wrap counter, and USED must not: three of four combinations wait."""
    rig = Rig(dut, [100, 16], stall=0.0, held=True)
    await rig.start()
    driver, held = rig.drivers[1], rig.held
    held.automatic = True
    for flags in (0, AVAIL | USED, USED):
        driver.put(0, 14, flags.to_bytes(2, "little"))
        driver.kick()
        await cycles(dut, 80)
        assert rig.committed[1] == 0
    driver.add_now(1)
    driver.kick()
    await until(dut, lambda: rig.delivered[1] == 1, 200)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_disabled_virtqueue_is_not_read(dut: Any) -> None:
    """Work for a virtqueue that is not enabled has no effect."""
    rig = Rig(dut, [100, 16, 16], stall=0.0, held=True)
    await rig.start()
    rig.ring(3)  # the lookup answers 0 for it
    await cycles(dut, 60)
    assert not rig.held.requests
    assert rig.work.count == 1


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_flood_is_read_back_to_back(dut: Any) -> None:
    """With a full ring, batches follow each other; the round trip does not show.

    Lone buffers before it make no difference.
    """
    rig = Rig(dut, [100, 1024], stall=0.0, slow=False, latency=(60, 60))
    await rig.start()
    for number in range(4):
        rig.drivers[1].add_now(1)
        rig.drivers[1].kick()
        await until(dut, lambda: rig.delivered[1] == number + 1, 400)  # noqa: B023
        await until(dut, lambda: dut.idle.value == 1, 400)
    steady = await flood(rig)
    # Once the window has opened.
    assert steady[-1] - steady[12] <= pace(rig) * (len(steady) - 13)


def pace(rig: Rig) -> int:
    """Cycles that a batch takes in a flood."""
    return rig.batch * (2 if params().width == 64 else 1) + 5


async def flood(rig: Rig, count: int = 1024) -> list[int]:
    """Make buffers available at once; return when batches of them were committed."""
    dut, driver, before = rig.dut, rig.drivers[1], rig.delivered[1]
    commits = Moves(dut, "committed")
    for _ in range(count):
        driver.add_now(1)
    driver.kick()
    await until(dut, lambda: rig.delivered[1] == before + count, 4000)
    return commits.cycles[:-4]


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def few_in_flight_are_not_overtaken(dut: Any) -> None:
    """A driver adds a chain of three as soon as one is used: most of what is read is available.

    A flood behind it is read back to back nevertheless, if a while later.
    """
    rig = Rig(dut, [100, 1024], stall=0.0, slow=False, latency=(60, 60))
    await rig.start()
    driver, chains, total = rig.drivers[1], 2 * rig.batch, 100 * rig.batch
    driver.free, added = 3 * chains, 0
    while added < total:
        while driver.free >= 3 and added < total:
            driver.add_now(3)
            driver.kick()
            added += 1
        await cycles(dut, 2)
    await until(dut, lambda: rig.delivered[1] == total, 4000)
    read = sum(count for _, _, count in rig.guest.reads)
    assert read <= 1.25 * 3 * total
    driver.free = driver.size
    steady = (await flood(rig))[-24:]
    assert steady[-1] - steady[0] <= pace(rig) * (len(steady) - 1)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def a_burst_is_not_slower_than_the_one_before(dut: Any) -> None:
    """Bursts with pauses between them: what was fetched behind their ends has no effect."""
    rig = Rig(dut, [100, 1024], stall=0.0, slow=False, latency=(60, 60))
    await rig.start()
    took = []
    for _ in range(6):
        start = rig.now
        await flood(rig, 24 * rig.batch)
        took.append(rig.now - start)
        await until(dut, lambda: dut.idle.value == 1, 600)
        await cycles(dut, 200)
    assert max(took) <= took[0] + 8


@pytest.mark.parametrize("width", [64, 128, 256, 512])
def test_packed_fetch(width: int) -> None:
    batch, depth = SIZES[width]
    everything = [
        "finds_every_chain_once",
        "no_doorbell_is_lost_when_it_goes_idle",
        "a_body_read_before_its_head_is_not_believed",
        "a_later_head_proves_a_body",
        "a_body_that_is_not_there_yet_is_read_again",
        "a_doorbell_during_the_read_looks_again",
        "a_failed_read_brings_nothing",
        "a_disabled_virtqueue_is_not_read",
        "only_flipped_flags_make_available",
    ]
    if depth >= 8 * batch:  # a read-ahead store that covers the round trip
        everything += ["a_flood_is_read_back_to_back", "few_in_flight_are_not_overtaken"]
        everything.append("a_burst_is_not_slower_than_the_one_before")
    simulate(
        Fetch(width, 4, 2, batch, depth, rings=("packed",)),
        module=__name__,
        name=f"packed_fetch_{width}",
        testcase=everything,
        params={"width": width, "batch": batch, "depth": depth},
    )
