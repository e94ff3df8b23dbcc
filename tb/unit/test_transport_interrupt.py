"""Interrupt selection: MSI-X vectors or ISR bits."""

from __future__ import annotations

import random
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from lib.sim import simulate
from lib.streams import StreamSink, StreamSource, cycles, reset, start_clock
from virtio_rtl.transport.interrupt import InterruptRouter
from virtio_rtl.types.virtqueue import InterruptRequest

NO_VECTOR = 0xFFFF
VECTORS = {q: NO_VECTOR if q % 5 == 3 else (7 * q) % 2048 for q in range(64)}


class World:
    """The queue table, ISR status and settings around the router."""

    def __init__(self, dut: Any, stall: float) -> None:
        self.dut = dut
        start_clock(dut)
        dut.vector_lookup__vector.value = 0
        self.isr: list[str] = []
        self.set(msix=1, enable=1, config_vector=9)
        self.requests = StreamSource(dut, "request", InterruptRequest, stall=stall)
        self.vectors = StreamSink(dut, "vector", stall=stall)
        cocotb.start_soon(self._table())

    def set(self, msix: int, enable: int, config_vector: int) -> None:
        """Apply settings."""
        self.dut.msix_enable.value = msix
        self.dut.enable.value = enable
        self.dut.config_vector.value = config_vector

    async def _table(self) -> None:
        dut, edge = self.dut, RisingEdge(self.dut.clk)
        while True:
            await edge
            queue = int(dut.vector_lookup__queue.value)
            dut.vector_lookup__vector.value = VECTORS.get(queue, random.getrandbits(16))
            for name in ("queue", "config"):
                if int(getattr(dut, f"{name}_event").value):
                    self.isr.append(name)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def every_event_goes_where_it_should(dut: Any) -> None:
    """All settings, random events, stalls: vectors and ISR events exactly as specified."""
    world = World(dut, 0.4)
    await reset(dut)
    for msix, enable, config_vector in [
        (1, 1, 9), (1, 1, NO_VECTOR), (0, 1, 9), (1, 0, 9), (0, 0, 9), (1, 1, 2047),
    ]:  # fmt: skip
        world.set(msix, enable, config_vector)
        world.isr.clear()
        events = [
            {"queue": random.randrange(64), "config": int(random.random() < 0.2), "function": 0}
            for _ in range(200)
        ]
        world.requests.queue(events)
        await world.requests.idle()
        await cycles(dut, 50)
        assert int(dut.idle.value) == 1
        vectors, isr = [], []
        for event in events if enable else []:
            if event["config"]:
                isr.append("config")
            elif not msix:
                isr.append("queue")
            vector = config_vector if event["config"] else VECTORS[event["queue"]]
            if msix and vector != NO_VECTOR:
                vectors.append(vector)
        assert [world.vectors.now() for _ in range(len(world.vectors))] == vectors
        assert world.isr == isr


@cocotb.test(timeout_time=100, timeout_unit="us")
async def one_request_a_cycle(dut: Any) -> None:
    """64 requests in 64 cycles; a vector stands at the output two cycles after its request."""
    world = World(dut, 0.0)
    await reset(dut)
    await cycles(dut, 3)
    queues = [q for q in VECTORS if VECTORS[q] != NO_VECTOR] * 2
    world.requests.queue({"queue": q} for q in queues[:64])
    while not int(dut.request__valid.value):
        await RisingEdge(dut.clk)
    await cycles(dut, 64 + 1)
    assert world.requests.count == 64
    assert len(world.vectors) == 63
    await cycles(dut, 1)
    assert await world.vectors.take(64) == [VECTORS[q] for q in queues[:64]]


@cocotb.test(timeout_time=100, timeout_unit="us")
async def isr_bit_comes_before_the_message(dut: Any) -> None:
    """With MSI-X, ISR bit 1 is set no later than the configuration vector is offered."""
    world = World(dut, 0.0)
    await reset(dut)
    world.requests.queue([{"config": 1}])
    while not int(dut.vector__valid.value):
        await RisingEdge(dut.clk)
    assert world.isr == ["config"]


@cocotb.test(timeout_time=100, timeout_unit="us")
async def idle_covers_everything_inside(dut: Any) -> None:
    """From the cycle after a request is taken until its vector is taken, idle is low."""
    world = World(dut, 0.0)
    world.vectors.stall = 1.0
    await reset(dut)
    world.requests.queue([{"queue": 1}])
    while world.requests.count == 0:
        await RisingEdge(dut.clk)
    for _ in range(20):
        assert int(dut.idle.value) == 0
        await RisingEdge(dut.clk)
    assert int(dut.idle.value) == 0
    world.vectors.stall = 0.0
    await world.vectors.receive()
    await cycles(dut, 1)
    assert int(dut.idle.value) == 1


def test_interrupt_router() -> None:
    """The router in simulation."""
    simulate(InterruptRouter(), module=__name__, name="interrupt_router")
