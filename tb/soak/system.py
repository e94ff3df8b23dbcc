"""The simulated system of the golden comparison: each case finds it reset and set up anew."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from lib.blk_system import BlkSystem
from lib.device_system import DeviceSystem
from lib.golden import DiskDriver, DiskTwin, Journal, QueueMaker, Twin
from lib.net_features import wanted_features
from lib.net_system import NetSystem
from lib.pcie.latency import ReadLatency
from lib.ring_features import ring_features
from lib.ring_monitor.attach import attach
from soak.case import Case
from virtio_model.driver.make import Queue
from virtio_model.memory import Allocator
from virtio_rtl.config import DeviceConfig

__all__ = ["BlkSoakSystem", "NetSoakSystem", "SoakSystem"]

_INTERRUPT_NS = 30_000.0
"""From a used entry to its interrupt: coalescing and a full link delay it."""
_KICK_NS = 10_000.0
"""A doorbell waits behind the completions of all reads that are under way."""
_FUNCTION_CONTROL = 8
_LINK_CONTROL = 0x10


class SoakSystem(DeviceSystem):
    """A system that is brought up anew for each case; a device type's is a subclass."""

    def __init__(self, dut: Any, config: DeviceConfig) -> None:
        super().__init__(dut, config)
        self.case: Case
        self.rings = attach(self, interrupt_limit=_INTERRUPT_NS, kick_flight=_KICK_NS)
        self._maker: QueueMaker | None = None

    # For a device type

    def features_of(self, case: Case) -> int:
        """What the driver of a case accepts."""
        raise NotImplementedError

    def make_twin(self, sizes: Sequence[int]) -> Any:
        """The golden device of this case, its virtqueues being set up."""
        raise NotImplementedError

    async def clear(self) -> None:
        """Take back and forget what the case before has left."""
        self.close()
        self.allocator = Allocator(self.memory)
        self.memory.faults.clear()
        self.dma_writes.clear()
        host = self.host
        host.violations.clear()
        host.target.unclaimed.clear()
        host.stray_completions.clear()
        host.interrupts.received.clear()

    def set_up_streams(self, case: Case) -> None:
        """Stalls of the streams to the outside."""

    # For all

    async def prepare(self, case: Case) -> Any:
        """Reset the device, bring it up as a case wants it; its twin."""
        random.seed(case.seed)  # of stalls: a case alone is like one among others
        self.rings.report.clear()
        await self.pci.reset()
        await self.clear()
        self.case = case
        await self._set_up_host(case)
        self.set_up_streams(case)
        self.wanted = self.features_of(case)
        sizes = self._sizes_of(case)
        self._sizes = iter(sizes)
        self._maker = QueueMaker(self.memory, self.allocator, self.wanted, case.policy, case.seed)
        twin: list[Any] = []

        async def before_driver_ok() -> None:
            await self._unless_polling()
            twin.append(self.make_twin(sizes))

        await self.start(before_driver_ok=before_driver_ok)
        return twin[0]

    async def start_again(self) -> None:
        """Reset the device in mid-traffic, and go on with the same virtqueues."""
        await self.pci.reset()
        for index in range(len(self.queues)):
            self.take_back(index)
        await self.start(keep=True, before_driver_ok=self._unless_polling)

    async def _unless_polling(self) -> None:
        if self.case.interrupts == "off":
            for queue in self.queues:
                queue.disable_interrupts()

    def _sizes_of(self, case: Case) -> list[int]:
        count = self.config.num_queues
        pairs = zip(case.rx_sizes * count, case.tx_sizes * count, strict=True)
        return [size for pair in pairs for size in pair][:count]

    def _make_queue(self, size: int) -> Queue:
        if self._maker is None:
            return super()._make_queue(size)
        return self._maker.make(next(self._sizes))

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


class NetSoakSystem(SoakSystem, NetSystem):
    """With a net device."""

    def features_of(self, case: Case) -> int:
        return wanted_features(case.ring, case.features)

    def make_twin(self, sizes: Sequence[int]) -> Twin:
        return Twin(self.memory, sizes, self.wanted, self.case.policy, self.case.seed)

    def set_up_streams(self, case: Case) -> None:
        self.sink.stall = self.source.stall = case.stall

    async def clear(self) -> None:
        self.source.clear()
        await self.until(lambda: self.source.idle)
        await super().clear()
        self.pairs = []
        self.sink.frames.clear()
        self.sink.dests.clear()


class BlkSoakSystem(SoakSystem, BlkSystem):
    """With a block device; what the driver of a case does is journalled."""

    def __init__(self, dut: Any, config: DeviceConfig) -> None:
        super().__init__(dut, config)
        self.journal: Journal
        self.disk: DiskDriver | None = None

    def make_drivers(self) -> None:
        """As of `BlkSystem`, and one that takes notes."""
        super().make_drivers()
        self.journal = Journal()
        self.disk = DiskDriver(self.driver, self.journal)

    def take_back(self, index: int) -> list[Any]:
        """After a reset: what was answered counts, the rest is noted."""
        assert self.disk
        self.disk.poll(index)
        self.disk.take_back(index)
        if self.case.interrupts != "on":
            self.queues[index].disable_interrupts()
        return []

    def features_of(self, case: Case) -> int:
        return ring_features(case.ring, (*case.features, "ring_reset")) | self.offers

    def make_twin(self, sizes: Sequence[int]) -> DiskTwin:
        return DiskTwin(
            self.memory,
            sizes,
            self.wanted,
            self.case.policy,
            self.case.seed,
            limits=self.limits,
            serial=self.config.blk.identity.encode(),
        )

    async def clear(self) -> None:
        if self.disk:
            self.disk.close()
        await super().clear()

    def _sizes_of(self, case: Case) -> list[int]:
        # A request has a readable and a writable part.
        return [max(size, 2) for size in super()._sizes_of(case)]
