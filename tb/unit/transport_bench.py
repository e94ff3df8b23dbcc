"""The whole transport with driver, virtqueue engine and MSI-X module around it."""

from __future__ import annotations

import random
from typing import Any

from register_helper import RegisterInitiator, RegisterMemory
from transport_helper import KINDS, ResetAnswer, config

from lib.sim import params, simulate
from lib.streams import StreamSink, StreamSource, cycles, pack, start_clock, unpack
from virtio_rtl.regs.maps import Counter
from virtio_rtl.transport.pci import PCITransport
from virtio_rtl.types.pcie import FunctionControl
from virtio_rtl.types.virtqueue import Doorbell, InterruptRequest, QueueConfig

COUNTERS = (Counter("frames", "Frames."), Counter("drops", "Frames dropped."))
ISR, DEVICE, NOTIFY, BAD_DOORBELLS, FRAMES, MSIX = 0x1000, 0x2000, 0x3000, 0x4000, 0x4004, 0x8000


class Bench:
    """Driver, virtqueue engine and MSI-X module around the transport."""

    def __init__(self, dut: Any, stall: float = 0.0) -> None:
        self.dut = dut
        start_clock(dut)
        for name in (
            "live",
            "device_error",
            "function_reset",
            "events",
            "lookup_0__queue",
            "stop",
        ):
            getattr(dut, name).value = 0
        self.engine(rested=1, fetch_idle=1)
        self.kind = params().kind
        self.control(msix=0)
        self.bus = RegisterInitiator(dut, stall=stall)
        self.msix = RegisterMemory(dut, "msix_bus", stall)
        self.doorbells = StreamSink(dut, "doorbell", Doorbell, stall=stall)
        self.enabled = StreamSink(dut, "queue_enabled", stall=stall)
        self.interrupts = StreamSource(dut, "interrupt", InterruptRequest, stall=stall)
        self.vectors = StreamSink(dut, "vector", stall=stall)
        self.answer = ResetAnswer(dut, lambda: random.randint(0, 100))

    def engine(self, *, rested: int, fetch_idle: int) -> None:
        """How far the virtqueue engine is on its way to rest."""
        self.dut.rested.value = rested
        self.dut.fetch_idle.value = fetch_idle

    async def reset_device(self) -> None:
        """Reset as a driver does: write 0, wait until it reads 0."""
        await self.bus.write(0x14, 0, 1)
        while await self.bus.read(0x14, 1):
            pass

    def control(self, *, msix: int, intx_disable: int = 0) -> None:
        """What the host has set in the configuration space."""
        value = {"msix_enable": msix, "intx_disable": intx_disable, "memory_enable": 1}
        self.dut.control.value = pack(FunctionControl, value)

    async def lookup(self, queue: int) -> Any:
        """Ask for the configuration of a virtqueue."""
        self.dut.lookup_0__queue.value = queue
        await cycles(self.dut, 2)
        return unpack(QueueConfig, int(self.dut.lookup_0__config.value))


def seen(sink: StreamSink) -> list[Any]:
    """All that has arrived."""
    return [sink.now() for _ in range(len(sink))]


async def set_up_queue(bus: RegisterInitiator, queue: int, vector: int) -> dict[str, int]:
    """Set a virtqueue up, as Linux does; return what the engine is to see."""
    await bus.write(0x16, queue, 2)
    size = random.randint(1, await bus.read(0x18, 2))
    areas = [random.getrandbits(64) for _ in range(3)]
    await bus.write(0x18, size, 2)
    for index, area in enumerate(areas):
        await bus.write(0x20 + 8 * index, area, 8)
    await bus.write(0x1A, vector, 2)
    assert await bus.read(0x1A, 2) == vector
    await bus.write(0x1C, 1, 2)
    assert await bus.read(0x1C, 2) == 1
    names = ("descriptor_area", "driver_area", "device_area")
    return {"enabled": 1, "size": size} | dict(zip(names, areas, strict=True))


def run(module: str, name: str, **context: Any) -> None:
    """Simulate the tests of a module."""
    kind = context["kind"]
    offered, required = KINDS[kind]
    transport = PCITransport(
        config(context["pairs"], context["vectors"]),
        offered=offered, required=required, readers=1, counters=COUNTERS,
    )  # fmt: skip
    name = f"{name}_{context['pairs']}_{context['vectors']}"
    waive = []
    if kind == "plain":
        name += "_plain"
        waive = ["resetting", "suspending", "pause", "hold", "forget", "forget_queue"]
    simulate(transport, module=module, name=name, params=context, waive=waive)
