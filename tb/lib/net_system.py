"""A whole system: host, link, the net device in RTL, its PCI driver and its net driver."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import Any

from lib.axi_frames import AxiFrameSink, AxiFrameSource
from lib.pcie.access import PciAccess
from lib.pcie.endpoint import RtlEndpoint
from lib.pcie.host import HostRootComplex
from lib.pcie.latency import ReadLatency
from lib.pcie.packet import MEM_READ
from lib.queue_pair import QueuePair
from lib.streams import cycles, reset, start_clock
from virtio_model.driver.net import NetDriver, Received
from virtio_model.driver.packed_queue import PackedQueue
from virtio_model.driver.pci import VirtioPciDriver
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.spec import net
from virtio_model.spec.features import Feature, mask
from virtio_rtl.config import DeviceConfig, named_config

__all__ = [
    "ALL_FEATURES",
    "MESSAGE_ADDRESS",
    "NetSystem",
    "exchange",
    "random_cuts",
    "random_frame",
    "small_config",
]

MESSAGE_ADDRESS = 0xFEE0_0000
"""Vector n of the MSI-X table is programmed with this address and data ``0x4000 + n``."""

ALL_FEATURES = mask(
    [
        Feature.VERSION_1,
        Feature.RING_PACKED,
        Feature.INDIRECT_DESC,
        Feature.ACCESS_PLATFORM,
        Feature.ORDER_PLATFORM,
        net.NetFeature.MAC,
        net.NetFeature.STATUS,
        net.NetFeature.MTU,
    ]
)


def small_config(name: str) -> DeviceConfig:
    """A named configuration with small memories: corners come sooner, models build faster."""
    config = named_config(name)
    return replace(config, read_tags=32, read_ahead=64, completion_timeout_us=20)


def random_frame(longest: int = 1514) -> bytes:
    """Random bytes; short frames as often as all the others."""
    return random.randbytes(random.choice([random.randint(14, 120), random.randint(14, longest)]))


def random_cuts(length: int) -> tuple[int, ...]:
    """Positions at which a buffer is cut into segments; often none."""
    return tuple(random.randrange(1, length) for _ in range(random.choice([0, 0, 0, 1, 2, 3, 7])))


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
        memory_bytes: int = 1 << 23,
        **host: Any,
    ):
        self.dut = dut
        self.config = config
        self.memory = GuestMemory(memory_bytes, self.MEMORY_BASE, raise_faults=False)
        self.allocator = Allocator(self.memory)
        self.sizes = (rx_size, tx_size)
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
        self.queues: list[PackedQueue] = []
        self.pairs: list[QueuePair] = []
        self.accepted = 0
        self.pci: VirtioPciDriver

    async def bring_up(self, features: int = ALL_FEATURES, *, msix: bool = True) -> None:
        """Enumerate, negotiate, set up all virtqueues, DRIVER_OK."""
        self.dut.link_up.value = 1
        await reset(self.dut)
        self.access = PciAccess(self.host, await self.host.bring_up())
        at = await self.capability(0x10)
        self._device_control = await self.access.config_read(at + 8, 2)
        self.pci = VirtioPciDriver(self.access, dependencies=net.DEPENDENCIES)
        await self.pci.discover()
        await self.start(features, msix=msix)

    async def start(
        self,
        features: int = ALL_FEATURES,
        *,
        msix: bool = True,
        leave_out: Collection[int] = (),
        before_driver_ok: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Initialise the device from reset on; also after a reset in mid-traffic.

        Vector 0 is for configuration changes, n + 1 for virtqueue n. Virtqueues in `leave_out`
        are not set up.
        """
        self.accepted = await self.pci.start(features)
        if msix:
            await self.pci.msix.enable()
            for vector in range(self.config.num_queues + 1):
                await self.pci.set_vector(vector, MESSAGE_ADDRESS, 0x4000 + vector)
            await self.pci.set_config_vector(0)
        for queue in self.queues:
            queue.close()
        self.queues = [
            PackedQueue(
                self.memory, self.allocator, size, shuffle_ids=random.Random(random.random())
            )
            for size in self.sizes * self.config.queue_pairs
        ]
        for index, queue in enumerate(self.queues):
            if index in leave_out:
                continue
            if msix:
                await self.pci.setup_queue(index, queue, vector=index + 1)
            else:
                await self.pci.setup_queue(index, queue)
        self.pairs = [
            QueuePair(NetDriver(self.memory, self.allocator, rx, tx, features=self.accepted))
            for rx, tx in zip(self.queues[::2], self.queues[1::2], strict=True)
        ]
        if before_driver_ok:
            await before_driver_ok()
        await self.pci.driver_ok()

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
        at = await self.capability(0x10)
        control = await self.access.config_read(at + 8, 2)
        await self.access.config_write(at + 8, control | 0x8000, 2)

    async def function_level_reset(self) -> None:
        """Initiate FLR, and give it 4000 cycles; a host waits 100 ms."""
        await self.initiate_flr()
        await cycles(self.dut, 4000)

    async def restore(self) -> None:
        """Program again what an FLR has cleared: BAR, command, device control."""
        base = self.access.bar_address(0, 0)
        await self.access.config_write(0x10, base & 0xFFFF_FFFF, 4)
        await self.access.config_write(0x14, base >> 32, 4)
        at = await self.capability(0x10)
        await self.access.config_write(at + 8, self._device_control, 2)
        await self.access.config_write(4, 6, 2)


async def exchange(system: NetSystem, count: int) -> None:
    """Send `count` random frames each way, framed at random; everything is compared.

    Frames and completions must come in order, each once; the rings must be as the driver expects.
    """
    first = len(system.sink.frames)
    sent: list[bytes] = []
    replies: list[bytes] = []
    done: list[int] = []
    while len(done) < count or len(system.received) < count:
        for _ in range(random.randint(0, 16)):
            frame = random_frame()
            cuts = random_cuts(len(frame) + 12)
            table = random.random() < 0.4
            if len(sent) == count or system.queues[1].free_slots < len(cuts) + 1:
                break
            system.net.send(
                frame, cuts=cuts, indirect=table, skew=random.randrange(64), cookie=len(sent)
            )
            sent.append(frame)
        await system.kick(1)
        for _ in range(random.randint(0, 16)):
            cuts = random_cuts(1600)
            if system.queues[0].free_slots < len(cuts) + 1:
                break
            table = random.random() < 0.4
            system.net.post(1600, cuts=cuts, indirect=table, skew=random.randrange(64), fill=0xA5)
        await system.kick(0)
        while len(replies) < count and system.source.waiting < 8:
            replies.append(random_frame())
            system.source.send(replies[-1])
        await cycles(system.dut, random.choice([10, 100, 400]))
        done += system.poll()
        for queue in system.queues:
            queue.audit()
    # A buffer is used when the device has its bytes; the frame leaves when it is whole.
    await system.until(lambda: len(system.sink.frames) >= first + count)
    assert done == list(range(count))
    assert system.sink.frames[first:] == sent
    assert [got.frame for got in system.received] == replies
    system.host.check()
