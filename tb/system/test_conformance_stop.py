"""Virtqueue reset and suspend of the whole device, in mid-traffic."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import cocotb

from lib.net_system import NetSystem, exchange, random_frame, small_config
from lib.sim import params, simulate
from lib.streams import cycles
from virtio_model.driver.split_queue import SplitQueue
from virtio_model.spec import net, packed, pci, split
from virtio_model.spec.fields import by_name
from virtio_model.spec.status import DeviceStatus
from virtio_rtl.top import VirtioDevice

STATUS = by_name(net.CONFIG)["status"]
SUSPEND_BIT, RUNNING_BIT = DeviceStatus.SUSPEND, DeviceStatus.DRIVER_OK
STOPS = ("indirect_desc", "event_idx", "ring_reset", "suspend")


def make_system(dut: Any, ring: str, **options: Any) -> NetSystem:
    options = {"features": STOPS} | options
    return NetSystem(dut, small_config(params().config), ring=ring, **options)


class Traffic:
    """Frames both ways, without waiting; what has come back is noted."""

    def __init__(self, system: NetSystem):
        self.system = system
        self.sent: list[bytes] = []
        self.done: list[int] = []
        self.replies: list[bytes] = []

    async def flood(self, count: int = 20) -> None:
        """Fill both rings, and give the port frames."""
        system = self.system
        while system.queues[1].free_slots >= 2:
            self.sent.append(random_frame(600))
            system.net.send(self.sent[-1], cookie=len(self.sent) - 1)
        while system.queues[0].free_slots:
            system.net.post(1600)
        for _ in range(count):
            self.replies.append(random_frame(600))
            system.source.send(self.replies[-1])
        await system.kick(1)
        await system.kick(0)

    async def send_one(self) -> None:
        """Send a frame, and wait until it has left."""
        system, before = self.system, len(self.system.sink.frames)
        while system.queues[1].free_slots < 2:
            await cycles(system.dut, 20)
            self.poll()
        self.sent.append(random_frame(600))
        system.net.send(self.sent[-1], cookie=len(self.sent) - 1)
        await system.kick(1)
        await system.until(lambda: self.sent[-1] in system.sink.frames[before:])

    def poll(self) -> None:
        """Take what was used."""
        self.done += self.system.poll()

    async def drain(self) -> None:
        """Give receive buffers until the port is empty, and wait for all transmit buffers."""
        system = self.system
        for _ in range(400):
            self.poll()
            if system.source.idle and not system.queues[1].outstanding:
                break
            while system.queues[0].free_slots:
                system.net.post(1600)
            await system.kick(0)
            await cycles(system.dut, 50)
        await cycles(system.dut, 800)
        self.poll()
        assert system.source.idle
        assert not system.queues[1].outstanding


@asynccontextmanager
async def left_alone(system: NetSystem, queue: Any) -> AsyncIterator[None]:
    """Within the block the device touches none of the three areas of a virtqueue."""
    driver, device = packed.EVENT_SIZE, packed.EVENT_SIZE
    if isinstance(queue, SplitQueue):
        driver, device = split.avail_size(queue.size), split.used_size(queue.size)
    starts = {
        queue.desc_addr: packed.DESC_SIZE * queue.size,
        queue.driver_addr: driver,
        queue.device_addr: device,
    }
    touched: list[int] = []

    def note(address: int, data: bytes) -> None:
        if any(start - len(data) < address < start + size for start, size in starts.items()):
            touched.append(address)

    system.memory.read_hooks.append(note)
    system.memory.write_hooks.append(note)
    yield
    system.memory.read_hooks.remove(note)
    system.memory.write_hooks.remove(note)
    assert not touched


@cocotb.test(timeout_time=4, timeout_unit="ms")
@cocotb.parametrize(ring=["split", "packed"], index=[0, 1])
async def virtqueue_reset_in_mid_traffic(dut: Any, ring: str, index: int) -> None:
    """Registers back at their reset values, no access, no message; the other virtqueue runs on.

    Then the virtqueue is set up with another size, and frames pass again.
    """
    system = make_system(dut, ring)
    await system.bring_up()
    traffic = Traffic(system)
    vector = system.vector_of(index)
    for size in (32, 8, 64, 16):
        await traffic.flood()
        await cycles(dut, random.randint(0, 1200))
        queue, active = system.queues[index], system.pci.queues[index]
        await system.pci.reset_queue(index)
        fresh = {"queue_size": system.config.queue_size_max, "queue_msix_vector": pci.NO_VECTOR}
        fresh |= dict.fromkeys(("queue_enable", "queue_reset"), 0)
        fresh |= dict.fromkeys(("queue_desc", "queue_driver", "queue_device"), 0)
        for name, value in fresh.items():
            assert await system.pci.read_common(name) == value, name
        traffic.poll()
        told = system.interrupts.count(vector)
        async with left_alone(system, queue):
            bar = system.pci.structure(pci.CfgType.NOTIFY).bar
            await system.access.bar_write(bar, active.notify_offset, active.notify_id, 2)
            if index == 0:
                await traffic.send_one()  # the other virtqueue runs on
            await cycles(dut, 1500)
        assert system.interrupts.count(vector) == told
        if index == 1:
            # What was used has left, and nothing else.
            assert system.sink.frames == [traffic.sent[number] for number in traffic.done]
            traffic.sent = system.sink.frames.copy()
            traffic.done = list(range(len(traffic.sent)))
        await system.reset_queue(index, size)
        assert system.queues[index].size == size
        await traffic.flood(4)
        await traffic.drain()
        assert system.sink.frames == [traffic.sent[number] for number in traffic.done]
    system.host.check()


async def stall_port(traffic: Traffic) -> None:
    """Stop the transmit port, and send until the frames before it fill the device."""
    system = traffic.system
    system.sink.stall = 1.0
    still = 0
    while still < 4:
        before = len(traffic.done)
        traffic.poll()
        while system.queues[1].free_slots >= 2:
            traffic.sent.append(random_frame(1514))
            system.net.send(traffic.sent[-1], cookie=len(traffic.sent) - 1)
        await system.kick(1)
        await cycles(system.dut, 500)
        still = 0 if len(traffic.done) > before else still + 1


@cocotb.test(timeout_time=4, timeout_unit="ms")
@cocotb.parametrize(ring=["split", "packed"], stop=["reset 0", "reset 1", "suspend"])
async def coming_to_rest_waits_for_the_port(dut: Any, ring: str, stop: str) -> None:
    """Behind a transmit port that does not go on it waits; then it ends, and nothing is lost."""
    # Chains of neighbours: they fill the device soon.
    system = make_system(dut, ring, policy="linux")
    await system.bring_up()
    traffic = Traffic(system)
    for _ in range(2):
        await traffic.flood()
        await stall_port(traffic)
        left = len(system.sink.frames)
        ending = system.suspend() if stop == "suspend" else system.pci.reset_queue(int(stop[-1]))
        waiting = cocotb.start_soon(ending)
        await cycles(dut, 8000)
        assert not waiting.done(), "frames are under way"
        assert len(system.sink.frames) <= left + 1
        system.sink.stall = 0.0
        await waiting
        traffic.poll()
        # All that was used leaves.
        await system.until(lambda: len(system.sink.frames) >= len(traffic.done))
        await cycles(dut, 1500)
        assert system.sink.frames[: len(traffic.done)] == traffic.sent[: len(traffic.done)]
        if stop == "suspend":
            await system.resume()
        else:
            index = int(stop[-1])
            await system.reset_queue(index)
            if index == 1:
                # What was not begun is the driver's again.
                assert len(system.sink.frames) == len(traffic.done)
                del traffic.sent[len(traffic.done) :]
        await traffic.flood(4)
        await traffic.drain()
        assert traffic.done == list(range(len(traffic.sent)))
        assert system.sink.frames == traffic.sent
        assert [got.frame for got in system.received] == traffic.replies
    system.host.check()


async def raw_write(system: NetSystem, name: str, value: int) -> None:
    """Write a register of the common configuration behind the driver's back."""
    field, where = by_name(pci.COMMON_CFG)[name], system.pci.structure(pci.CfgType.COMMON)
    await system.access.bar_write(where.bar, where.offset + field.offset, value, field.size)


async def raw_read(system: NetSystem, name: str) -> int:
    """Read a register of the common configuration behind the driver's back."""
    field, where = by_name(pci.COMMON_CFG)[name], system.pci.structure(pci.CfgType.COMMON)
    return await system.access.bar_read(where.bar, where.offset + field.offset, field.size)


async def link_status(system: NetSystem) -> int:
    """Read status of the device configuration behind the driver's back."""
    where = system.pci.structure(pci.CfgType.DEVICE)
    return await system.access.bar_read(where.bar, where.offset + STATUS.offset, STATUS.size)


@cocotb.test(timeout_time=4, timeout_unit="ms")
@cocotb.parametrize(ring=["split", "packed"])
async def suspend_and_resume_in_mid_traffic(dut: Any, ring: str) -> None:
    """Suspended, all that was begun is done and told, and nothing moves; resumed, all goes on."""
    system = make_system(dut, ring)
    await system.bring_up()
    traffic = Traffic(system)
    for lap in range(6):
        await traffic.flood()
        await cycles(dut, random.randint(0, 1200))
        active = system.pci.queues[1]
        await system.suspend()
        assert await system.pci.status() & (SUSPEND_BIT | RUNNING_BIT) == SUSPEND_BIT
        traffic.poll()
        before = (system.memory_reads, len(system.dma_writes), len(system.interrupts))
        link, vector = await link_status(system), await raw_read(system, "config_msix_vector")
        dut.link_up.value = 1 - link
        # A driver that does not keep the rules either.
        bar = system.pci.structure(pci.CfgType.NOTIFY).bar
        await system.access.bar_write(bar, active.notify_offset, active.notify_id, 2)
        await raw_write(system, "config_msix_vector", pci.NO_VECTOR)
        await raw_write(system, "queue_select", 1)
        await raw_write(system, "queue_msix_vector", pci.NO_VECTOR)
        await cycles(dut, 1500)
        after = (system.memory_reads, len(system.dma_writes), len(system.interrupts))
        assert after == before, "no access and no message while suspended"
        assert await link_status(system) == link, "no field changes while suspended"
        assert await raw_read(system, "config_msix_vector") == vector
        for queue in system.queues:
            queue.audit()
        assert system.sink.frames == [traffic.sent[number] for number in traffic.done]
        told = system.interrupts.count(0)
        await system.resume()
        assert await system.pci.status() & (SUSPEND_BIT | RUNNING_BIT) == RUNNING_BIT
        await system.until(lambda seen=told: system.interrupts.count(0) == seen + 1)
        assert (await system.pci.read_config([STATUS]))["status"] == 1 - link
        if lap % 2:
            await traffic.drain()
            assert system.sink.frames == traffic.sent
            assert [got.frame for got in system.received] == traffic.replies
    system.host.check()


@cocotb.test(timeout_time=4, timeout_unit="ms")
@cocotb.parametrize(ring=["split", "packed"], mask=["vector", "function"])
async def pending_vectors_wait_for_resume(dut: Any, ring: str, mask: str) -> None:
    """Unmasked while suspended, a pending vector stays pending; resumed, it is told once.

    Also if a driver that does not keep the rules unmasks it while the device comes to rest.
    """
    # Without EVENT_IDX every used buffer is told.
    system = make_system(dut, ring, features=("indirect_desc", "ring_reset", "suspend"))
    await system.bring_up()
    traffic, msix = Traffic(system), system.pci.msix
    vectors = range(system.vectors)
    control = msix.capability.cap + pci.MSIX_CONTROL_OFFSET

    async def unmask() -> None:
        # Not read back, to be quick.
        if mask == "function":
            await system.access.config_write(control, pci.MSIX_CONTROL_ENABLE, 2)
        else:
            for vector in random.sample(vectors, len(vectors)):
                at = msix.capability.table_offset + pci.MSIX_ENTRY_SIZE * vector + 12
                await system.access.bar_write(msix.capability.table_bar, at, 0, 4)

    async def suspend(since: int) -> list[int]:
        """Return the vectors that were told before the device was suspended."""
        await system.suspend()
        return system.interrupts[since:]

    for lap in range(8):
        if mask == "function":
            await msix.enable(mask_all=True)
        else:
            for vector in vectors:
                await msix.mask(vector)
        before = system.interrupts.copy()
        dut.link_up.value = lap % 2
        await traffic.flood(8)
        await traffic.drain()
        assert system.interrupts == before
        if lap < 3:
            allowed = await suspend(len(before))
            await unmask()
        else:
            suspending = cocotb.start_soon(suspend(len(before)))
            await cycles(dut, random.randint(0, 400))
            await unmask()
            allowed = await suspending
        await cycles(dut, 1500)
        assert system.interrupts == before + allowed, "no message while suspended"
        pending = [vector for vector in vectors if await msix.pending(vector)]
        assert sorted(pending + allowed) == list(vectors)
        await system.resume()
        await system.until(lambda told=before: len(system.interrupts) == len(told) + len(vectors))
        await cycles(dut, 1500)
        assert sorted(system.interrupts[len(before) :]) == list(vectors), "exactly one each"
        assert not [vector for vector in vectors if await msix.pending(vector)]
    assert system.sink.frames == traffic.sent
    assert [got.frame for got in system.received] == traffic.replies
    system.host.check()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def suspend_waits_for_initialisation(dut: Any) -> None:
    """SUSPEND before DRIVER_OK is ignored, as it is without the feature; then all works."""
    system = make_system(dut, "packed")
    await system.bring_up()

    async def ask() -> None:
        before = await system.pci.status()
        await raw_write(system, "device_status", int(before | SUSPEND_BIT))
        assert await system.pci.status() == before

    await system.pci.reset()
    for bits in (DeviceStatus.ACKNOWLEDGE, DeviceStatus.DRIVER):
        await system.pci.add_status(bits)
        await ask()
    await system.start(before_driver_ok=ask)
    await exchange(system, 8)
    without = system.accepted & ~(1 << 43)
    await system.start(without)
    await ask()
    await exchange(system, 8)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def reset_ends_a_suspend(dut: Any) -> None:
    """A suspended device is reset like any other, in mid-traffic, and starts anew."""
    system = make_system(dut, "packed")
    await system.bring_up()
    for _ in range(3):
        await Traffic(system).flood()
        await cycles(dut, random.randint(0, 600))
        await system.suspend()
        await system.pci.reset()
        system.source.clear()
        await system.until(lambda: system.source.idle)
        await system.start()
        await exchange(system, 8)


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(stop=["reset", "suspend"])
async def reset_ends_the_wait_for_the_port(dut: Any, stop: str) -> None:
    """A stop that waits for the transmit port is ended by a device reset, which does not wait."""
    system = make_system(dut, "packed")
    await system.bring_up()
    for _ in range(2):
        traffic = Traffic(system)
        await traffic.flood()
        await stall_port(traffic)
        if stop == "suspend":
            status = await system.pci.status()
            await raw_write(system, "device_status", int(status | SUSPEND_BIT))
        else:
            await raw_write(system, "queue_select", 0)
            await raw_write(system, "queue_reset", 1)
        await cycles(dut, 2000)
        if stop == "suspend":
            assert await system.pci.status() == status
        else:
            assert await raw_read(system, "queue_reset") == 1
        await system.pci.reset()
        system.sink.stall = 0.0
        system.source.clear()
        await system.until(lambda: system.source.idle)
        await cycles(dut, 3000)  # what was whole leaves
        await system.start()
        await exchange(system, 8)


def test_conformance_stop() -> None:
    simulate(
        VirtioDevice(small_config("net-x8")),
        module=__name__,
        name="conformance_stop",
        params={"config": "net-x8"},
    )
