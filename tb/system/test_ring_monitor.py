"""The ring monitor over the whole device: silent in clean traffic, and not blind."""

from __future__ import annotations

import random
import struct

import cocotb
import pytest

from lib.net_system import NetSystem, exchange, small_config
from lib.ring_monitor import DEVICE
from lib.ring_monitor.attach import attach
from lib.sim import params, simulate
from lib.streams import cycles
from virtio_model.errors import DeviceBreach
from virtio_rtl.top import VirtioDevice

FORMATS = ("split", "packed")
FEATURES = {
    "plain": (),
    "events": ("indirect_desc", "event_idx"),
    "in_order": ("indirect_desc", "event_idx", "in_order"),
    "kicks": ("indirect_desc", "notification_data", "notif_config_data"),
}
RESETS = ("indirect_desc", "event_idx", "notification_data", "ring_reset", "suspend")


def make_system(dut, ring: str, features: tuple[str, ...], **options) -> NetSystem:
    return NetSystem(dut, small_config(params().config), ring=ring, features=features, **options)


@cocotb.test(timeout_time=4, timeout_unit="ms")
@cocotb.parametrize(("ring", FORMATS), ("features", list(FEATURES)))
async def silent_in_traffic(dut, ring, features):
    """Random frames both ways with random stalls: nobody breaks a rule, and all was seen."""
    system = make_system(dut, ring, FEATURES[features], rx_size=32, tx_size=16, stall=0.1)
    monitor = attach(system)
    await system.bring_up()
    await exchange(system, 60)
    await cycles(dut, 2000)
    assert [queue.used >= 60 for queue in monitor.queues.values()] == [True, True]
    monitor.finish().check()


async def offer(system: NetSystem) -> None:
    """Fill the receive ring, so that the device is at work when something else happens."""
    while system.queues[0].free_slots:
        system.net.post(1600)
    await system.kick(0)


@cocotb.test(timeout_time=8, timeout_unit="ms")
@cocotb.parametrize(("ring", FORMATS))
async def silent_through_resets(dut, ring):
    """Resets of the device, of a virtqueue, of the function, and suspend, all under way."""
    system = make_system(dut, ring, RESETS)
    monitor = attach(system)
    await system.bring_up()
    await exchange(system, 20)
    await offer(system)
    await system.reset_queue(random.randrange(2))
    await exchange(system, 20)
    await system.suspend()
    await cycles(dut, 500)
    await system.resume()
    await exchange(system, 20)
    await offer(system)
    await system.start()
    await exchange(system, 20)
    await system.function_level_reset()
    await system.restore()
    await system.start()
    await exchange(system, 20)
    await cycles(dut, 2000)
    monitor.finish().check()


def spoil_used(system: NetSystem, ring: str, number: int) -> None:
    """Make the id in the device's `number`th used entry one that no buffer has."""
    write = system.memory.device_write
    size, at = (16, 12) if ring == "packed" else (8, 0)
    seen = 0

    def spoiled(address: int, data: bytes) -> None:
        nonlocal seen
        for queue in system.queues:
            area = queue.desc_addr if ring == "packed" else queue.device_addr + 4
            if area <= address < area + size * queue.size and len(data) >= size:
                seen += 1
                if seen == number:
                    old = struct.unpack_from("<H", data, at)[0]
                    data = data[:at] + struct.pack("<H", old ^ 0x4000) + data[at + 2 :]
        write(address, data)

    system.memory.device_write = spoiled


@cocotb.test(timeout_time=4, timeout_unit="ms")
@cocotb.parametrize(("ring", FORMATS))
async def a_spoiled_used_entry_is_told(dut, ring):
    """One wrong id in a used entry: the monitor names the row, the device and the virtqueue."""
    system = make_system(dut, ring, ())
    spoil_used(system, ring, 9)
    monitor = attach(system)
    await system.bring_up()
    with pytest.raises(DeviceBreach):
        await exchange(system, 60)
    report = monitor.finish()
    first = report.breaches[0]
    assert first.side == DEVICE
    assert first.row == {"split": "fact-split-ring-03", "packed": "fact-packed-ring-05"}[ring]
    assert first.queue in (0, 1)


def test_ring_monitor_in_the_system():
    simulate(
        VirtioDevice(small_config("net-x8")),
        module=__name__,
        name="ring_monitor_net-x8",
        params={"config": "net-x8"},
    )
