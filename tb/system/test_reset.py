"""Reset is a drain: device reset, function level reset and bus mastering off, in mid-traffic."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import cocotb

from lib.net_system import NetSystem, exchange, random_frame, small_config
from lib.sim import params, simulate
from lib.streams import cycles
from virtio_rtl.top import VirtioDevice


def make_system(dut, **options) -> NetSystem:
    return NetSystem(dut, small_config(params().config), **options)


@asynccontextmanager
async def no_dma(system: NetSystem) -> AsyncIterator[None]:
    """Within the block no read, no write and no interrupt comes."""

    def so_far():
        return system.memory_reads, len(system.dma_writes), len(system.interrupts)

    before = so_far()
    yield
    assert so_far() == before


async def forget_received_frames(system: NetSystem) -> None:
    """Drop what has not been started at the port, and let a started frame end."""
    system.source.clear()
    await system.until(lambda: system.source.idle)


async def start_flood(system: NetSystem) -> None:
    """Both virtqueues full, frames on their way in; do not wait for anything."""
    while system.queues[1].free_slots >= 2:
        system.net.send(random_frame(600), cookie=0)
    while system.queues[0].free_slots:
        system.net.post(1600)
    await system.kick(1)
    await system.kick(0)
    for _ in range(30):
        system.source.send(random_frame(600))


@cocotb.test(timeout_time=3, timeout_unit="ms")
async def device_reset_in_mid_traffic(dut):
    """Once status reads 0, no DMA and no interrupt comes any more; then all works again."""
    system = make_system(dut)
    await system.bring_up()
    for _ in range(8):
        await start_flood(system)
        await cycles(dut, random.randint(0, 1200))
        await system.pci.reset()
        async with no_dma(system):
            await cycles(dut, 1000)
        await forget_received_frames(system)
        await system.start()
        await exchange(system, 8)
    system.host.check()


@cocotb.test(timeout_time=3, timeout_unit="ms")
async def function_level_reset_in_mid_traffic(dut):
    """FLR drains, forgets BARs and enables, and the function comes back as after power-up."""
    system = make_system(dut)
    await system.bring_up()
    for _ in range(4):
        await start_flood(system)
        await cycles(dut, random.randint(0, 1000))
        await system.function_level_reset()
        async with no_dma(system):
            assert await system.access.config_read(0x10, 4) & ~0xF == 0
            assert await system.access.config_read(4, 2) & 6 == 0
            await cycles(dut, 1000)
        await forget_received_frames(system)
        await system.restore()
        assert await system.pci.status() == 0
        await system.start()
        await exchange(system, 8)
    system.host.check()


@cocotb.test(timeout_time=3, timeout_unit="ms")
async def bus_master_off_in_mid_traffic(dut):
    """Without bus mastering no new request leaves; with it the traffic goes on, nothing lost."""
    system = make_system(dut)
    await system.bring_up()
    task = cocotb.start_soon(exchange(system, 120))
    for _ in range(4):
        await cycles(dut, random.randint(400, 1500))
        command = await system.access.config_read(4, 2)
        await system.access.config_write(4, command & ~4, 2)
        await cycles(dut, 300)
        async with no_dma(system):
            await cycles(dut, 800)
        await system.access.config_write(4, command, 2)
    await task


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def reset_without_bus_mastering(dut):
    """A device reset is answered even when nothing may be sent."""
    system = make_system(dut)
    await system.bring_up()
    await start_flood(system)
    await cycles(dut, 300)
    command = await system.access.config_read(4, 2)
    await system.access.config_write(4, command & ~4, 2)
    await cycles(dut, 50)
    await system.pci.reset()
    await system.access.config_write(4, command, 2)
    await forget_received_frames(system)
    await system.start()
    await exchange(system, 8)


def test_reset():
    simulate(
        VirtioDevice(small_config("net-x8")),
        module=__name__,
        name="reset",
        params={"config": "net-x8"},
    )
