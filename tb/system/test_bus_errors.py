"""Errors on the bus have a defined end: DEVICE_NEEDS_RESET, a notification, recovery by reset."""

from __future__ import annotations

import cocotb
from system_helper import counter

from lib.net_system import NetSystem, exchange, random_frame, small_config
from lib.sim import params, simulate
from lib.streams import cycles
from virtio_model.spec.status import DeviceStatus
from virtio_rtl.top import VirtioDevice

COUNTER_OF = {
    "ur": "read_unsupported",
    "ca": "read_aborted",
    "poison": "read_poisoned",
    "drop": "read_timeout",
}


def make_system(dut, **options) -> NetSystem:
    return NetSystem(dut, small_config(params().config), **options)


async def needs_reset(system: NetSystem) -> None:
    """The status bit is there, and its interrupt; a reset makes the device work again."""
    await system.until(lambda: 0 in system.interrupts, 40_000)
    assert await system.pci.status() & DeviceStatus.DEVICE_NEEDS_RESET
    system.host.target.faults.clear()
    system.host.interrupts.received.clear()
    sent = len(system.sink.frames)
    await system.start()
    await exchange(system, 8)
    assert len(system.sink.frames) == sent + 8


@cocotb.test(timeout_time=3, timeout_unit="ms")
async def failed_reads_need_a_reset(dut):
    """Each kind of failure at each kind of read: descriptors, table, payload, event state."""
    system = make_system(dut)
    await system.bring_up()
    for kind, counter_name in COUNTER_OF.items():
        for place in ("descriptors", "table", "payload", "events"):
            # The device looks at every virtqueue after DRIVER_OK; that look must be over.
            await cycles(dut, 600)
            before = await counter(system, counter_name)
            left = len(system.sink.frames)
            queue = system.queues[1]
            descriptor = queue.desc_addr + 16 * queue.avail_position[0]
            system.net.send(random_frame(200), indirect=place == "table", cookie=0)
            buffer = system.memory.read_u64(descriptor)
            start = {
                "descriptors": descriptor,
                "table": buffer,
                "payload": buffer,
                "events": queue.driver_addr,
            }[place]
            system.host.fault(start, start + 4, kind, count=1)
            await system.kick(1)
            await system.until(lambda: 0 in system.interrupts, 40_000)
            assert await counter(system, counter_name) == before + 1, (kind, place)
            expected = left + (place == "events")
            assert len(system.sink.frames) == expected, (kind, place)
            await needs_reset(system)
    assert system.sink.errors == 0


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def stray_completions_do_no_harm(dut):
    """Duplicate and unexpected completions are dropped and counted; traffic goes on."""
    system = make_system(dut)
    await system.bring_up()
    base = system.memory.base
    system.host.fault(base, base + (1 << 23), "duplicate", count=20)
    system.host.fault(base, base + (1 << 23), "unexpected", count=20)
    await exchange(system, 30)
    assert await counter(system, "completion_unexpected") > 0
    assert not await system.pci.status() & DeviceStatus.DEVICE_NEEDS_RESET


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def frames_that_do_not_fit(dut):
    """Too long for the buffer: dropped, the buffer given back. Bad at the port: dropped."""
    system = make_system(dut)
    await system.bring_up()
    for _ in range(8):
        system.net.post(200)
    await system.kick(0)
    good = [random_frame(150) for _ in range(4)]
    before = await counter(system, "receive_dropped")
    for frame in good:
        system.source.send(bytes(400))
        system.source.send(bytes(60), bad=True)
        system.source.send(frame)
    await system.until(lambda: system.poll() == [] and len(system.received) == 4)
    assert [got.frame for got in system.received] == good
    await cycles(dut, 200)
    assert await counter(system, "receive_dropped") == before + 4
    system.host.check()


def test_bus_errors():
    simulate(
        VirtioDevice(small_config("net-x8")),
        module=__name__,
        name="bus_errors",
        params={"config": "net-x8"},
    )
