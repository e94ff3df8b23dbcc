"""The traffic of `guest.link_speed`, over plain cocotbext-pcie and over `lib.pcie`."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import cocotb
from cocotb.queue import Queue
from cocotb.triggers import Event, Timer
from cocotbext.pcie.core import Device, MemoryEndpoint, RootComplex

from lib.pcie.host import HostRootComplex, memory_request
from lib.pcie.latency import ReadLatency
from lib.pcie.link import LinkPort
from lib.pcie.packet import COMPLETION_DATA, MEM_READ, MEM_WRITE, Packet
from lib.sim import params
from virtio_model.memory import GuestMemory

READ, WRITE = 512, 256
"""Bytes of the device's requests, each one TLP."""
IN_FLIGHT = 32
_BAR_BYTES = 4096
_MEMORY_BYTES = 1 << 20

Work = tuple[Callable[[int, int], Awaitable[bytes]], Callable[[int, bytes], Awaitable[None]]]


async def device_traffic(work: Work, base: int, count: int, data: bytes) -> None:
    """Write the data, then read it back with many reads in flight, `count` times each."""
    read, write = work
    places = [index * READ % _MEMORY_BYTES for index in range(count)]
    for at in places:
        for half in (0, WRITE):
            await write(base + at + half, data[at + half :][:WRITE])
    waiting: Queue[int] = Queue()
    for at in places:
        waiting.put_nowait(at)

    async def reader() -> None:
        while not waiting.empty():
            at = waiting.get_nowait()
            assert await read(base + at, READ) == data[at : at + READ]

    readers = [cocotb.start_soon(reader()) for _ in range(IN_FLIGHT)]
    for each in readers:
        await each


async def host_traffic(work: Work, count: int) -> None:
    """Write dwords to the device's BAR, and read each back."""
    read, write = work
    for number in range(count):
        at = number * 4 % _BAR_BYTES
        value = number.to_bytes(4, "little")
        await write(at, value)
        assert await read(at, 4) == value


class PlainLink:
    """cocotbext-pcie as it is: root complex, memory endpoint, and the link between them."""

    def __init__(self) -> None:
        self.root = RootComplex()
        self.root.max_payload_size = 1
        self.endpoint = MemoryEndpoint()
        self.endpoint.add_mem_region(_BAR_BYTES)
        self.endpoint.pcie_cap.max_payload_size_supported = 1
        self.endpoint.pcie_cap.extended_tag_supported = True
        self.device = Device(self.endpoint)
        self.root.make_port().connect(self.device)

    async def start(self) -> None:
        """Enumerate."""
        await self.root.enumerate()
        function = self.root.find_device(self.endpoint.pcie_id)
        await function.enable_device()
        await function.set_master()
        self._bar = function.bar_addr[0]
        self._memory = self.root.mem_pool.alloc_region(_MEMORY_BYTES)
        self.base = self._memory.get_absolute_address(0)

    async def device_read(self, address: int, length: int) -> bytes:
        """Read the host's memory."""
        return bytes(await self.endpoint.mem_read(address, length))

    async def device_write(self, address: int, data: bytes) -> None:
        """Write the host's memory."""
        await self.endpoint.mem_write(address, data)

    async def host_read(self, offset: int, length: int) -> bytes:
        """Read the BAR."""
        return bytes(await self.root.mem_read(self._bar + offset, length))

    async def host_write(self, offset: int, data: bytes) -> None:
        """Write the BAR."""
        await self.root.mem_write(self._bar + offset, data)

    def tlps(self) -> int:
        """TLPs that went either way, modulo 4096 each way."""
        port = self.device.upstream_port
        return int(port.next_transmit_seq) + int(port.next_recv_seq)


class FastLink:
    """`lib.pcie`: its root complex, and an endpoint as short as `MemoryEndpoint` is."""

    base = 1 << 16

    def __init__(self) -> None:
        self.memory = GuestMemory(_MEMORY_BYTES, self.base, raise_faults=False)
        self.memory.grant(self.base, _MEMORY_BYTES, writable=True)
        self.root = HostRootComplex(self.memory, latency=ReadLatency(0.0, None))
        self.port = LinkPort([64, 1024, 64, 64, 0, 0])
        self.port.on_packet = self._arrived
        self.port.connect(self.root.make_port())
        self._bar = bytearray(_BAR_BYTES)
        self._tags = list(range(256))
        self._waiting: dict[int, tuple[Event, list[Packet]]] = {}

    async def start(self) -> None:
        """Wait for the link; nothing here needs an address."""
        while not (self.port.up and self.root.link.up):
            await Timer(10, "ns")

    def _arrived(self, packet: Packet) -> bool:
        if packet.type == COMPLETION_DATA:
            done, pieces = self._waiting[packet.tag]
            pieces.append(packet)
            if packet.byte_count <= len(packet.data):
                done.set()
        elif packet.type == MEM_WRITE:
            self._bar[packet.address : packet.address + 4] = packet.data
        else:
            answer = Packet(
                COMPLETION_DATA,
                bytes(self._bar[packet.address : packet.address + 4]),
                requester_id=packet.requester_id,
                tag=packet.tag,
                byte_count=4,
                lower_address=packet.address & 0x7F,
            )
            self.port.submit(answer)
        self.port.release(packet)
        return True

    async def device_read(self, address: int, length: int) -> bytes:
        """Read the host's memory."""
        request = memory_request(MEM_READ, address, length)
        request.tag = tag = self._tags.pop()
        done, pieces = self._waiting[tag] = (Event(), [])
        self.port.submit(request)
        await done.wait()
        self._tags.append(tag)
        return b"".join([piece.data for piece in pieces])

    async def device_write(self, address: int, data: bytes) -> None:
        """Write the host's memory."""
        while self.port.backlog() > IN_FLIGHT:
            await Timer(100, "ns")
        self.port.submit(memory_request(MEM_WRITE, address, len(data), data))

    async def host_read(self, offset: int, length: int) -> bytes:
        """Read the BAR."""
        return await self.root.mmio_read(offset, length)

    async def host_write(self, offset: int, data: bytes) -> None:
        """Write the BAR."""
        await self.root.mmio_write(offset, data)

    def tlps(self) -> int:
        """TLPs that went either way, modulo 4096 each way."""
        return self.port.next_transmit_seq + self.port.next_recv_seq


async def measure(link: Any, count: int, data: bytes) -> dict[str, float]:
    """Run the traffic; processor seconds of both parts, and the TLPs."""
    await link.start()
    found: dict[str, float] = {}
    device, host = (link.device_read, link.device_write), (link.host_read, link.host_write)
    for name, traffic in (
        ("device", lambda: device_traffic(device, link.base, count, data)),
        ("host", lambda: host_traffic(host, count)),
    ):
        before, started = link.tlps(), time.process_time()
        await traffic()
        found[name] = time.process_time() - started
        found[f"{name}_tlps"] = (link.tlps() - before) % 4096
    return found


@cocotb.test()
async def both_links(dut: Any) -> None:
    """The same traffic over one, then the other, several times; the best of each counts."""
    del dut
    given = params()
    data = random.Random(1).randbytes(_MEMORY_BYTES)
    rows: dict[str, list[dict[str, float]]] = {"plain": [], "fast": []}
    for _ in range(given.rounds):
        for name, kind in (("plain", PlainLink), ("fast", FastLink)):
            rows[name].append(await measure(kind(), given.count, data))
    Path(given.result).write_text(json.dumps(rows))
