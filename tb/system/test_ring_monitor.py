"""The ring monitor over the whole device: silent in clean traffic, and not blind."""

from __future__ import annotations

import random
import struct

import cocotb

from lib.net_system import MESSAGE_ADDRESS, NetSystem, exchange, small_config
from lib.ring_monitor import DEVICE
from lib.ring_monitor.attach import attach
from lib.sim import params, simulate
from lib.streams import cycles
from virtio_model.errors import ModelError
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


def post_all(system: NetSystem) -> None:
    while system.queues[0].free_slots:
        system.net.post(1600)


async def offer(system: NetSystem) -> None:
    """Fill the receive ring, so that the device is at work when something else happens."""
    post_all(system)
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

    async def post_early():
        post_all(system)
        await cycles(dut, 500)

    await system.start(before_driver_ok=post_early)
    await exchange(system, 20)
    await cycles(dut, 2000)
    monitor.finish().check()


def in_used(system: NetSystem, ring: str, address: int) -> bool:
    """Whether a used entry lies at an address."""
    size = 16 if ring == "packed" else 8
    for queue in system.queues:
        area = queue.desc_addr if ring == "packed" else queue.device_addr + 4
        if area <= address < area + size * queue.size:
            return True
    return False


def spoil(system: NetSystem, ring: str, fault: str) -> None:
    """Break one write of the device on its way to memory, or keep an interrupt from the host."""
    write = system.memory.device_write
    left = 9

    def spoiled(address: int, data: bytes) -> None:
        nonlocal left
        used = in_used(system, ring, address)
        if fault == "id" and used and len(data) >= 8:
            left -= 1
            if left == 0:
                at = 12 if ring == "packed" else 0
                wrong = struct.unpack_from("<H", data, at)[0] ^ 0x4000  # no buffer has this id
                data = data[:at] + struct.pack("<H", wrong) + data[at + 2 :]
        elif fault == "payload" and len(data) > 64 and not used:
            left -= 1
            if left == 0:
                return
        write(address, data)

    def swallowed(address: int, data: bytes) -> bool:
        nonlocal left
        if fault == "interrupt" and address == MESSAGE_ADDRESS:
            left -= 1
        return fault == "interrupt" and address == MESSAGE_ADDRESS and left <= 0

    system.memory.device_write = spoiled
    system.host.target.write_claims.insert(0, swallowed)


TOLD = {
    ("split", "id"): "fact-split-ring-03",
    ("packed", "id"): "fact-packed-ring-05",
    ("split", "payload"): "split-used-02",
    ("packed", "payload"): "fact-basic-virtqueue-01",
    ("split", "interrupt"): "split-usednotif-03",
    ("packed", "interrupt"): "fact-packed-event-01",
}


@cocotb.test(timeout_time=4, timeout_unit="ms")
@cocotb.parametrize(("ring", FORMATS), ("fault", ["id", "payload", "interrupt"]))
async def a_fault_is_told(dut, ring, fault):
    """A wrong id, a lost write of payload, lost interrupts: told by row, side and virtqueue."""
    system = make_system(dut, ring, ())
    monitor = attach(system, interrupt_limit=5000)
    spoil(system, ring, fault)  # on the device's side of the monitor
    await system.bring_up()
    try:
        await exchange(system, 60)
        await cycles(dut, 4000)
    except (AssertionError, ModelError):
        assert fault != "interrupt"  # the driver of `exchange` polls
    first = monitor.finish().breaches[0]
    assert (first.side, first.row) == (DEVICE, TOLD[ring, fault])
    assert first.queue in (0, 1)


def test_ring_monitor_in_the_system():
    simulate(
        VirtioDevice(small_config("net-x8")),
        module=__name__,
        name="ring_monitor_net-x8",
        params={"config": "net-x8"},
    )
