"""The RTL as a function behind the vfio-user server: every access of the guest is a TLP."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import cocotb
from cocotb.triggers import Timer
from cocotb.utils import get_sim_time

from guest.connection import ConnectionLost
from guest.device import AccessError, Host
from guest.rtl_ports import Ports
from lib.pcie.endpoint import RtlEndpoint
from lib.pcie.host import BusError, HostRootComplex
from lib.pcie.interrupts import Interrupt
from lib.pcie.latency import ReadLatency
from lib.pcie.packet import COMPLETION_DATA, SUCCESS, Packet
from lib.streams import reset, start_clock
from virtio_rtl.config import DeviceConfig
from virtio_rtl.regs.maps import NOTIFY
from virtio_rtl.types.tlp import TLPType

_CONFIG_READ = TLPType.CONFIG_READ0.value
_CONFIG_WRITE = TLPType.CONFIG_WRITE0.value
_CAP_POINTER, _CAP_EXPRESS, _DEVICE_CONTROL = 0x34, 0x10, 8
_INITIATE_FLR = 1 << 15
_BAR0 = 0x10
_MEMORY_TYPES = 0xF

_CONFIG_BATCH = 8
"""Configuration reads in flight."""
_STEP_CYCLES = 16
"""Simulated cycles between two looks at the socket."""
_QUIET_NS = 3_000
"""Longer than any read takes, and than the device waits between two things that it does. As soon as
nothing has moved for this long, and as long as it takes to hand on all that the device may hold of
what it has read, it is idle: a frame whose first bytes came last is handed on in silence."""
_RESET_LIMIT_NS = 200_000


class RtlFunction:
    """`guest.device.Function` by a `VirtioDevice` in Verilator.

    dut, config: the simulated device and its configuration.
    ports: what the device has besides PCIe, such as a network.
    latency: of reads of the guest's memory. Shorter than that of a real host unless told: a guest
    needs no figures, and every cycle costs.
    `reads`, `writes` (of BARs), `notifications` (writes to the notify region of BAR 0) and
    `config_accesses` count what the guest asked for.

    The device is a function on the bus of a `HostRootComplex`, which has enumerated it; the
    addresses that it got there are its own for good. Reads and writes of the guest are carried
    out one after the other; configuration reads of several dwords are in flight together. DMA goes
    to the guest's memory TLP by TLP; where the guest has no memory, a read is answered with
    Unsupported Request. Messages to 0xFEExxxxx go to the guest. Make it before reset, then
    `bring_up`.
    """

    def __init__(
        self,
        dut: Any,
        config: DeviceConfig,
        *,
        ports: Ports,
        latency: ReadLatency | None = None,
        stall: float = 0.0,
    ) -> None:
        self.dut = dut
        self.config = config
        self.ports = ports
        self.bars: Mapping[int, int] = {}
        self.reads = self.writes = self.notifications = self.config_accesses = 0
        period_ns = 1000 / config.clock_mhz
        start_clock(dut, period_ns)
        self.root = HostRootComplex(
            None, latency=latency or ReadLatency(200.0, (100.0, 500.0)), max_read_request=512
        )
        self.root.target.refuse_ungranted = True
        self.root.interrupts.callbacks.append(self._message)
        self.root.interrupts.level_callbacks.append(self._intx)
        self.endpoint = RtlEndpoint(
            dut,
            config.width,
            lanes=config.lanes,
            generation=config.generation,
            rx_stall=stall,
            tx_stall=stall,
        )
        self.endpoint.connect(self.root.make_port())
        self._host: Host | None = None
        self._device: Any = None
        self._control = 0
        held_beats = 8 * config.read_tags * config.read_slot_bytes / config.width
        self._quiet_ns = _QUIET_NS + held_beats * period_ns
        self._step_ps = round(_STEP_CYCLES * period_ns * 1000)
        self._marks: tuple[int, ...] = ()
        self._moved_ns = 0.0

    # Bring-up

    async def bring_up(self) -> None:
        """Reset, train, enumerate."""
        await reset(self.dut, 4)
        self._device = device = await self.root.bring_up()
        self.bars = {
            bar: size
            for bar, size in enumerate(device.bar_size)
            if size and device.bar_addr[bar] is not None
        }
        self._control = await self._express() + _DEVICE_CONTROL
        await self._follow()

    async def _express(self) -> int:
        at = (await self.config_read(_CAP_POINTER, 1))[0]
        while at:
            kind, following = await self.config_read(at, 2)
            if kind == _CAP_EXPRESS:
                return at
            at = following
        raise AccessError("the function has no PCI Express capability")

    async def _follow(self) -> None:
        """Hold the device to the sizes that the guest has programmed, and obey them as host."""
        control = int.from_bytes(await self.config_read(self._control, 2), "little")
        payload, request = 128 << (control >> 5 & 7), 128 << (control >> 12 & 7)
        target = self.root.target
        target.max_payload = target.checker.max_payload = payload
        target.checker.max_read_request = request

    # What the device may do: Host

    def connect(self, host: Host) -> None:
        """Take the host; its memory is what DMA reads and writes from now on."""
        self._host = host
        self.root.memory = self.root.target.memory = host.memory

    # A guest that has left is the server's to notice; the link here goes on.

    def _message(self, interrupt: Interrupt) -> None:
        if self._host is not None:
            with contextlib.suppress(ConnectionLost):
                self._host.message(interrupt.address, interrupt.data.to_bytes(4, "little"))

    def _intx(self, level: int) -> None:
        if self._host is not None:
            with contextlib.suppress(ConnectionLost):
                self._host.intx(bool(level))

    # Accesses

    def _config_request(self, kind: int, offset: int, data: bytes = b"", size: int = 4) -> Packet:
        """Return the request for `size` bytes within one dword."""
        lane = offset & 3
        payload = (bytes(lane) + data).ljust(4, b"\0") if data else b""
        request = Packet(
            kind,
            payload,
            address=offset & ~3,
            first_be=((1 << size) - 1) << lane,
            completer_id=int(self._device.pcie_id),
        )
        request.length_dw = 1
        return request

    async def _config(self, request: Packet) -> Packet:
        try:
            (answer,) = await self.root.mmio_request(request)
        except BusError as error:
            raise AccessError(str(error)) from error
        if answer.status != SUCCESS:
            raise AccessError(f"configuration access {request!r}: {answer!r}")
        return answer

    async def config_read(self, offset: int, length: int) -> bytes:
        """Read configuration space, a TLP for each dword."""
        self.config_accesses += 1
        requests = [
            self._config_request(_CONFIG_READ, at, size=size)
            for at, size in _dwords(offset, length)
        ]
        answers: list[Packet] = []
        while len(answers) < len(requests):
            batch = requests[len(answers) :][:_CONFIG_BATCH]
            tasks = [cocotb.start_soon(self._config(request)) for request in batch]
            answers += [await task for task in tasks]
        if any(answer.type != COMPLETION_DATA for answer in answers):
            raise AccessError(f"configuration read at {offset:#x} was answered without data")
        return b"".join(answer.data for answer in answers)[offset & 3 :][:length]

    async def config_write(self, offset: int, data: bytes) -> None:
        """Write configuration space, a TLP for each dword."""
        self.config_accesses += 1
        for at, size in _dwords(offset, len(data)):
            piece = data[at - offset :][:size]
            await self._config(self._config_request(_CONFIG_WRITE, at, piece, size))
        if offset < self._control + 2 and self._control < offset + len(data):
            word = int.from_bytes(data, "little") << 8 * offset >> 8 * self._control
            if word & _INITIATE_FLR:
                await self._wait_for_reset()
            await self._follow()

    def _bar_address(self, bar: int, offset: int) -> int:
        return int(self._device.bar_addr[bar]) + offset

    async def bar_read(self, bar: int, offset: int, length: int) -> bytes:
        """Read a BAR, in one TLP."""
        self.reads += 1
        try:
            return await self.root.mmio_read(self._bar_address(bar, offset), length)
        except BusError as error:
            raise AccessError(str(error)) from error

    async def bar_write(self, bar: int, offset: int, data: bytes) -> None:
        """Write a BAR, in one TLP; posted."""
        self.writes += 1
        self.notifications += bar == 0 and NOTIFY.start <= offset < NOTIFY.end
        self._moved_ns = get_sim_time("ns")
        await self.root.mmio_write(self._bar_address(bar, offset), data)

    # Reset

    async def reset(self) -> None:
        """Function level reset; the BARs keep their addresses, all else is as after power-up."""
        control = int.from_bytes(await self.config_read(self._control, 2), "little")
        await self.config_write(self._control, (control | _INITIATE_FLR).to_bytes(2, "little"))

    async def _wait_for_reset(self) -> None:
        """Wait until the reset has taken the BARs' addresses away, and give them back."""
        bars = sorted(self.bars)
        deadline = get_sim_time("ns") + _RESET_LIMIT_NS
        while await self._placed(bars):
            if get_sim_time("ns") > deadline:
                raise AccessError("the function level reset does not come to its end")
            await Timer(500, "ns")
        for bar in bars:
            address = int(self._device.bar_addr[bar]).to_bytes(8, "little")
            await self.config_write(_BAR0 + 4 * bar, address)

    async def _placed(self, bars: Sequence[int]) -> bool:
        for bar in bars:
            low = int.from_bytes(await self.config_read(_BAR0 + 4 * bar, 8), "little")
            if low & ~_MEMORY_TYPES:
                return True
        return False

    # Time

    def busy(self) -> bool:
        """Whether anything has moved a short while ago, or waits to be moved."""
        marks = (self.endpoint.received, self.endpoint.sent, *self.ports.activity())
        now = get_sim_time("ns")
        if marks != self._marks:
            self._marks, self._moved_ns = marks, now
        return now - self._moved_ns < self._quiet_ns

    async def step(self) -> None:
        """Let some cycles pass."""
        self.ports.poll()
        await Timer(self._step_ps, "ps")

    def wake_fds(self) -> Sequence[int]:
        """Descriptors of what stands at the device's ports."""
        return self.ports.fds()


def _dwords(offset: int, length: int) -> list[tuple[int, int]]:
    """Cut a range at dword boundaries: (start, bytes) of each piece."""
    pieces, at, end = [], offset, offset + length
    while at < end:
        upto = min((at & ~3) + 4, end)
        pieces.append((at, upto - at))
        at = upto
    return pieces


__all__ = ["RtlFunction"]
