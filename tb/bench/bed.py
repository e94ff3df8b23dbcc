"""A brought-up device with its rings, ready to be measured; runs inside the simulator."""

from __future__ import annotations

import bisect
import random
from typing import Any

import numpy as np
from cocotb.triggers import RisingEdge

from bench.bulk_ring import BulkRing
from bench.fast_chains import LONGEST, SHORTEST, FastChains, Framing, draw_framings
from bench.fast_ring import FastRing
from bench.pattern import LENGTHS, LengthWrite
from bench.scenario import HOST_READ_NS, Scenario
from demo.host import VECTOR, Host
from lib.layout import codec
from lib.pcie.access import PciAccess
from lib.pcie.packet import Packet
from lib.port import reader, writer
from virtio_model.spec import net, pci
from virtio_model.spec.split import DESC_SIZE
from virtio_rtl.config import DeviceConfig

__all__ = ["Bed", "BenchHost"]

_SLACK = 1 << 16
_ROOM = 2048
"""For a frame's buffer beyond its bytes: header, spare bytes, gaps between up to 16 pieces."""

_FLAGS_ALONE = 0x3
"""Byte enables of a read of a split virtqueue's avail.flags without avail.idx."""

_PURPOSES = {"other": "payload", "interrupt": "interrupts"}


class BenchHost(Host):
    """A `Host` for any number of queue pairs; it tells apart all areas of a virtqueue."""

    async def setup_queue(self, index: int, queue: Any) -> None:
        """Hand a virtqueue to the device, and name its areas for the wire account."""
        await self.pci.setup_queue(index, queue, VECTOR.get(index, pci.NO_VECTOR))
        for name, (start, end) in queue.layout.areas.items():
            self.ranges.add(name, start, end)

    def doorbell_address(self, index: int) -> int:
        """Return where a virtqueue's doorbell is on the bus."""
        access = self.pci.access
        assert isinstance(access, PciAccess)
        return access.bar_address(0, self.pci.queues[index].notify_offset)

    async def go(self) -> None:
        """DRIVER_OK; from here on the link is accounted by purpose."""
        for index in self.pci.queues:
            at = self.doorbell_address(index)
            self.ranges.add("doorbells", at, at + 4)
        await self.pci.driver_ok()
        self.root.monitor.classifier = self.purpose

    def purpose(self, packet: Packet, direction: str) -> str:
        """Return what a packet is for, as `bench.account.KINDS` calls it."""
        name = self.ranges(packet, direction)
        if name == "index" and packet.first_be == _FLAGS_ALONE:
            return "events"
        return _PURPOSES.get(name, name)


class Bed:
    """Host, device and the rings of one scenario.

    rings: by virtqueue, those of the scenario's directions. used: buffers that have come back, as
    the root port sees them. framings: per direction, what was drawn; for equal frames there is
    one piece each.
    """

    def __init__(self, dut: Any, config: DeviceConfig, scenario: Scenario, ring_size: int) -> None:
        self.dut = dut
        self.config = config
        self.scenario = scenario
        self.ring_size = ring_size
        self.indices = [
            index
            for index in range(config.num_queues)
            if scenario.direction in (self.direction(index), "both")
        ]
        longest = (scenario.length or LONGEST) + _ROOM
        buffers = ring_size if scenario.length else LENGTHS
        # One pair has both of its rings set up, as a driver would.
        self.idle = [index for index in (0, 1) if config.queue_pairs == 1]
        self.idle = [index for index in self.idle if index not in self.indices]
        count = len(self.indices) + len(self.idle)
        memory = _SLACK + count * (26 * ring_size + 256 + buffers * longest)
        self.host = BenchHost(dut, config, memory_bytes=memory, read_ns=HOST_READ_NS)
        target = self.host.root.target
        target.split_on_all_boundaries = scenario.piece == target.boundary
        self.rings: dict[int, BulkRing] = {}
        self.used: dict[int, int] = {}
        self.framings: dict[str, list[Framing]] = {}
        self._starts: list[int] = []
        self._owners: list[int] = []
        self._tables: tuple[list[int], list[int]] = ([], [])
        self._numpy = np.random.default_rng(random.getrandbits(32))
        self._random = random.Random(random.getrandbits(32))

    @staticmethod
    def direction(index: int) -> str:
        """Return the direction of a virtqueue."""
        return "transmit" if index & 1 else "receive"

    async def start(self) -> None:
        """Bring the device up with its rings, all empty, and load the frames' lengths."""
        host, scenario = self.host, self.scenario
        self.dut.generate.value = 0
        self.dut.arm.value = 1
        self.dut.lengths.value = 0
        await host.start(scenario.ring)
        lengths = [scenario.length or self._draw_length() for _ in range(LENGTHS)]
        for name in ("transmit", "receive"):
            self.framings[name] = self._frame(lengths, receive=name == "receive")
        for index in sorted([*self.indices, *self.idle]):
            ring = self._ring(index)
            await host.setup_queue(index, ring)
            if index in self.indices:
                self.rings[index], self.used[index] = ring, 0
        owners = sorted((ring.layout.used_addr, index) for index, ring in self.rings.items())
        self._starts, self._owners = [at for at, _ in owners], [index for _, index in owners]
        descriptors = sorted((ring.desc_addr, index) for index, ring in self.rings.items())
        self._tables = [at for at, _ in descriptors], [index for _, index in descriptors]
        await self._load(lengths)
        await host.go()

    def used_at(self, addr: int) -> int | None:
        """Return the virtqueue whose used buffers are written around an address."""
        place = bisect.bisect_right(self._starts, addr) - 1
        if place < 0:
            return None
        index = self._owners[place]
        inside = addr < self._starts[place] + self.rings[index].layout.used_bytes
        return index if inside else None

    def table_at(self, addr: int) -> int | None:
        """Return the virtqueue whose descriptor area holds an address."""
        starts, owners = self._tables
        place = bisect.bisect_right(starts, addr) - 1
        if place < 0 or addr >= starts[place] + DESC_SIZE * self.ring_size:
            return None
        return owners[place]

    def _draw_length(self) -> int:
        return self._random.randint(SHORTEST, LONGEST)

    def _frame(self, lengths: list[int], *, receive: bool) -> list[Framing]:
        if self.scenario.length:
            return [Framing(lengths[0], (lengths[0] + net.HEADER_SIZE,))]
        return draw_framings(self._random, lengths, receive=receive)

    def _ring(self, index: int) -> BulkRing:
        host, scenario = self.host, self.scenario
        name = self.direction(index)
        memory, allocator = host.memory, host.allocator
        if scenario.case == "framing":
            return FastChains(
                memory,
                allocator,
                self.ring_size,
                self.framings[name],
                receive=name == "receive",
                draw=self._random,
                ring=scenario.ring,
            )
        return FastRing(
            memory,
            allocator,
            self.ring_size,
            scenario.length,
            receive=name == "receive",
            draw=self._numpy,
            pair=index >> 1,
            interrupts=scenario.case == "lone",
            ring=scenario.ring,
        )

    async def _load(self, lengths: list[int]) -> None:
        put, encode = writer(self.dut.lengths), codec(LengthWrite).pack
        edge = RisingEdge(self.dut.clk)
        for index, length in enumerate(lengths):
            put(encode({"enable": 1, "index": index, "bytes": length}))
            await edge
        put(0)
        await edge

    def check_port(self) -> None:
        """Hold what left the transmit port against what was sent."""
        errors, taken = reader(self.dut.errors)(), reader(self.dut.taken)()
        sent = sum(ring.taken for ring in self.rings.values() if not ring.receive)
        assert errors == 0, f"{errors} wrong beats at the transmit port"
        assert taken >= sent, (taken, sent)
