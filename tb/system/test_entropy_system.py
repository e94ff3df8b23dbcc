"""The entropy device behind a root complex: every byte as the golden source gives it."""

from __future__ import annotations

import random
from typing import Any

import cocotb

from lib.entropy_system import EntropySystem, entropy_config, exchange
from lib.register_monitor import ENTROPY, RegisterMonitor
from lib.ring_monitor.attach import attach
from lib.sim import simulate
from lib.streams import cycles
from virtio_model.driver.framing import lay_out
from virtio_model.driver.pci import VirtioPciDriver
from virtio_model.spec import entropy, pci
from virtio_rtl.top import VirtioDevice

FORMATS = ("split", "packed")
FEATURES = {
    "plain": (),
    "in_order": ("in_order",),
    "all": (
        "indirect_desc", "event_idx", "in_order", "notification_data", "notif_config_data",
        "ring_reset", "suspend",
    ),
}  # fmt: skip


def make_system(dut, ring: str = "packed", features: str = "all", **options: Any) -> EntropySystem:
    return EntropySystem(dut, entropy_config(), ring=ring, features=FEATURES[features], **options)


@cocotb.test(timeout_time=4, timeout_unit="ms")
@cocotb.parametrize(("ring", FORMATS), ("features", list(FEATURES)))
async def random_bytes_with(dut, ring, features):
    """Buffers of any size, cut anywhere: each gets its bytes, at least one."""
    system = make_system(dut, ring, features, sizes=random.choice([4, 16, 64]))
    monitor = attach(system)
    await system.bring_up()
    await exchange(system, 60)
    monitor.finish().check()


@cocotb.test(timeout_time=4, timeout_unit="ms")
@cocotb.parametrize(("ring", FORMATS))
async def random_bytes_with_stalls_and_pieces(dut, ring):
    """The same under stalls, short payloads and completions in pieces."""
    system = make_system(dut, ring, split=True, stall=0.2, max_payload=128, max_read_request=128)
    await system.bring_up()
    await exchange(system, 40)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def entropy_device_has_one_queue_and_no_configuration(dut):
    """One virtqueue, no feature of its own, no device configuration."""
    system = make_system(dut)
    await system.bring_up()
    monitor = RegisterMonitor(system.access, ENTROPY)
    system.pci = VirtioPciDriver(monitor, dependencies=entropy.DEPENDENCIES, device_config=False)
    await system.pci.discover()
    assert pci.CfgType.DEVICE not in system.pci.layout.structures
    await system.start()
    assert system.pci.offered & (1 << 24) - 1 == 0
    assert await system.pci.read_common("num_queues") == 1
    assert await system.pci.queue_max_size(1) == 0
    monitor.check()


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(("ring", FORMATS))
async def buffers_that_no_driver_sends(dut, ring):
    """Readable bytes are ignored; a buffer with nothing else comes back empty."""
    system = make_system(dut, ring)
    await system.bring_up()
    await exchange(system, 5)
    queue = system.queues[0]
    for writable in (0, 40, 300):
        readable = lay_out(system.allocator, 30)
        room = lay_out(system.allocator, writable)
        queue.add(readable.segments, room.segments)
        await system.kick(0)
        for _ in range(500):
            await cycles(dut, 20)
            if (used := queue.poll()) is not None:
                break
        else:
            raise AssertionError("not answered")
        expected = system.expect(writable) if writable else b""
        assert used.length == len(expected)
        assert room.read(system.memory, used.length) == expected
        readable.free(system.allocator)
        room.free(system.allocator)
    await exchange(system, 5)


@cocotb.test(timeout_time=4, timeout_unit="ms")
@cocotb.parametrize(("ring", FORMATS))
async def reset_and_virtqueue_reset_and_suspend(dut, ring):
    """After each the device goes on, and gives no byte twice."""
    system = make_system(dut, ring)
    monitor = attach(system)
    await system.bring_up()
    for _ in range(3):
        await exchange(system, 10)
        while system.ask(random.randint(1, 200)):
            pass
        await system.kick(0)
        await cycles(dut, random.randint(0, 400))
        await system.suspend()
        before = system.memory_reads, len(system.dma_writes), len(system.interrupts)
        await cycles(dut, 500)
        assert before == (system.memory_reads, len(system.dma_writes), len(system.interrupts))
        await system.resume()
        await system.finish()
        await system.reset_queue(0, random.choice([16, 32, 64]))
        await exchange(system, 5)
        while system.ask(random.randint(1, 200)):
            pass
        await system.kick(0)
        await cycles(dut, random.randint(0, 400))
        await system.pci.reset()
        await system.start()
    await exchange(system, 10)
    monitor.finish().check()


def test_entropy_system():
    simulate(VirtioDevice(entropy_config()), module=__name__, name="entropy_system")
