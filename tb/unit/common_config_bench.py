"""The common configuration with its queue table, and everything around it in a test."""

from __future__ import annotations

import random
from typing import Any

from amaranth import Const, Module, ResetInserter
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from register_helper import RegisterInitiator
from transport_helper import (
    KINDS,
    CommonModel,
    ResetAnswer,
    config,
)  # fmt: skip

from lib.sim import params, simulate
from lib.streams import StreamSink, reset, start_clock
from virtio_rtl.config import DeviceConfig
from virtio_rtl.transport.common_config import CommonConfig
from virtio_rtl.transport.queue_table import QueueTable
from virtio_rtl.transport.quiesce import Quiesce
from virtio_rtl.types.regbus import RegisterBus
from virtio_rtl.types.virtqueue import InterruptRequest, QueueLookup

INPUTS = (
    "reset_done", "function_reset", "device_error", "config_changed", "config_read",
    "config_notify", "rested",
)  # fmt: skip
OUTPUTS = {
    "driver_features": 128, "features_ok": 1, "driver_ok": 1, "reset_request": 1, "clear": 1,
    "config_vector": 16, "suspended": 1,
}  # fmt: skip


class WithTable(wiring.Component):
    """The common configuration, its queue table, and what brings the virtqueues to rest."""

    def __init__(self, device: DeviceConfig, kind: str) -> None:
        self.device = device
        self.kind = kind
        super().__init__(
            {
                "bus": In(RegisterBus()),
                "lookup_0": In(QueueLookup()),
                "interrupt": Out(stream.Signature(InterruptRequest)),
                "queue_enabled": Out(stream.Signature(16)),
            }
            | {name: In(1) for name in INPUTS}
            | {name: Out(width) for name, width in OUTPUTS.items()}
        )

    def elaborate(self, platform: Any) -> Module:
        """Wire them together, as the transport does."""
        m = Module()
        device = self.device
        whole = self.kind == "whole"
        m.submodules.common = common = CommonConfig(device, *KINDS[self.kind])
        m.submodules.table = table = QueueTable(
            device.num_queues, device.queue_size_max, device.msix_vectors, 1,
            ring_reset=whole, notif_config_data=whole,
        )  # fmt: skip
        quiesce = Quiesce(device.num_queues, ring_reset=whole, suspend=whole)
        m.submodules.quiesce = ResetInserter(common.reset_request)(quiesce)

        def accepted(feature: int) -> Any:
            return common.driver_features[feature] & common.features_ok

        m.d.comb += [
            table.any_size.eq(accepted(34) if whole else Const(1)),
            table.reset_allowed.eq(accepted(40)),
            table.forget.eq(quiesce.forget),
            table.forget_queue.eq(quiesce.forget_queue),
            quiesce.reset_request.eq(table.reset_request),
            quiesce.reset_queue.eq(table.reset_queue),
            quiesce.suspend_request.eq(common.suspend_request),
            quiesce.suspended.eq(common.suspended),
            quiesce.rested.eq(self.rested),
            quiesce.fetch_idle.eq(1),
            quiesce.told.eq(common.interrupt_idle),
            common.suspend_done.eq(quiesce.suspend_done),
        ]
        wiring.connect(m, common.queues, table.registers)
        wiring.connect(m, table.lookup_0, wiring.flipped(self.lookup_0))
        for name in ("interrupt", "queue_enabled"):
            wiring.connect(m, getattr(common, name), wiring.flipped(getattr(self, name)))
        wiring.connect(m, wiring.flipped(self.bus), common.bus)
        m.d.comb += [table.clear.eq(common.clear), common.queues_busy.eq(table.busy)]
        m.d.comb += [
            getattr(common, name).eq(getattr(self, name)) for name in INPUTS if name != "rested"
        ]
        m.d.comb += [getattr(self, name).eq(getattr(common, name)) for name in OUTPUTS]
        return m


class Bench:
    """Everything around the device under test."""

    def __init__(self, dut: Any, stall: float = 0.0, reset_delay: int = 0) -> None:
        self.dut = dut
        start_clock(dut)
        for name in INPUTS:
            getattr(dut, name).value = 0
        dut.lookup_0__queue.value = 0
        dut.rested.value = 1
        self.kind = params().kind
        self.offered, self.required = KINDS[self.kind]
        self.bus = RegisterInitiator(dut, stall=stall)
        self.interrupts = StreamSink(dut, "interrupt", InterruptRequest, stall=stall)
        self.enabled = StreamSink(dut, "queue_enabled", stall=stall)
        self.answer = ResetAnswer(dut, lambda: random.randint(0, reset_delay))
        self.model = CommonModel(config(params().pairs, params().vectors), self.kind)

    async def start(self) -> None:
        """Reset."""
        await reset(self.dut)

    async def reset_device(self) -> None:
        """Reset as a driver does: write 0, wait until it reads 0."""
        await self.bus.write(0x14, 0, 1)
        for _ in range(2000):
            if await self.bus.read(0x14, 1) == 0:
                return
        raise AssertionError("the reset does not end")


async def negotiate_words(bus: RegisterInitiator, features: int) -> None:
    """ACKNOWLEDGE, DRIVER, and the accepted features."""
    await bus.write(0x14, 1, 1)
    await bus.write(0x14, 3, 1)
    for word in range(4):
        await bus.write(0x08, word)
        await bus.write(0x0C, features >> 32 * word & 0xFFFF_FFFF)


def run(module: str, name: str, **context: Any) -> None:
    """Simulate the tests of a module."""
    kind = context["kind"]
    device = config(context["pairs"], context["vectors"])
    waive = [] if kind == "whole" else ["suspended"]
    name = f"{name}_{context['pairs']}" + ("" if kind == "whole" else f"_{kind}")
    simulate(WithTable(device, kind), module=module, name=name, params=context, waive=waive)
