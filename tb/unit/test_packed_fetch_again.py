"""PackedFetch: fetches that are read again, chains that do not come to their end."""

from __future__ import annotations

from typing import Any

import cocotb
import pytest
from packed_fetch_rig import AVAIL, NEXT, Rig, flood_in_flight
from virtqueue_helper import Moves, until

from lib.layout import unpack
from lib.sim import params, simulate
from lib.streams import cycles
from virtio_rtl.types.virtqueue import Descriptor
from virtio_rtl.virtqueue.fetch import Fetch


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def only_the_stale_fetch_is_read_again(dut: Any) -> None:
    """A chain that crosses fetches costs one more read; what is in flight behind it is kept."""
    rig = await flood_in_flight(dut)
    batch, driver, held = rig.batch, rig.drivers[1], rig.held
    driver.add_now(5)
    for _ in range(3 * batch - 4):
        driver.add_now(1)
    again = Moves(dut, "ring_request")
    held.answer(held.sample(1))
    held.answer(held.sample(2))
    total, answered = 5 * batch - 4, 3
    for _ in range(2000):
        await cycles(dut, 1)
        if answered < len(held.requests):
            held.answer(held.sample(answered))
            answered += 1
    assert rig.delivered[1] == total
    assert len(again.cycles) >= 1
    area = rig.guest.configs[1]["descriptor_area"]
    places = [(request["address"] - area) // 16 for request in held.requests]
    assert places[:5] == [batch * number for number in range(5)], "asked for twice"
    assert rig.failed.count == 0


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_head_in_the_next_line_proves_nothing(dut: Any) -> None:
    """The line with the rest of a chain was sampled too early, the next one, with a head, late."""
    rig = await flood_in_flight(dut)
    batch, driver, held = rig.batch, rig.drivers[1], rig.held
    chain = driver.plan(5)  # four of them fill the first line of the second fetch
    for step in chain[1:]:
        driver.write_flags(step)
    early = held.sample(2)
    for step in chain:
        driver.write_body(step)
    driver.write_flags(chain[0])
    for _ in range(batch - 4):
        driver.add_now(1)
    held.answer(held.sample(1))
    held.answer(early[:64] + held.sample(2)[64:])
    held.automatic = True
    driver.kick()
    await until(dut, lambda: rig.delivered[1] == 3 * batch - 4, 1000)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_chain_without_an_end_is_reported(dut: Any) -> None:
    """The head says that more follows, and nothing does: one error, a buffer that is in error.

    The walker gets an end of that chain, so that it need not wait, with the id that the last
    descriptor had; another virtqueue works on.
    """
    rig = Rig(dut, [100, 4 * params().batch], stall=0.0, held=True)
    await rig.start()
    driver, held = rig.drivers[1], rig.held
    held.automatic = True
    # A ring whose first chain, made by hand, has three of four descriptors.
    for slot in range(3):
        flags = (AVAIL | NEXT).to_bytes(2, "little")
        driver.put(slot, 0, bytes(12) + (7 + slot).to_bytes(2, "little") + flags)
    driver.expected.append([{} for _ in range(4)])
    rig.check_chains = False
    driver.kick()
    await until(dut, lambda: rig.failed.count == 1, 400)
    await until(dut, lambda: rig.committed[1] == 4, 50)
    ends = unpack(Descriptor, rig.store[1][3])
    assert (ends.next, ends.indirect, ends.length, ends.id) == (0, 1, 0, 9)
    other = rig.drivers[0]
    other.add_now(2)
    other.kick()
    await until(dut, lambda: rig.delivered[0] == 1, 500)
    await cycles(dut, 200)
    assert rig.failed.count == 1


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_lone_buffer_does_not_wait_for_the_rest(dut: Any) -> None:
    """Descriptors behind it that are not available pass while it is on its way."""
    rig = Rig(dut, [100, 8 * params().batch], stall=0.0, held=True)
    await rig.start()
    driver, held = rig.drivers[1], rig.held
    came, left = Moves(dut, "read_packet"), Moves(dut, "committed")
    driver.add_now(1)
    driver.kick()
    await until(dut, lambda: len(held.requests) == 1, 100)
    held.answer(held.sample(0))
    await until(dut, lambda: len(left.cycles) == 1, 100)
    # Two descriptors, of up to two beats each, and two cycles.
    assert left.cycles[0] - came.cycles[0] <= (6 if params().width == 64 else 4)
    beats = 16 * 8 * params().batch // params().width
    await until(dut, lambda: len(came.cycles) == beats, 50)


def boundary(rig: Rig, slot: int) -> int:
    """First slot, from this one on, in which a fetch of virtqueue 1 begins."""
    place = rig.guest.configs[1]["descriptor_area"] // 16
    return slot + -(place + slot) % rig.batch


async def works_on(rig: Rig) -> None:
    """Another virtqueue delivers what it gets."""
    driver, before = rig.drivers[0], rig.delivered[0]
    for length in (2, 1, 1):
        await driver.add(length)
    await until(rig.dut, lambda: rig.delivered[0] == before + 3, 3000)


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(fails=["the next fetch", "a later fetch", "a second look"])
async def a_failed_read_ends_a_chain_that_the_walker_is_in(dut: Any, fails: str) -> None:
    """A chain of which the walker has the beginning, and whose rest cannot be read, ends.

    One error, and a descriptor in error with the chain's id; nothing is read of that virtqueue
    any more, and another one works on.
    """
    rig = Rig(dut, [100, 256], stall=0.0, slow=False)
    await rig.start()
    driver = rig.drivers[1]
    area = rig.guest.configs[1]["descriptor_area"]
    singles = boundary(rig, 4) - 2  # the chain has two descriptors in the first fetch
    least = rig.depth - 2 * rig.batch + 1  # that the walker gets before the chain is whole
    failing = boundary(rig, singles + least if fails == "the next fetch" else 180)
    for _ in range(singles):
        driver.add_now(1)
    driver.add_now(240)
    chain = driver.expected[-1]
    ending = {**chain[0], "address": 0, "length": 0, "next": 0, "write": 0, "indirect": 1}
    failed: list[int] = []

    def fail(address: int) -> bool:
        slot = (address - area) // 16
        if address >> 24 != 2 or slot < failing:
            return False
        if not failed:
            chain[slot - singles :] = [ending]
        failed.append(slot)
        return True

    client = rig.ring_reads if fails == "a second look" else rig.reads
    client.fail = fail
    driver.kick()
    await until(dut, lambda: rig.delivered[1] == singles + 1, 4000)
    assert failed[0] == failing or fails == "a second look"
    await until(dut, lambda: dut.idle.value == 1, 500)
    rig.guest.reads.clear()
    rig.ring(1)
    await works_on(rig)
    assert all(queue == 0 for queue, _, _ in rig.guest.reads)
    assert rig.failed.count == 1


async def fails_for_a_while(rig: Rig, slot: int, delivered: int) -> None:
    """Reads that begin at a slot of virtqueue 1 fail; so many chains are in front of them.

    All is delivered after another doorbell, which a driver may send unasked.
    """
    driver, start = rig.drivers[1], rig.guest.configs[1]["descriptor_area"] + 16 * slot
    failing, hits, chains = True, 0, len(driver.expected)

    def fail(address: int) -> bool:
        nonlocal hits
        hit = failing and address == start
        hits += hit
        return hit

    rig.reads.fail = fail
    driver.kick()
    await until(rig.dut, lambda: rig.failed.count, 4000)
    await works_on(rig)
    await until(rig.dut, lambda: rig.dut.idle.value == 1, 500)
    assert rig.delivered[1] == delivered
    failing = False
    rig.ring(1)
    await until(rig.dut, lambda: rig.delivered[1] == chains, 1000)
    assert rig.failed.count == hits  # of two looks if a doorbell came late


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_failed_read_leaves_a_chain_for_the_next_doorbell(dut: Any) -> None:
    """Of a chain that the walker has nothing of, nothing is lost; a longer one went before it."""
    rig = Rig(dut, [100, 256], stall=0.0, slow=False)
    await rig.start()
    edge = boundary(rig, rig.depth)
    rig.drivers[1].add_now(edge - 2)
    rig.drivers[1].add_now(20)
    await fails_for_a_while(rig, edge, 1)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_failed_read_behind_whole_chains_ends_none(dut: Any) -> None:
    """The walker has whole buffers only, and the virtqueue is not halted."""
    rig = Rig(dut, [100, 256], stall=0.0, slow=False)
    await rig.start()
    edge = boundary(rig, rig.depth)
    for _ in range(edge + 4):
        rig.drivers[1].add_now(1)
    await fails_for_a_while(rig, edge, edge)


@pytest.mark.parametrize("width", [64, 128, 256, 512])
def test_packed_fetch_again(width: int) -> None:
    batch, depth = 16, 128
    simulate(
        Fetch(width, 4, 2, batch, depth, rings=("packed",)),
        module=__name__,
        name=f"packed_fetch_again_{width}",
        params={"width": width, "batch": batch, "depth": depth},
    )


@pytest.mark.parametrize("width", [64, 256])
def test_packed_fetch_small_store(width: int) -> None:
    """Room for two fetches: every chain that leaves a fetch is handed over in parts."""
    batch, depth = 16, 32
    simulate(
        Fetch(width, 4, 2, batch, depth, rings=("packed",)),
        module=__name__,
        name=f"packed_fetch_small_store_{width}",
        testcase=[
            "a_chain_without_an_end_is_reported",
            "a_failed_read_ends_a_chain_that_the_walker_is_in",
            "a_failed_read_behind_whole_chains_ends_none",
        ],
        params={"width": width, "batch": batch, "depth": depth},
    )
