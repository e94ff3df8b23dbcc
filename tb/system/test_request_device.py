"""A device type that is not of this project, through the whole device, in both ring formats."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from typing import Any

import cocotb
from echo_device import ECHO, KEY

from lib.device_system import DeviceSystem
from lib.net_traffic import random_cuts
from lib.ring_monitor.attach import attach
from lib.sim import simulate
from lib.streams import cycles
from virtio_model.driver.framing import Layout, lay_out
from virtio_rtl.config import DeviceConfig
from virtio_rtl.top import VirtioDevice

FORMATS = ("split", "packed")
FEATURES = {
    "plain": (),
    "indirect": ("indirect_desc", "event_idx"),
    "in_order": ("in_order",),
    "all": (
        "indirect_desc", "event_idx", "in_order", "notification_data", "notif_config_data",
        "ring_reset", "suspend",
    ),
}  # fmt: skip
FILL = 0xA5


def config() -> DeviceConfig:
    """The smallest."""
    return DeviceConfig(
        name="echo", device="echo", width=64, clock_mhz=125.0, lanes=1, read_tags=32,
        read_ahead=32, queue_size_max=256, completion_timeout_us=20,
    )  # fmt: skip


@dataclass
class Asked:
    """A request: what it is to be answered with, and where."""

    readable: Layout
    writable: Layout
    answer: bytes


class EchoSystem(DeviceSystem):
    """Asks and compares."""

    PCI_ID = (ECHO.vendor_id, ECHO.pci_id)

    def __init__(self, dut: Any, ring: str, features: tuple[str, ...], **options: Any) -> None:
        super().__init__(dut, config(), ring=ring, features=features, **options)
        self.key = 0
        self.asked: list[deque[Asked]] = [deque(), deque()]

    def ask(self, index: int, readable: int, writable: int) -> bool:
        """Add a request, framed at random; False if there is no room for it."""
        queue = self.queues[index]
        parts = [
            lay_out(self.allocator, size, random_cuts(size) if size > 1 else (),
                    skew=random.randrange(64)) if size else Layout(())
            for size in (readable, writable)
        ]  # fmt: skip
        count = sum(len(part.segments) for part in parts)
        table = queue.indirect and random.random() < 0.5
        if queue.free_slots < count:
            for part in parts:
                part.free(self.allocator)
            return False
        data = random.randbytes(readable)
        parts[0].write(self.memory, data)
        parts[1].write(self.memory, bytes([FILL]) * writable)
        answer = bytes(byte ^ self.key for byte in data[:writable])
        asked = Asked(*parts, answer)
        queue.add(parts[0].segments, parts[1].segments, cookie=asked, indirect=table)
        self.asked[index].append(asked)
        return True

    def poll(self) -> int:
        """Compare the answers that there are; how many."""
        count = 0
        for queue, asked in zip(self.queues, self.asked, strict=True):
            while (used := queue.poll()) is not None:
                first = asked.popleft()
                assert used.cookie is first, "not in order"
                assert used.length == len(first.answer)
                size = first.writable.length
                assert first.writable.read(self.memory, size) == first.answer.ljust(
                    size, bytes([FILL])
                )
                for part in (first.readable, first.writable):
                    part.free(self.allocator)
                count += 1
        return count

    async def exchange(self, count: int) -> None:
        """Ask that many times in each virtqueue, and see every answer."""
        open_requests = [count, count]
        while any(open_requests) or any(self.asked):
            for index in (0, 1):
                for _ in range(random.randint(0, min(open_requests[index], 8))):
                    sizes = [random.choice([0, 1, 8, random.randint(1, 600)]) for _ in range(2)]
                    if not any(sizes) or not self.ask(index, *sizes):
                        break
                    open_requests[index] -= 1
                await self.kick(index)
            await cycles(self.dut, random.randrange(200))
            self.poll()
        for queue in self.queues:
            queue.audit()
        assert self.memory.faults == []
        assert self.host.violations == []

    async def set_key(self, key: int) -> None:
        """Write the device configuration."""
        await self.pci.write_config(KEY, key)
        self.key = key
        assert await self.pci.read_config([KEY]) == {"key": key}

    def forget(self) -> None:
        """A reset has taken all requests back."""
        for asked in self.asked:
            asked.clear()


@cocotb.test(timeout_time=4, timeout_unit="ms")
@cocotb.parametrize(("ring", FORMATS), ("features", list(FEATURES)))
async def requests_are_answered(dut: Any, ring: str, features: str) -> None:
    """Requests of every shape in two virtqueues, in order, all bytes compared, none beyond."""
    system = EchoSystem(dut, ring, FEATURES[features], stall=random.choice([0.0, 0.2]))
    monitor = attach(system)
    await system.bring_up()
    await system.exchange(30)
    await system.set_key(random.randrange(1, 256))
    await system.exchange(10)
    await cycles(dut, 2000)
    monitor.finish().check()
    assert set(system.interrupts) <= {1, 2}


@cocotb.test(timeout_time=4, timeout_unit="ms")
@cocotb.parametrize(("ring", FORMATS))
async def resets_and_suspend(dut: Any, ring: str) -> None:
    """In mid-traffic: of one virtqueue, of the device, of the function; settings start anew."""
    system = EchoSystem(dut, ring, FEATURES["all"], sizes=(16, 64))
    await system.bring_up()
    await system.set_key(0x3C)
    for way in ("queue", "suspend", "device", "function", "queue"):
        for _ in range(12):
            if not system.ask(random.randrange(2), 300, 200):
                break
        for index in (0, 1):
            await system.kick(index)
        await cycles(dut, random.randrange(500))
        if way == "queue":
            await system.reset_queue(0, 32)
            system.asked[0].clear()
        elif way == "suspend":
            await system.suspend()
            system.poll()
            await cycles(dut, 300)
            await system.resume()
        else:
            if way == "function":
                await system.function_level_reset()
                await system.restore()
            await system.start()
            system.forget()
            system.key = 0
            assert await system.pci.read_config([KEY]) == {"key": 0}
        await system.exchange(12)


def test_request_device() -> None:
    """One model for all."""
    simulate(VirtioDevice(config()), module=__name__, name="request_device")
