"""Reset of one virtqueue, as a driver sees it through BAR 0. [virtio 1.4 §2.6.1]"""

from __future__ import annotations

import random
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge
from transport_bench import Bench, run, seen, set_up_queue
from transport_helper import (
    BASE,
    NO_VECTOR,
    RING_RESET,
    CommonModel,
    config,
    negotiate,
    strobe,
)

from lib.sim import params
from lib.streams import cycles, reset

ENABLE, NOTIF_CONFIG, RESET = 0x1C, 0x38, 0x3A


async def running(bench: Bench, features: int = BASE | RING_RESET) -> list[dict[str, int]]:
    """A driver that has set all virtqueues up; return what the engine is to see."""
    device = config(params().pairs, params().vectors)
    await negotiate(bench.bus, features, status=11)
    queues = [await set_up_queue(bench.bus, q, 1) for q in range(device.num_queues)]
    await bench.bus.write(0x14, 15, 1)
    return queues


async def registers(bench: Bench, queue: int) -> list[int]:
    """The banked registers of a virtqueue, as read."""
    await bench.bus.write(0x16, queue, 2)
    return [await bench.bus.read(offset) for offset in range(0x18, 0x3C, 4)]


def fresh(queue: int) -> list[int]:
    """What they read after a reset."""
    model = CommonModel(config(params().pairs, params().vectors), params().kind)
    return [model.queues.read(queue, offset) for offset in range(0x18, 0x3C, 4)]


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def one_virtqueue_starts_again(dut: Any) -> None:
    """Step by step, with the engine at each; then set up anew, with other values."""
    bench = Bench(dut, stall=0.2)
    bus = bench.bus
    await reset(dut)
    bench.control(msix=1)
    expected = await running(bench)
    count = len(expected)
    for _ in range(6):
        queue = random.randrange(count)
        others = {q: await registers(bench, q) for q in range(count) if q != queue}
        await registers(bench, queue)
        bench.engine(rested=0, fetch_idle=0)
        await bus.write(RESET, 1, 2)
        assert await bus.read(RESET, 2) == 1
        await cycles(dut, 60)
        assert (int(dut.pause.value), int(dut.hold.value)) == (1, 0)
        assert (int(dut.resetting.value), int(dut.suspending.value)) == (1, 0)
        bench.engine(rested=1, fetch_idle=0)
        await cycles(dut, 60)
        assert (int(dut.pause.value), int(dut.hold.value)) == (1, 1)
        assert await bus.read(RESET, 2) == 1
        assert await bus.read(ENABLE, 2) == 1
        assert await bench.lookup(queue) == expected[queue]
        # Its last interrupt is still on its way, and finds the vector.
        bench.vectors.stall = 1.0
        await bench.interrupts.send({"queue": queue})
        bench.engine(rested=1, fetch_idle=1)
        await cycles(dut, 60)
        assert await bus.read(RESET, 2) == 1
        bench.vectors.stall = 0.2
        forgotten = []
        while int(dut.hold.value):
            await RisingEdge(dut.clk)
            if int(dut.forget.value):
                forgotten.append(int(dut.forget_queue.value))
        assert forgotten == [queue]
        assert int(dut.resetting.value) == 0
        assert seen(bench.vectors) == [1]
        assert await registers(bench, queue) == fresh(queue)
        assert (await bench.lookup(queue)).enabled == 0
        for other, values in others.items():
            assert await registers(bench, other) == values
            assert await bench.lookup(other) == expected[other]
        assert int(dut.pause.value) == 0
        assert await bus.read(0x14, 1) == 15
        bench.interrupts.queue([{"queue": queue}])  # its vector is gone
        expected[queue] = await set_up_queue(bus, queue, 1)
        assert await bench.enabled.receive() == queue
        assert await bus.read(RESET, 2) == 0
        assert await bench.lookup(queue) == expected[queue]
    assert seen(bench.vectors) == []


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def many_at_once(dut: Any) -> None:
    """Resets asked for while one is under way, twice even, are all done, each once."""
    bench = Bench(dut)
    bus = bench.bus
    await reset(dut)
    count = len(await running(bench))
    bench.engine(rested=0, fetch_idle=0)
    order = random.sample(range(count), count)
    for queue in [*order, *order]:
        await bus.write(0x16, queue, 2)
        await bus.write(RESET, 1, 2)
        assert await bus.read(RESET, 2) == 1
    await bus.write(0x1A, 0, 2)  # the vector of one that is about to be forgotten
    bench.engine(rested=1, fetch_idle=1)
    forgotten = []
    for _ in range(100 + 6 * count):
        await RisingEdge(dut.clk)
        if int(dut.forget.value):
            forgotten.append(int(dut.forget_queue.value))
    assert forgotten == order
    for queue in range(count):
        assert await registers(bench, queue) == fresh(queue)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def only_what_may_be_reset_is(dut: Any) -> None:
    """Nothing happens without the feature, for other values and where there is no virtqueue."""
    bench = Bench(dut)
    bus = bench.bus
    await reset(dut)
    count = config(params().pairs, params().vectors).num_queues
    for features in (BASE, BASE | RING_RESET):
        await bus.write(0x16, 0, 2)
        await bus.write(RESET, 1, 2)  # before negotiation
        await running(bench, features)
        for queue, value, size in (
            (0, 0, 2), (0, 2, 2), (0, 0x101, 2), (0, 0x100, 2), (0, 0xFFFF, 2), (count, 1, 2),
            (0xFFFF, 1, 2), (0, 0, 1), *([(0, 1, 2)] if features == BASE else []),
        ):  # fmt: skip
            await bus.write(0x16, queue, 2)
            await bus.write(RESET, value, size)
            assert await bus.read(RESET, 2) == 0
            assert await bus.read(ENABLE, 2) == (queue < count)
            await cycles(dut, 5)
            assert int(dut.pause.value) == 0
        await bench.reset_device()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def also_one_that_is_not_enabled(dut: Any) -> None:
    """What was set of a virtqueue goes, enabled or not, before DRIVER_OK or after."""
    bench = Bench(dut)
    bus = bench.bus
    await reset(dut)
    for status in (11, 15):
        await negotiate(bus, BASE | RING_RESET, status)
        await bus.write(0x16, 1, 2)
        await bus.write(0x18, 3, 2)
        await bus.write(0x20, 0x1234_5678_9ABC_DEF0, 8)
        await bus.write(0x1A, 0, 2)
        await bus.write(RESET, 1, 2)
        while await bus.read(RESET, 2):
            pass
        assert await registers(bench, 1) == fresh(1)
        await bench.reset_device()
    assert seen(bench.enabled) == []


@cocotb.test(timeout_time=4, timeout_unit="ms")
async def a_reset_ends_it(dut: Any) -> None:
    """A device or function reset at any step: nothing is forgotten later, all reads as new."""
    bench = Bench(dut)
    bus = bench.bus
    await reset(dut)
    for step in range(60):
        count = len(await running(bench))
        bench.engine(rested=int(step > 20), fetch_idle=int(step > 30))
        for queue in (count - 1, 0):
            await bus.write(0x16, queue, 2)
            await bus.write(RESET, 1, 2)
        await cycles(dut, step)
        if step & 1:
            dut.stop.value = 1
            await cycles(dut, 2)
        else:
            bench.answer.delay = lambda: 60
            await bus.write(0x14, 0, 1)
            dut.stop.value = 1
            await cycles(dut, 2)
        bench.engine(rested=1, fetch_idle=1)
        for _ in range(50):
            await RisingEdge(dut.clk)
            assert int(dut.forget.value) == int(dut.pause.value) == int(dut.hold.value) == 0
        if step & 1:
            await strobe(dut, "function_reset")
        while await bus.read(0x14, 1):
            pass
        dut.stop.value = 0
        for _ in range(60):
            await RisingEdge(dut.clk)
            assert int(dut.forget.value) == int(dut.pause.value) == 0
        for queue in range(count):
            assert await registers(bench, queue) == fresh(queue)
        assert await bus.read(0x1A, 2) == NO_VECTOR


def test_queue_reset() -> None:
    """A device with three queue pairs in simulation."""
    run(__name__, "transport_queue_reset", pairs=3, vectors=4, kind="whole")
