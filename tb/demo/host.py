"""The host of demo and bench: root complex, link, PCI driver, MSI-X; runs inside the simulator."""

from __future__ import annotations

from typing import Any

from cocotb.triggers import Timer
from cocotb.utils import get_sim_time

from lib.golden.places import areas
from lib.net_features import wanted_features
from lib.net_system import MESSAGE_ADDRESS
from lib.pcie.access import PciAccess
from lib.pcie.endpoint import RtlEndpoint
from lib.pcie.host import HostRootComplex
from lib.pcie.latency import ReadLatency
from lib.pcie.monitor import AddressRanges
from lib.pcie.packet import Packet
from lib.streams import reset, start_clock
from virtio_model.driver.pci import VirtioPciDriver
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.spec import net
from virtio_rtl.config import DeviceConfig
from virtio_rtl.regs import maps as regions
from virtio_rtl.top_counters import all_counters

__all__ = ["MESSAGE_ADDRESS", "RX", "TX", "VECTOR", "Host", "Stalled"]

RX, TX = net.rx_queue(0), net.tx_queue(0)
VECTOR = {RX: 1, TX: 2}
MEMORY_BASE = 1 << 32  # above 4 GiB, as most memory of a host: requests have 64-bit addresses

_SETTLE_NS = 2000
"""From link up to the first configuration request; real hosts wait 100 ms. [PCIe 3.0 §6.6.1]"""

_QUIET_US, _BUSY_US = 3, 500
"""Longer than any read takes; longer than a device reads ahead."""


class Stalled(Exception):
    """The device made no progress."""


class Host:
    """A host with one net device, and what the driver learned of it.

    dut: a component with the host side of `VirtioDevice(config)`. Make it before anything else
    that drives ports; then `start`, `setup_queue` for both queues, `go`.
    """

    def __init__(
        self, dut: Any, config: DeviceConfig, *, memory_bytes: int, read_ns: float = 600.0
    ) -> None:
        self.dut = dut
        self.config = config
        self.memory = GuestMemory(memory_bytes, MEMORY_BASE, raise_faults=False)
        self.allocator = Allocator(self.memory)
        self.features = 0
        self.mac = b""
        start_clock(dut, 1000 / config.clock_mhz)
        # The shape of the default latency, 400 to 1000 ns around 600, moved to another mean.
        spread = (read_ns * 2 / 3, read_ns * 5 / 3)
        self.root = HostRootComplex(self.memory, latency=ReadLatency(read_ns, spread))
        self.endpoint = RtlEndpoint(
            dut, config.width, lanes=config.lanes, generation=config.generation
        )
        self.endpoint.connect(self.root.make_port())
        self.ranges = AddressRanges()
        self.access: PciAccess
        self.pci: VirtioPciDriver

    async def start(self, ring: str = "packed") -> None:
        """Reset, train, enumerate, negotiate a ring format, program MSI-X."""
        await self.link_up()
        self.pci = pci = VirtioPciDriver(self.access, dependencies=net.DEPENDENCIES)
        await pci.discover()
        self.features = await pci.start(wanted_features(ring))
        fields = [field for field in net.CONFIG if field.name == "mac"]
        self.mac = (await pci.read_config(fields))["mac"].to_bytes(6, "little")
        await pci.msix.enable()
        for queue, vector in VECTOR.items():
            await pci.set_vector(vector, MESSAGE_ADDRESS, queue)
        self.ranges.add("interrupt", MESSAGE_ADDRESS, MESSAGE_ADDRESS + 4)

    async def link_up(self) -> None:
        """Reset, train, enumerate; from then on there is `access`."""
        await reset(self.dut, 8)
        while not self.endpoint.port.up:
            await Timer(10, "ns")
        await Timer(_SETTLE_NS, "ns")
        self.access = PciAccess(self.root, await self.root.bring_up())

    async def quiet(self) -> None:
        """Wait until nothing crosses the link: the device has read ahead and is idle."""
        monitor, before = self.root.monitor, -1
        limit = self.now_ns() + 1000 * _BUSY_US
        while before != (crossed := monitor.snapshot().total().tlps):
            if self.now_ns() > limit:
                raise Stalled(f"the link is not quiet within {_BUSY_US} us")
            before = crossed
            await Timer(_QUIET_US, "us")

    async def setup_queue(self, index: int, queue: Any) -> None:
        """Hand a virtqueue to the device, and name its areas for the wire account.

        All that counts are its size and the addresses of its three areas; what is not a
        `SplitQueue` counts as packed.
        """
        await self.pci.setup_queue(index, queue, VECTOR[index])
        for purpose, start, end in areas(queue):
            self.ranges.add(purpose, start, end)

    async def go(self) -> None:
        """DRIVER_OK; from here on the link is accounted by purpose."""
        active = self.pci.queues
        access = self.pci.access
        assert isinstance(access, PciAccess)
        for index in (RX, TX):
            at = access.bar_address(0, active[index].notify_offset)
            self.ranges.add("doorbell", at, at + 4)
        await self.pci.driver_ok()
        self.root.monitor.classifier = self._purpose

    def _purpose(self, packet: Packet, direction: str) -> str:
        purpose = self.ranges(packet, direction)
        return "frames" if purpose == "other" else purpose

    def now_ns(self) -> float:
        """Return the simulated time."""
        return float(get_sim_time("ns"))

    async def counters(self) -> dict[str, int]:
        """Read the device's event counters; those that are not 0."""
        counts = {}
        for number, counter in enumerate(all_counters(self.config)):
            at = regions.COUNTERS.start + 4 * number
            if count := await self.pci.access.bar_read(0, at, 4):
                counts[counter.name] = count
        return counts

    async def complaint(self) -> str:
        """Return what the device says of itself, for the message of a stalled run."""
        try:
            notes = [f"device status {int(await self.pci.status()):#04x}"]
            notes += [f"{name} {count}" for name, count in (await self.counters()).items()]
        except Exception as error:
            notes = [f"the device does not answer ({error})"]
        notes += [*self.root.violations[:1], *map(str, self.memory.faults[:1])]
        return "; ".join(notes)
