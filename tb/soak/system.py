"""The simulated system of the golden comparison: each case finds it reset and set up anew."""

from __future__ import annotations

from typing import Any

from lib.golden import QueueMaker, Twin
from lib.net_features import wanted_features
from lib.net_system import NetSystem
from lib.pcie.latency import ReadLatency
from lib.ring_monitor.attach import attach
from soak.case import Case
from virtio_model.driver.make import Queue
from virtio_model.memory import Allocator
from virtio_rtl.config import DeviceConfig

__all__ = ["SoakSystem"]

_INTERRUPT_NS = 30_000.0
"""From a used entry to its interrupt: coalescing and a full link delay it."""
_FUNCTION_CONTROL = 8
_LINK_CONTROL = 0x10


class SoakSystem(NetSystem):
    """A system that is brought up anew for each case."""

    def __init__(self, dut: Any, config: DeviceConfig) -> None:
        super().__init__(dut, config)
        self.case: Case
        self.rings = attach(self, interrupt_limit=_INTERRUPT_NS)
        self._maker: QueueMaker | None = None

    async def prepare(self, case: Case) -> Twin:
        """Reset the device, bring it up as a case wants it; its twin."""
        self.rings.report.clear()
        await self.pci.reset()
        await self._clear()
        self.case = case
        await self._set_up_host(case)
        self.wanted = wanted_features(case.ring, case.features)
        pairs = self.config.queue_pairs
        sizes = zip(case.rx_sizes * pairs, case.tx_sizes * pairs, strict=True)
        chosen = [size for pair in list(sizes)[:pairs] for size in pair]
        self._sizes = iter(chosen)
        self._maker = QueueMaker(self.memory, self.allocator, self.wanted, case.policy, case.seed)
        twin: list[Twin] = []

        async def before_driver_ok() -> None:
            if case.interrupts == "off":
                for queue in self.queues:
                    queue.disable_interrupts()
            twin.append(Twin(self.memory, chosen, self.wanted, case.policy, case.seed))

        await self.start(before_driver_ok=before_driver_ok)
        return twin[0]

    def _make_queue(self, size: int) -> Queue:
        if self._maker is None:
            return super()._make_queue(size)
        return self._maker.make(next(self._sizes))

    async def _clear(self) -> None:
        self.source.clear()
        await self.until(lambda: self.source.idle)
        self.close()
        self.pairs = []
        self.allocator = Allocator(self.memory)
        self.memory.faults.clear()
        self.dma_writes.clear()
        host = self.host
        host.violations.clear()
        host.target.unclaimed.clear()
        host.stray_completions.clear()
        host.interrupts.received.clear()
        self.sink.frames.clear()
        self.sink.dests.clear()

    async def _set_up_host(self, case: Case) -> None:
        """MPS, MRRS and RCB in the function's registers and in the host; how the host answers."""
        at = await self.capability(0x10)
        control = self._device_control & ~0x70E0
        control |= (case.max_payload // 256) << 5
        control |= ((case.max_read_request // 128).bit_length() - 1) << 12
        await self.access.config_write(at + _FUNCTION_CONTROL, control, 2)
        link = await self.access.config_read(at + _LINK_CONTROL, 2)
        link = link & ~8 | (8 if case.boundary == 128 else 0)
        await self.access.config_write(at + _LINK_CONTROL, link, 2)
        target = self.host.target
        target.max_payload = target.checker.max_payload = case.max_payload
        target.checker.max_read_request = case.max_read_request
        target.boundary = case.boundary
        target.split_on_all_boundaries = case.pieces
        low, high = case.latency_ns
        target.latency = ReadLatency((low + high) / 2, (low, high), seed=case.seed)
        target.sample = case.sample
        target.piece_gap_ns = (0.0, float(case.gap_ns))
        self.endpoint.rx_stall = self.endpoint.tx_stall = case.stall
        self.sink.stall = self.source.stall = case.stall
