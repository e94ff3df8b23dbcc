"""Used: used buffers bit for bit in both ring formats, in order, neighbours in one write."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from used_rig import INPUTS, LINGER, LINGER_CROWDED, QUEUES, READ_ONLY, Rig, Write
from virtqueue_helper import Moves, busy_while_offered, nothing_more, spread, until

from lib.sim import params, simulate
from lib.streams import cycles, reset
from virtio_rtl.virtqueue.used import Used


def whole(counts: list[int]) -> list[Write]:
    """Writes with one entry a buffer."""
    return [Write(count, count) for count in counts]


def sizes() -> list[int]:
    """Sizes of all virtqueues, below, at and above that of a batch."""
    batch = params().batch
    choices = [1, 2, 3, 7, 17, batch, batch + 1, 3 * batch, 64, 100]
    if params().ring == "split":
        choices = [1, 2, 4, 8, 16, 64, 128, 32768]
    return random.choices(choices, k=QUEUES)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def writes_what_was_completed(dut: Any) -> None:
    """Random completions of several virtqueues, chains, ring sizes, stalls and idle times."""
    rig = Rig(dut, sizes(), stall=random.choice([0.0, 0.3]))
    await reset(dut)
    for _ in range(80):
        queue = random.randrange(QUEUES)
        longest = min(rig.rings[queue].size, random.choice([1, 1, 2, 9]))
        for _ in range(random.choice([1, 1, 3, 20])):
            rig.put(queue, random.randint(1, longest))
        if random.random() < 0.3:
            dut.busy.value = random.getrandbits(1)
            await cycles(dut, random.choice([1, 10, 100]))
    await rig.check()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def laps_end_to_end(dut: Any) -> None:
    """Packed rings of any size up to 32768: chains skip past the end, the wrap counter toggles."""
    sizes = [1, 2, 3, 17, 32767, 32768]
    rig = Rig(dut, sizes, stall=0.1)
    await reset(dut)
    for queue, size in enumerate(sizes):
        for _ in range(5):
            rig.put(queue, max(size - random.randint(0, 3), 1))
            for _ in range(random.randint(0, 4)):
                rig.put(queue, random.randint(1, min(size, 3)))
    await rig.check()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def the_index_runs_past_65535(dut: Any) -> None:
    """A small split ring and one of 32768, until their used indices have wrapped."""
    rig = Rig(dut, [32768, 8] + [1] * (QUEUES - 2), stall=0.0, latency=(0, 0))
    await reset(dut)
    for _ in range(65536 // params().batch + 2):
        for _ in range(params().batch):
            rig.put(0)
        await rig.sources[0].idle()
        rig.look()
    await rig.check()
    assert rig.rings[0].index == 2 * params().batch


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_flood_goes_in_whole_batches(dut: Any) -> None:
    """Several virtqueues interleaved, buffers still inside: every write is a full batch."""
    batch = params().batch
    rig = Rig(dut, [2 * batch, 4 * batch] + [batch] * 4, stall=0.0)
    await reset(dut)
    for _ in range(3 * batch):
        for queue in (0, 1):
            rig.put(queue)
    writes = await rig.check()
    assert writes[:2] == [whole([batch] * 3)] * 2


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def linger_counts_from_the_open_batch(dut: Any) -> None:
    """A steady flow that fills a batch within `linger` is not cut where an earlier one began."""
    batch = params().batch
    rig = Rig(dut, [4 * batch] * QUEUES, stall=0.0)
    await reset(dut)
    await cycles(dut, QUEUES)
    gap = (LINGER - 40) // batch
    for _ in range(4 * batch):
        rig.put(3)
        await cycles(dut, gap)
    writes = await rig.check()
    assert writes[3] == whole([batch] * 4)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_packed_batch_ends_where_it_must(dut: Any) -> None:
    """At the ring's end, at a multiple of the batch, and behind a chain of several slots."""
    batch = params().batch
    rig = Rig(dut, [batch + 3, 4 * batch, 100, 100, 1, 100], stall=0.0)
    await reset(dut)
    for _ in range(2 * (batch + 3)):
        rig.put(0)
    rig.put(1, 2)
    for _ in range(batch - 2):
        rig.put(1)
    rig.put(3)
    rig.put(3, 3)
    rig.put(3)
    for _ in range(3):
        rig.put(4)
    writes = await rig.check()
    assert writes[0] == whole([batch, 3] * 2)
    # batch 4: slots 2 and 3 are left up to the multiple of the batch
    assert writes[1] == whole([1, batch - 2])
    assert writes[3] == whole([2, 1])
    assert writes[4] == whole([1, 1, 1])


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_split_batch_ends_where_it_must(dut: Any) -> None:
    """At a multiple of the batch and at the ring's end, however many descriptors a chain has."""
    batch = params().batch
    rig = Rig(dut, [4 * batch, 1, 2, batch // 2, batch, 4 * batch], stall=0.0)
    await reset(dut)
    for queue in range(5):
        for _ in range(2 * batch):
            rig.put(queue)
        await rig.check()
    rig.put(5)
    await rig.check()
    for _ in range(batch):
        rig.put(5)
    writes = await rig.check()
    assert writes[0] == whole([batch] * 2)
    assert writes[1] == whole([1] * 2 * batch)
    assert writes[2] == whole([2] * batch)
    assert writes[3] == whole([batch // 2] * 4)
    assert writes[4] == whole([batch] * 2)
    assert writes[5] == whole([1, batch - 1, 1])


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_lone_buffer_is_not_delayed(dut: Any) -> None:
    """With nothing else inside, the write is offered in the third cycle.

    A packed descriptor at 64 bits takes two beats, and one cycle more; so does the used index.
    """
    rig = Rig(dut, [128] * QUEUES, stall=0.0)
    dut.busy.value = 0
    came, left = Moves(dut, "completion_0"), Moves(dut, "request")
    await reset(dut)
    await cycles(dut, QUEUES)
    requests = 1 if rig.packed else 2
    for number in range(5):
        rig.put(random.choice([0, 2, 4]))
        await until(dut, lambda: len(left.cycles) == (number + 1) * requests, 100)  # noqa: B023
        later = int(not rig.packed or params().width == 64)
        assert left.cycles[-1] - came.cycles[-1] == 3 + later
    await rig.check()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def nobody_waits_longer_than_linger(dut: Any) -> None:
    """While other buffers stay inside, an entry waits `linger` cycles, and not much more."""
    rig = Rig(dut, [128] * QUEUES, stall=0.0)
    came, left = Moves(dut, "completion_0"), Moves(dut, "packet")
    await reset(dut)
    await cycles(dut, QUEUES)
    for _ in range(3):
        rig.put(2)
        before = len(left.cycles)
        await until(dut, lambda: len(left.cycles) > before, 400)  # noqa: B023
        assert LINGER <= left.cycles[before] - came.cycles[-1] <= LINGER + 10
        await cycles(dut, 16384 - 210)  # about once around the 14-bit clock
    assert await rig.check()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_completion_a_cycle(dut: Any) -> None:
    """Whatever the input, while batches go out beside it: those set the pace in the long run."""
    rig = Rig(dut, [1024] * QUEUES, stall=0.0, latency=(0, 0))
    moves = [Moves(dut, f"completion_{i}") for i in range(2)]
    left = Moves(dut, "packet")
    await reset(dut)
    for _ in range(64):
        rig.put(0)
        rig.put(1)
    await rig.check()
    stamps = sorted(moves[0].cycles + moves[1].cycles)
    assert len(stamps) == 128
    assert spread(stamps[:32]) <= 34
    # Sixteen entries, one a cycle (a packed one of two beats), and the used index.
    each = 16 * max(128 // params().width, 1) if rig.packed else 17
    # The model of the write engine needs some cycles between two packets.
    model = 5
    assert spread(stamps) <= 128 // 16 * (each + model)
    assert spread(left.cycles) <= 128 // 16 * (each + model)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_crowded_path_is_worth_waiting_for(dut: Any) -> None:
    """While the posted path is the bottleneck batches stay open longer, and close when it is not.

    Many virtqueues in turn, slower than `linger` each: single buffers, or whole batches.
    """
    batch = params().batch
    rig = Rig(dut, [4 * batch] * QUEUES, stall=0.0)
    dut.crowded.value = 1
    await reset(dut)
    await cycles(dut, QUEUES)
    for _ in range(batch):
        for queue in range(QUEUES):
            rig.put(queue)
        await cycles(dut, LINGER // 2)
    assert await rig.check() == [whole([batch])] * QUEUES
    count = rig.writes.groups.__len__
    rig.put(5)
    await cycles(dut, 2 * LINGER)
    assert count() == QUEUES
    dut.crowded.value = 0
    await until(dut, lambda: count() == QUEUES + 1, LINGER_CROWDED)
    rig.put(5)
    await cycles(dut, LINGER // 2)
    left = Moves(dut, "packet")
    dut.crowded.value = 1
    await until(dut, lambda: count() == QUEUES + 2, 2 * LINGER_CROWDED)
    assert left.cycles[0] >= LINGER_CROWDED // 2


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def idle_means_nothing_is_left(dut: Any) -> None:
    """Whenever it is idle, all that was completed has been written and told; and it gets idle."""
    rig = Rig(dut, sizes(), stall=0.3)
    await reset(dut)
    busy_while_offered(dut, "completion_0", "completion_1", "written")
    for _ in range(30):
        for _ in range(random.choice([1, 1, 2, 40])):
            rig.put(random.randrange(QUEUES))
        dut.busy.value = random.getrandbits(1)
        for source in rig.sources:
            await source.idle()
        await rig.rest()
        assert rig.look()
        assert rig.written.count == len(rig.writes.groups)
        await nothing_more(dut, wait=random.choice([0, 1, 30]))
        assert bool(dut.idle.value)
    await rig.check()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_virtqueue_is_forgotten(dut: Any) -> None:
    """After a virtqueue reset the ring begins again; the others, in mid-traffic, go on."""
    rig = Rig(dut, [64] * QUEUES, stall=random.choice([0.0, 0.3]))
    await reset(dut)
    for _ in range(12):
        for _ in range(random.randint(1, 60)):
            rig.put(random.randrange(QUEUES))
        for source in rig.sources:
            await source.idle()
        await rig.rest()
        await until(dut, rig.look)
        # While others complete in the very same cycles.
        victim = random.randrange(QUEUES)
        for _ in range(20):
            rig.put(random.choice([queue for queue in range(QUEUES) if queue != victim]))
        await cycles(dut, random.randint(0, 20))
        dut.forget.value, dut.forget_queue.value = 1, victim
        await cycles(dut)
        dut.forget.value, dut.forget_queue.value = 0, random.getrandbits(16)
        rig.rings[victim].begin()
        await cycles(dut, random.randint(1, 4))
    await rig.check()


COMMON = [
    "writes_what_was_completed", "a_flood_goes_in_whole_batches",
    "linger_counts_from_the_open_batch", "a_lone_buffer_is_not_delayed",
    "nobody_waits_longer_than_linger", "a_completion_a_cycle",
    "a_crowded_path_is_worth_waiting_for", "idle_means_nothing_is_left",
    "a_virtqueue_is_forgotten",
]  # fmt: skip
SHORT = ["writes_what_was_completed", "idle_means_nothing_is_left"]
OWN = {
    "packed": ["laps_end_to_end", "a_packed_batch_ends_where_it_must"],
    "split": ["a_split_batch_ends_where_it_must"],
}


@pytest.mark.parametrize("ring", ["packed", "split"])
@pytest.mark.parametrize(("width", "batch"), [(64, 16), (128, 4), (256, 8), (512, 16)])
def test_used(width: int, batch: int, ring: str) -> None:
    long = ["the_index_runs_past_65535"] if (width, batch, ring) == (512, 16, "split") else []
    simulate(
        Used(width, QUEUES, INPUTS, batch, LINGER, LINGER_CROWDED, read_only=READ_ONLY),
        module=__name__,
        name=f"used_{ring}_{width}_{batch}",
        testcase=(COMMON if batch == 16 else SHORT) + OWN[ring] + long,
        params={"width": width, "batch": batch, "ring": ring},
    )


@pytest.mark.parametrize("ring", ["packed", "split"])
def test_one_format_only(ring: str) -> None:
    """The other format is not built, nor is IN_ORDER; whatever the features say."""
    simulate(
        Used(
            128, QUEUES, INPUTS, 16, LINGER, LINGER_CROWDED, rings=(ring,), in_order=False,
            read_only=READ_ONLY,
        ),
        module=__name__,
        name=f"used_{ring}_only",
        testcase=COMMON + OWN[ring],
        params={"width": 128, "batch": 16, "ring": ring, "any_features": True},
    )  # fmt: skip


@pytest.mark.parametrize("ring", ["packed", "split"])
def test_batch_of_one(ring: str) -> None:
    """Every used buffer by itself."""
    simulate(
        Used(128, QUEUES, INPUTS, 1, LINGER, read_only=READ_ONLY),
        module=__name__,
        name=f"used_single_{ring}",
        testcase="writes_what_was_completed",
        params={"width": 128, "batch": 1, "ring": ring},
    )
