"""A whole system: host, link, the net device in RTL, its PCI driver and its net driver."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import Any

from lib.axi_frames import AxiFrameSink, AxiFrameSource
from lib.net_features import ALL_FEATURES, wanted_features
from lib.net_traffic import exchange, random_cuts, random_frame
from lib.pcie.access import PciAccess
from lib.pcie.endpoint import RtlEndpoint
from lib.pcie.host import HostRootComplex
from lib.pcie.latency import ReadLatency
from lib.pcie.packet import MEM_READ
from lib.queue_pair import QueuePair
from lib.streams import cycles, reset, start_clock
from virtio_model.driver.free_list import FreePolicy
from virtio_model.driver.make import Queue, make_queue
from virtio_model.driver.net import NetDriver, Received
from virtio_model.driver.pci import VirtioPciDriver
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.spec import net
from virtio_model.spec.pci import NO_VECTOR
from virtio_rtl.config import DeviceConfig, named_config

__all__ = [
    "ALL_FEATURES",
    "MESSAGE_ADDRESS",
    "NetSystem",
    "exchange",
    "random_cuts",
    "random_frame",
    "small_config",
    "wanted_features",
]

MESSAGE_ADDRESS = 0xFEE0_0000
"""Vector n of the MSI-X table is programmed with this address and data ``0x4000 + n``."""


def small_config(name: str) -> DeviceConfig:
    """A named configuration with small memories: corners come sooner, models build faster."""
    config = named_config(name)
    read_ahead = min(config.read_ahead, 64)
    return replace(config, read_tags=32, read_ahead=read_ahead, completion_timeout_us=20)


class NetSystem:
    """Brings a net device up and keeps its driver.

    Parameters
    ----------
    dut, config
        `VirtioDevice(config)` and its configuration.
    latency
        Of the host's memory; None for the default of `HostRootComplex`.
    split
        Completions in 64-byte pieces.
    tx_size, rx_size
        Virtqueue sizes.
    ring, features
        Ring format and ring features to negotiate, as for `wanted_features`.
    policy
        How split virtqueues choose free descriptors; unless told as `SplitQueue` does.
    stall
        Chance of a stall per cycle on TLP and AXI streams.
    """

    MEMORY_BASE = 1 << 32

    def __init__(
        self,
        dut: Any,
        config: DeviceConfig,
        *,
        latency: ReadLatency | None = None,
        split: bool = False,
        rx_size: int = 64,
        tx_size: int = 64,
        stall: float = 0.0,
        ring: str = "packed",
        features: Collection[str] = ("indirect_desc",),
        policy: FreePolicy | None = None,
        memory_bytes: int = 1 << 23,
        **host: Any,
    ):
        self.dut = dut
        self.config = config
        self.memory = GuestMemory(memory_bytes, self.MEMORY_BASE, raise_faults=False)
        self.allocator = Allocator(self.memory)
        self.sizes = (rx_size, tx_size)
        self.wanted = wanted_features(ring, features)
        self.policy = policy
        start_clock(dut, 1000 / config.clock_mhz)
        self.host = HostRootComplex(self.memory, latency=latency, split_on_all_rcb=split, **host)
        self.endpoint = RtlEndpoint(
            dut,
            config.width,
            lanes=config.lanes,
            generation=config.generation,
            rx_stall=stall,
            tx_stall=stall,
        )
        self.endpoint.connect(self.host.make_port())
        self.sink = AxiFrameSink(dut, "net_tx", stall=stall)
        self.source = AxiFrameSource(dut, "net_rx", config.width, stall=stall)
        self.dma_writes: list[int] = []
        self.memory.write_hooks.append(lambda address, _: self.dma_writes.append(address))
        self.queues: list[Queue] = []
        self.pairs: list[QueuePair] = []
        self.accepted = 0
        self._msix = True
        self.device_control_at = 0
        """Offset of the PCI Express capability's device control, once brought up."""
        self.pci: VirtioPciDriver

    async def bring_up(self, features: int | None = None, *, msix: bool = True) -> None:
        """Enumerate, negotiate, set up all virtqueues, DRIVER_OK.

        features: what to accept, as far as it is offered; unless told all that this system was
        made with, which must be offered.
        """
        self.dut.link_up.value = 1
        await reset(self.dut)
        self.access = PciAccess(self.host, await self.host.bring_up())
        self.device_control_at = await self.capability(0x10) + 8
        self._device_control = await self.access.config_read(self.device_control_at, 2)
        self.pci = VirtioPciDriver(self.access, dependencies=net.DEPENDENCIES)
        await self.pci.discover()
        await self.start(features, msix=msix)

    async def start(
        self,
        features: int | None = None,
        *,
        msix: bool = True,
        leave_out: Collection[int] = (),
        before_driver_ok: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Initialise the device from reset on; also after a reset in mid-traffic.

        Vector 0 is for configuration changes, n + 1 for virtqueue n; where there are too few,
        virtqueues share. Virtqueues in `leave_out` are not set up.
        """
        self.accepted = await self.pci.start(self.wanted if features is None else features)
        if features is None and (missing := self.wanted & ~self.accepted):
            raise AssertionError(f"features not offered: {missing:#x}")
        self._msix = msix
        if msix:
            await self.pci.msix.enable()
            for vector in range(self.vectors):
                await self.pci.set_vector(vector, MESSAGE_ADDRESS, 0x4000 + vector)
            await self.pci.set_config_vector(0)
        for pair in self.pairs:
            pair.net.take_back(pair.net.rx)
            pair.net.take_back(pair.net.tx)
        for queue in self.queues:
            queue.close()
        self.queues = [self._make_queue(size) for size in self.sizes * self.config.queue_pairs]
        for index in range(len(self.queues)):
            if index not in leave_out:
                await self._set_up(index)
        self.pairs = [
            QueuePair(NetDriver(self.memory, self.allocator, rx, tx, features=self.accepted))
            for rx, tx in zip(self.queues[::2], self.queues[1::2], strict=True)
        ]
        if before_driver_ok:
            await before_driver_ok()
        await self.pci.driver_ok()

    @property
    def vectors(self) -> int:
        """MSI-X vectors in use."""
        return min(self.config.num_queues + 1, self.config.msix_vectors)

    def vector_of(self, index: int) -> int:
        """Vector of a virtqueue's used buffer notifications."""
        return 1 + index % (self.vectors - 1)

    def _make_queue(self, size: int) -> Queue:
        return make_queue(
            self.memory,
            self.allocator,
            size,
            self.accepted,
            policy=self.policy,
            mixed=True,
            shuffle_ids=random.Random(random.random()),
        )

    async def _set_up(self, index: int) -> None:
        vector = self.vector_of(index) if self._msix else NO_VECTOR
        await self.pci.setup_queue(index, self.queues[index], vector=vector)

    async def reset_queue(self, index: int, size: int | None = None) -> list[Any]:
        """Reset a virtqueue and set it up again, with another size if wanted.

        Its buffers are gone; the cookies of frames not transmitted.
        """
        await self.pci.reset_queue(index)
        driver = self.pairs[index // 2].net
        queue = self.queues[index]
        cookies = driver.take_back(queue)
        if size is not None:
            queue.close()
            self.queues[index] = queue = self._make_queue(size)
            if index % 2:
                driver.tx = queue
            else:
                driver.rx = queue
        await self._set_up(index)
        return cookies

    async def suspend(self) -> None:
        """Suspend the device; until `resume`, no virtqueue takes a buffer and no kick is sent."""
        await self.pci.suspend()

    async def resume(self) -> None:
        """Resume the device."""
        await self.pci.resume()

    @property
    def net(self) -> NetDriver:
        """Driver of the first queue pair."""
        return self.pairs[0].net

    @property
    def received(self) -> list[Received]:
        """Frames that the first queue pair has received."""
        return self.pairs[0].received

    @property
    def memory_reads(self) -> int:
        """Read TLPs that the device has sent."""
        snapshot = self.host.monitor.snapshot()
        return sum(
            line.tlps
            for (way, _, kind), line in snapshot.lines.items()
            if way == "up" and kind == MEM_READ
        )

    @property
    def interrupts(self) -> list[int]:
        """Vectors signalled so far."""
        return [item.data - 0x4000 for item in self.host.interrupts.received]

    async def kick(self, index: int) -> None:
        """Notify the device if it wants that."""
        await self.pci.kick(index)

    def poll(self) -> list[Any]:
        """Reap the virtqueues of the first pair; cookies of transmitted frames."""
        return self.pairs[0].poll()

    async def until(self, condition: Any, limit: int = 20_000) -> None:
        """Poll `condition` every few cycles, up to `limit` cycles."""
        for _ in range(limit // 20):
            if condition():
                return
            await cycles(self.dut, 20)
        raise AssertionError(f"not within {limit} cycles")

    async def capability(self, kind: int) -> int:
        """Offset of a PCI capability."""
        at = await self.access.config_read(0x34, 1)
        while await self.access.config_read(at, 1) != kind:
            at = await self.access.config_read(at + 1, 1)
        return at

    async def initiate_flr(self) -> None:
        """Ask for a function level reset; returns at once."""
        at = self.device_control_at
        control = await self.access.config_read(at, 2)
        await self.access.config_write(at, control | 0x8000, 2)

    async def function_level_reset(self) -> None:
        """Initiate FLR, and give it 4000 cycles; a host waits 100 ms."""
        await self.initiate_flr()
        await cycles(self.dut, 4000)

    async def restore(self) -> None:
        """Program again what an FLR has cleared: BAR, command, device control."""
        base = self.access.bar_address(0, 0)
        await self.access.config_write(0x10, base & 0xFFFF_FFFF, 4)
        await self.access.config_write(0x14, base >> 32, 4)
        await self.access.config_write(self.device_control_at, self._device_control, 2)
        await self.access.config_write(4, 6, 2)
