"""PackedFetch: fetches that are read again, chains that a driver does not finish."""

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

    The walker gets an end of that chain, so that it need not wait; another virtqueue works on.
    """
    rig = Rig(dut, [100, 4 * params().batch], stall=0.0, held=True)
    await rig.start()
    driver, held = rig.drivers[1], rig.held
    held.automatic = True
    # A ring whose first chain, made by hand, has three of four descriptors.
    for slot in range(3):
        flags = (AVAIL | NEXT).to_bytes(2, "little")
        driver.put(slot, 0, bytes(14) + flags)
    driver.expected.append([{} for _ in range(4)])
    rig.check_chains = False
    driver.kick()
    await until(dut, lambda: rig.failed.count == 1, 400)
    await until(dut, lambda: rig.committed[1] == 4, 50)
    ends = unpack(Descriptor, rig.store[1][3])
    assert (ends.next, ends.indirect, ends.length) == (0, 1, 0)
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


@pytest.mark.parametrize("width", [64, 128, 256, 512])
def test_packed_fetch_again(width: int) -> None:
    batch, depth = 16, 128
    simulate(
        Fetch(width, 4, 2, batch, depth, rings=("packed",)),
        module=__name__,
        name=f"packed_fetch_again_{width}",
        params={"width": width, "batch": batch, "depth": depth},
    )
