"""The host: cocotbext-pcie's root complex with memory, latency, interrupts and errors."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import cocotb
from cocotb.triggers import Event, Timer
from cocotb.utils import get_sim_time
from cocotbext.pcie.core import RootComplex
from cocotbext.pcie.core.caps import PciCapId
from cocotbext.pcie.core.pci import PciDevice

from lib.pcie.dma import MemoryTarget
from lib.pcie.faults import Fault
from lib.pcie.interrupts import InterruptController
from lib.pcie.latency import ReadLatency
from lib.pcie.link import LinkPort, disarm
from lib.pcie.monitor import LinkMonitor
from lib.pcie.packet import (
    COMPLETION,
    COMPLETION_DATA,
    MEM_READ,
    MEM_WRITE,
    MESSAGE,
    MESSAGE_DATA,
    SUCCESS,
    Packet,
)

_ENUMERATION_TAGS = 32  # the tags below are those of cocotbext-pcie's own requests
_MMIO_BACKLOG = 8
_TIMEOUT_STEP_NS = 1000


class _Waiting:
    """A request that waits for its completions."""

    def __init__(self, deadline_ns: float) -> None:
        self.done = Event()
        self.pieces: list[Packet] = []
        self.late = False
        self.deadline_ns = deadline_ns

    def expire(self) -> None:
        """Wait no longer; what comes yet is taken and forgotten."""
        self.deadline_ns = math.inf
        if not self.done.is_set():
            self.late = True
            self.done.set()


class BusError(Exception):
    """A read by the host was not answered, or with an error."""


class HostRootComplex(RootComplex):
    """Root complex whose memory is a `virtio_model.memory.GuestMemory`.

    Parameters
    ----------
    memory
        What the device reads and writes; None: every DMA access is refused. Base it at 4 GiB or
        above if the wire is to be counted with 64-bit addresses.
    latency
        `ReadLatency`; default 600 ns on average, 400 to 1000, answers out of order.
    max_payload, max_read_request, read_boundary
        Bytes. What `bring_up` programs; completions never exceed `max_payload`.
    split_on_all_rcb
        Completions end at every read completion boundary.
    credits
        What the root port advertises: [PH, PD, NPH, NPD, CPLH, CPLD].

    The device's memory requests are answered by `target` (see `MemoryTarget` for its settings),
    configuration and I/O go through cocotbext-pcie. `interrupts` collects MSI-X and INTx,
    `monitor` counts the link, `messages` keeps other messages. One device per root complex.
    """

    def __init__(
        self,
        memory: Any = None,
        *,
        latency: ReadLatency | None = None,
        max_payload: int = 256,
        max_read_request: int = 512,
        read_boundary: int = 64,
        split_on_all_rcb: bool = False,
        credits: tuple[int, ...] = (64, 1024, 64, 64, 64, 1024),
    ) -> None:
        super().__init__()
        self.memory = memory
        self.monitor = LinkMonitor()
        self.interrupts = InterruptController()
        self.messages: list[Packet] = []
        self.stray_completions: list[Packet] = []
        self.target = target = MemoryTarget(memory, latency or ReadLatency())
        target.boundary = read_boundary
        target.split_on_all_boundaries = split_on_all_rcb
        target.max_payload = target.checker.max_payload = max_payload
        target.checker.max_read_request = max_read_request
        target.write_claims.append(self.interrupts.claim)
        self.max_payload_size = (max_payload // 128).bit_length() - 1
        self.max_read_request_size = (max_read_request // 128).bit_length() - 1
        self.read_completion_boundary = read_boundary == 128
        self.link: LinkPort
        self._credits = list(credits)
        self._mmio: dict[int, _Waiting] = {}
        self._asked = Event()
        self._free_tags = deque(range(_ENUMERATION_TAGS, 256))
        self._tag_freed = Event()
        cocotb.start_soon(self._run_timeouts())

    def make_port(self, bridge: Any = None, port: Any = None) -> Any:
        """Make the root port; connect the endpoint to what this returns."""
        bridge = super().make_port(bridge)
        disarm(bridge.downstream_port)
        self.link = LinkPort(self._credits)
        bridge.set_downstream_port(self.link)
        self.link.monitor = self.monitor
        self.link.on_packet = self._arrived
        return bridge

    @property
    def violations(self) -> list[str]:
        """PCIe rules that the device's requests broke."""
        return self.target.checker.violations

    def fault(self, start: int, end: int, kind: str, count: int | None = None) -> Fault:
        """Make the device's accesses that touch [start, end) fail; kinds in `faults.KINDS`."""
        return self.target.faults.add(Fault(start, end, kind, count))

    def check(self) -> None:
        """Assert that the device broke no rule of the bus or of its memory windows."""
        assert not self.violations, self.violations[:3]
        assert not self.target.unclaimed, self.target.unclaimed[:3]
        assert not self.stray_completions, self.stray_completions[:3]
        faults = getattr(self.memory, "faults", [])
        assert not faults, faults[:3]

    # What arrives from the device

    def _arrived(self, packet: Packet) -> bool:
        kind = packet.type
        if kind <= MEM_WRITE:
            self.target.handle(packet, self.link.submit)
        elif kind in (MESSAGE, MESSAGE_DATA):
            if not self.interrupts.message(packet.message_code):
                self.messages.append(packet)
        elif kind not in (COMPLETION, COMPLETION_DATA):
            self.violations.append(f"an endpoint must not send this: {packet!r}")
        elif packet.tag >= _ENUMERATION_TAGS or not self.tag_active[packet.tag]:
            self._completed(packet)
        else:
            return False
        self.link.release(packet)
        return True

    def _completed(self, packet: Packet) -> None:
        waiting = self._mmio.get(packet.tag)
        if waiting is None:
            self.stray_completions.append(packet)
            return
        waiting.pieces.append(packet)
        if packet.type == COMPLETION or packet.byte_count <= len(packet.data) - (
            packet.lower_address & 3
        ):
            waiting.done.set()

    # What the processor does

    async def mmio_write(self, address: int, data: bytes) -> None:
        """Write up to 4 KiB - (address mod 4 KiB) bytes, in one TLP; posted."""
        await self._room()
        self.link.submit(memory_request(MEM_WRITE, address, len(data), data))

    async def mmio_read(self, address: int, length: int, timeout_ns: float = 50_000) -> bytes:
        """Read within 4 KiB; raises `BusError` if there is no good answer in time."""
        pieces = await self.mmio_request(memory_request(MEM_READ, address, length), timeout_ns)
        data = b""
        for piece in pieces:
            if piece.status != SUCCESS or piece.poisoned:
                raise BusError(f"read of {address:#x}: {piece!r}")
            data += piece.data
        return data[address & 3 :][:length]

    async def mmio_request(self, packet: Packet, timeout_ns: float = 50_000) -> list[Packet]:
        """Send any nonposted request; give its completions. The tag is chosen here."""
        while not self._free_tags:
            self._tag_freed.clear()
            await self._tag_freed.wait()
        packet.tag = tag = self._free_tags.popleft()
        await self._room()
        waiting = self._mmio[tag] = _Waiting(get_sim_time("ns") + timeout_ns)
        self._asked.set()
        self.link.submit(packet)
        await waiting.done.wait()
        if waiting.late:
            # The tag stays out of use: a late answer must not be taken for another's.
            raise BusError(f"no answer within {timeout_ns} ns at {get_sim_time('ns')}: {packet!r}")
        del self._mmio[tag]
        self._free_tags.append(tag)
        self._tag_freed.set()
        return waiting.pieces

    async def _run_timeouts(self) -> None:
        """Watch over all requests: a timer for each would cost more than the request."""
        while True:
            now = get_sim_time("ns")
            soonest = min((each.deadline_ns for each in self._mmio.values()), default=math.inf)
            if soonest == math.inf:
                self._asked.clear()
                await self._asked.wait()
            elif soonest > now:
                # A request that comes meanwhile may have less time.
                await Timer(min(soonest - now, _TIMEOUT_STEP_NS), "ns", round_mode="ceil")
            for each in self._mmio.values():
                if each.deadline_ns <= get_sim_time("ns"):
                    each.expire()

    async def _room(self) -> None:
        # Completions do not count: a device that reads without end would keep the CPU away.
        while self.link.requests_waiting() > _MMIO_BACKLOG:
            await Timer(10, "ns")

    # Bring-up

    async def bring_up(self) -> PciDevice:
        """Train, enumerate, program MPS, MRRS and RCB, enable memory and bus mastering."""
        while not self.link.up:
            await Timer(10, "ns")
        await self.enumerate()
        device = self.first_device()
        checker = self.target.checker
        checker.requester_id = int(device.pcie_id)
        await device.set_readrq(self.max_read_request_size)
        payload = 128 << await device.get_mps()
        checker.max_payload = payload
        self.target.max_payload = min(self.target.max_payload, payload)
        if self.read_completion_boundary:
            control = await device.capability_read_word(PciCapId.EXP, 0x10)
            await device.capability_write_word(PciCapId.EXP, 0x10, control | 8)
        await device.enable_device()
        await device.set_master()
        return device

    def first_device(self) -> PciDevice:
        """Return the first function below the root port."""
        for bus in self.host_bridge.bus.children:
            for device in bus.devices:
                return device
        raise BusError("enumeration found no device")


def memory_request(kind: int, address: int, length: int, data: bytes = b"") -> Packet:
    """Return a memory request for `length` bytes at any byte address, all within 4 KiB."""
    before = address & 3
    size = max(before + length + 3 & ~3, 4)
    after = size - before - length
    first, last = 0xF << before & 0xF, 0xF >> after
    if length == 0:
        first = last = 0
    if size == 4:
        first, last = first & last, 0
    payload = bytes(before) + bytes(data) + bytes(after) if data else b""
    request = Packet(kind, payload, address=address & ~3, first_be=first, last_be=last)
    request.length_dw = size // 4
    return request


__all__ = ["BusError", "HostRootComplex", "memory_request"]
