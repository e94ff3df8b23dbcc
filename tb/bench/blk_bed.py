"""A brought-up block device with one virtqueue, ready to be measured; runs inside the simulator."""

from __future__ import annotations

import random
from typing import Any

from cocotb.triggers import Timer

from bench.bed import BenchHost
from bench.blk_ring import IN_FLIGHT, BlkRing, ring_size
from bench.fast_chains import Framing
from bench.flow import Flow
from bench.scenario import HOST_READ_NS, Scenario, blk_shape
from lib.net_system import MESSAGE_ADDRESS
from lib.ring_features import ring_features
from virtio_model.driver.pci import VirtioPciDriver
from virtio_model.spec import blk
from virtio_model.spec.split import DESC_SIZE
from virtio_rtl.config import DeviceConfig
from virtio_rtl.device.kind import device_type

__all__ = ["BlkBed", "BlkFlow", "BlkHost"]

_SLACK = 1 << 16
_ROOM = 2 * 4096
_QUEUE = 0
_VECTOR = 1
_DRAIN_NS = 2_000_000
_POLL_NS = 100


class BlkHost(BenchHost):
    """A `BenchHost` with a block device."""

    async def start(self, ring: str = "packed") -> None:
        """Reset, train, enumerate, negotiate a ring format, program MSI-X."""
        await self.link_up()
        self.pci = pci = VirtioPciDriver(self.access, dependencies=blk.DEPENDENCIES)
        await pci.discover()
        own = device_type("blk").features(self.config)
        self.features = await pci.start(ring_features(ring) | own)
        await pci.msix.enable()
        await pci.set_vector(_VECTOR, MESSAGE_ADDRESS, _QUEUE)
        self.ranges.add("interrupt", MESSAGE_ADDRESS, MESSAGE_ADDRESS + 4)


class BlkBed:
    """Host, block device and its ring; offers a `Flow` what a `Bed` does."""

    def __init__(self, dut: Any, config: DeviceConfig, scenario: Scenario) -> None:
        self.dut = dut
        self.config = config
        self.scenario = scenario
        self.shape = blk_shape(scenario)
        self.ring_size = ring_size(self.shape)
        room = self.shape.length + _ROOM
        memory = _SLACK + 64 * self.ring_size + IN_FLIGHT * room
        self.host = BlkHost(dut, config, memory_bytes=memory, read_ns=HOST_READ_NS)
        target = self.host.root.target
        target.split_on_all_boundaries = scenario.piece == target.boundary
        self.rings: dict[int, BlkRing] = {}
        self.used: dict[int, int] = {}
        self.framings: dict[str, list[Framing]] = {}
        self._random = random.Random(random.getrandbits(32))

    def direction(self, index: int) -> str:
        """Return what the virtqueue's requests are."""
        return self.scenario.direction

    async def start(self) -> None:
        """Bring the device up with its ring, empty."""
        host, scenario = self.host, self.scenario
        await host.start(scenario.ring)
        ring = BlkRing(
            host.memory,
            host.allocator,
            "read" if scenario.direction == "read" else "write",
            self.config.blk.capacity_sectors,
            self.shape,
            draw=self._random,
            ring=scenario.ring,
        )
        await host.setup_queue(_QUEUE, ring)
        self.rings[_QUEUE], self.used[_QUEUE] = ring, 0
        for start, end in ring.tables:
            host.ranges.add("descriptors", start, end)
        await host.go()

    def used_at(self, addr: int) -> int | None:
        """Return the virtqueue whose used buffers are written around an address."""
        layout = self.rings[_QUEUE].layout
        return _QUEUE if 0 <= addr - layout.used_addr < layout.used_bytes else None

    def table_at(self, addr: int) -> int | None:
        """Return the virtqueue whose descriptor area holds an address."""
        place = addr - self.rings[_QUEUE].desc_addr
        return _QUEUE if 0 <= place < DESC_SIZE * self.ring_size else None

    def check_port(self) -> None:
        """Nothing to do: there is no port."""


class BlkFlow(Flow):
    """A `Flow` of requests, 64 in flight; the disk is compared with what was written to it."""

    def make_bed(self, config: DeviceConfig, ring_size: int) -> BlkBed:
        """Return a bed with a ring of the size that its requests need."""
        return BlkBed(self.dut, config, self.scenario)

    async def check(self) -> None:
        """Have all requests answered; after writes, read the disk back."""
        ring = self.bed.rings[_QUEUE]
        await self._drain()
        if self.scenario.direction == "write":
            ring.look()
            end = ring.available + ring.lap
            while ring.available < end:
                ring.add(min(IN_FLIGHT, end - ring.available))
                await self._drain()
        await super().check()

    async def _drain(self) -> None:
        ring, host = self.bed.rings[_QUEUE], self.bed.host
        limit = host.now_ns() + _DRAIN_NS
        if ring.needs_kick():
            await host.pci.notify(_QUEUE)
        while ring.taken < ring.available:
            await Timer(_POLL_NS, "ns")
            ring.poll()
            assert host.now_ns() < limit, await host.complaint()
