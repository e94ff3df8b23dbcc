"""A whole system with a device of any type: host, link, the device in RTL, its PCI driver."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from lib.pcie.access import PciAccess
from lib.pcie.endpoint import RtlEndpoint
from lib.pcie.host import HostRootComplex
from lib.pcie.latency import ReadLatency
from lib.pcie.packet import MEM_READ
from lib.ring_features import ring_features
from lib.streams import cycles, reset, start_clock
from virtio_model.driver.free_list import FreePolicy
from virtio_model.driver.make import Queue, make_queue
from virtio_model.driver.pci import VirtioPciDriver
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.spec.features import Dependencies
from virtio_model.spec.pci import NO_VECTOR
from virtio_rtl.config import DeviceConfig, named_config

__all__ = ["MESSAGE_ADDRESS", "DeviceSystem", "small_config"]

MESSAGE_ADDRESS = 0xFEE0_0000
"""Vector n of the MSI-X table is programmed with this address and data ``0x4000 + n``."""


def small_config(name: str) -> DeviceConfig:
    """A named configuration with small memories: corners come sooner, models build faster."""
    config = named_config(name)
    read_ahead = min(config.read_ahead, 64)
    return replace(config, read_tags=32, read_ahead=read_ahead, completion_timeout_us=20)


class DeviceSystem:
    """Brings a device up and keeps its virtqueues.

    A device type's system is a subclass: it drives the ports to the outside, and makes its drivers
    on `queues` in `make_drivers`.

    Parameters
    ----------
    dut, config
        `VirtioDevice(config)` and its configuration.
    latency
        Of the host's memory; None for the default of `HostRootComplex`.
    split
        Completions in 64-byte pieces.
    sizes
        Size of each virtqueue, or one for all.
    ring, features
        Ring format and ring features to negotiate, as for `ring_features`.
    type_features
        Features of the device type to negotiate.
    policy
        How split virtqueues choose free descriptors; unless told as `SplitQueue` does.
    stall
        Chance of a stall per cycle on the TLP streams.
    """

    MEMORY_BASE = 1 << 32
    DEPENDENCIES: ClassVar[Dependencies] = {}
    """What features of the type need."""
    DEVICE_CONFIG = True
    """Whether the device has a device configuration."""
    PCI_ID: ClassVar[tuple[int, int] | None] = None
    """Vendor and device id, of a device that has a vendor's own."""

    def __init__(
        self,
        dut: Any,
        config: DeviceConfig,
        *,
        latency: ReadLatency | None = None,
        split: bool = False,
        sizes: int | Sequence[int] = 64,
        stall: float = 0.0,
        ring: str = "packed",
        features: Collection[str] = ("indirect_desc",),
        type_features: int = 0,
        policy: FreePolicy | None = None,
        memory_bytes: int = 1 << 23,
        **host: Any,
    ):
        self.dut = dut
        self.config = config
        self.memory = GuestMemory(memory_bytes, self.MEMORY_BASE, raise_faults=False)
        self.allocator = Allocator(self.memory)
        self.sizes = sizes
        self.wanted = ring_features(ring, features) | type_features
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
        self.dma_writes: list[int] = []
        self.memory.write_hooks.append(lambda address, _: self.dma_writes.append(address))
        self.queues: list[Queue] = []
        self.accepted = 0
        self._msix = True
        self.device_control_at = 0
        """Offset of the PCI Express capability's device control, once brought up."""
        self.pci: VirtioPciDriver

    # For a device type

    def make_drivers(self) -> None:
        """Make the drivers of the device type, on new `queues`."""

    def take_back(self, index: int) -> list[Any]:
        """Take back what was in a virtqueue that was reset; cookies."""
        return []

    def queue_replaced(self, index: int) -> None:
        """`queues[index]` is another one."""

    # Bring-up

    async def bring_up(self, features: int | None = None, *, msix: bool = True) -> None:
        """Enumerate, negotiate, set up all virtqueues, DRIVER_OK.

        features: what to accept, as far as it is offered; unless told all that this system was
        made with, which must be offered.
        """
        await reset(self.dut)
        self.access = PciAccess(self.host, await self.host.bring_up())
        self.device_control_at = await self.capability(0x10) + 8
        self._device_control = await self.access.config_read(self.device_control_at, 2)
        self.pci = VirtioPciDriver(
            self.access,
            dependencies=self.DEPENDENCIES,
            device_config=self.DEVICE_CONFIG,
            pci_id=self.PCI_ID,
        )
        await self.pci.discover()
        await self.start(features, msix=msix)

    async def start(
        self,
        features: int | None = None,
        *,
        msix: bool = True,
        leave_out: Collection[int] = (),
        before_driver_ok: Callable[[], Awaitable[None]] | None = None,
        keep: bool = False,
    ) -> None:
        """Initialise the device from reset on; also after a reset in mid-traffic.

        Vector 0 is for configuration changes, n + 1 for virtqueue n; where there are too few,
        virtqueues share. Virtqueues in `leave_out` are not set up. keep: virtqueues, empty by now,
        and drivers stay the same.
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
        if not keep:
            self.close()
            sizes = self.sizes
            if isinstance(sizes, int):
                sizes = [sizes] * self.config.num_queues
            self.queues = [self._make_queue(size) for size in sizes]
        for index in range(len(self.queues)):
            if index not in leave_out:
                await self._set_up(index)
        if not keep:
            self.make_drivers()
        if before_driver_ok:
            await before_driver_ok()
        await self.pci.driver_ok()

    def close(self) -> None:
        """Forget all virtqueues, after a reset; a subclass takes back their buffers first."""
        for queue in self.queues:
            queue.close()
        self.queues = []

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

    # Life

    async def reset_queue(self, index: int, size: int | None = None) -> list[Any]:
        """Reset a virtqueue and set it up again, with another size if wanted.

        Its buffers are gone; the cookies that `take_back` gives.
        """
        await self.pci.reset_queue(index)
        cookies = self.take_back(index)
        if size is not None:
            self.queues[index].close()
            self.queues[index] = self._make_queue(size)
            self.queue_replaced(index)
        await self._set_up(index)
        return cookies

    async def suspend(self) -> None:
        """Suspend the device; until `resume`, no virtqueue takes a buffer and no kick is sent."""
        await self.pci.suspend()

    async def resume(self) -> None:
        """Resume the device."""
        await self.pci.resume()

    async def kick(self, index: int) -> None:
        """Notify the device if it wants that."""
        await self.pci.kick(index)

    async def until(self, condition: Any, limit: int = 20_000) -> None:
        """Poll `condition` every few cycles, up to `limit` cycles."""
        for _ in range(limit // 20):
            if condition():
                return
            await cycles(self.dut, 20)
        raise AssertionError(f"not within {limit} cycles")

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

    # The PCI function

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
