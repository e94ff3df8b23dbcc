"""The configuration space: what the host finds, what it can change, the window, FLR.

The golden model below is written from the specifications, capability by capability, and finds
the capabilities as a host does: by walking the list.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cocotb
import pytest

from lib.sim import params, simulate
from lib.streams import StreamSink, StreamSource, cycles, reset, start_clock, unpack
from virtio_rtl.config import ConfigError, DeviceConfig
from virtio_rtl.pcie.capabilities import build_config_space, render_markdown
from virtio_rtl.pcie.config_space import ConfigSpace
from virtio_rtl.types.pcie import FunctionControl
from virtio_rtl.types.regbus import RegisterRequest
from virtio_rtl.types.tlp import CompletionStatus, TLPType, tlp_beat

DEVICE_ID = 0x1041
OUR_ID = 0x0500
STROBES = (
    "received_master_abort",
    "received_target_abort",
    "signaled_target_abort",
    "detected_parity",
    "master_data_parity",
    "unsupported_request",
    "nonfatal_error",
    "correctable_error",
)
LEVELS = ("interrupt_status", "transactions_pending", "flr_done")


class Host:
    """Sends configuration requests and checks everything about the completion but its data."""

    def __init__(self, dut: Any, stall: float = 0.0, bus_stall: float | None = None) -> None:
        self.dut = dut
        layout = tlp_beat(params().width)
        self.width = params().width
        self.source = StreamSource(dut, "requests", layout, stall=stall)
        self.sink = StreamSink(dut, "completion", layout, stall=stall)
        self.bus_requests = StreamSink(
            dut, "bus__request", RegisterRequest, stall=stall if bus_stall is None else bus_stall
        )
        self.bus_responses = StreamSource(dut, "bus__response", stall=stall)
        for name in (*STROBES, *LEVELS):
            getattr(dut, name).value = 0

    def header(self, write: bool, offset: int, byte_enable: int, **fields: Any) -> dict[str, Any]:
        """Return the header of a request; what does not matter is random."""
        return {
            "type": TLPType.CONFIG_WRITE0 if write else TLPType.CONFIG_READ0,
            "traffic_class": random.getrandbits(3),
            "no_snoop": random.getrandbits(1),
            "relaxed_ordering": random.getrandbits(1),
            "length_dw": 1,
            "first_be": byte_enable,
            "requester_id": random.getrandbits(16),
            "tag": random.getrandbits(10),
            "address": offset | random.getrandbits(20) << 12,
            "completer_id": OUR_ID,
        } | fields

    def start(self, header: dict[str, Any], value: int, beats: int = 1) -> None:
        """Queue a request."""
        for index in range(beats):
            self.source.queue(
                [
                    {
                        "data": value | random.getrandbits(self.width - 32) << 32,
                        "header": header,
                        "first": index == 0,
                        "last": index == beats - 1,
                    }
                ]
            )

    async def finish(self, request: dict[str, Any]) -> tuple[CompletionStatus, int | None]:
        """Wait for the completion, check its header, return status and data."""
        beat = await self.sink.receive()
        header = beat.header
        with_data = (
            request["type"] == TLPType.CONFIG_READ0 and header.status == CompletionStatus.SUCCESS
        )
        assert beat.first
        assert beat.last
        assert header == {
            "type": TLPType.COMPLETION_DATA if with_data else TLPType.COMPLETION,
            "traffic_class": request["traffic_class"],
            "no_snoop": request["no_snoop"],
            "relaxed_ordering": request["relaxed_ordering"],
            "poisoned": 0,
            "length_dw": int(with_data),
            "first_be": 0,
            "last_be": 0,
            "requester_id": request["requester_id"],
            "tag": request["tag"],
            "address": 0,
            "completer_id": request["completer_id"],
            "status": header.status,
            "byte_count": 4,
            "lower_address": 0,
            "bar": 0,
        }
        return header.status, beat.data & 0xFFFF_FFFF if with_data else None

    async def request(
        self, write: bool, offset: int, value: int = 0, byte_enable: int = 15, **fields: Any
    ) -> tuple[CompletionStatus, int | None]:
        """Send one request and return its completion's status and data."""
        beats = fields.pop("beats", 1)
        header = self.header(write, offset, byte_enable, **fields)
        self.start(header, value, beats)
        return await self.finish(header)

    async def read(self, offset: int, byte_enable: int = 15) -> int:
        """Read a dword."""
        status, data = await self.request(False, offset, byte_enable=byte_enable)
        assert status == CompletionStatus.SUCCESS
        assert data is not None
        return data

    async def write(self, offset: int, value: int, byte_enable: int = 15) -> None:
        """Write bytes of a dword."""
        status, _ = await self.request(True, offset, value, byte_enable)
        assert status == CompletionStatus.SUCCESS

    async def strobe(self, name: str) -> None:
        """Pulse an input for one cycle."""
        getattr(self.dut, name).value = 1
        await cycles(self.dut)
        getattr(self.dut, name).value = 0

    def control(self) -> Any:
        """Return what the function shows to the device."""
        return unpack(FunctionControl, int(self.dut.control.value))


class Golden:
    """Expected registers: reset value, writable bits, bits kept through FLR; and their values."""

    def __init__(self) -> None:
        p = params()
        self.reset: dict[int, int] = {}
        self.writable: dict[int, int] = {}
        self.kept: dict[int, int] = {}
        self.capabilities: dict[str, int] = {}
        self.put(0x00, DEVICE_ID << 16 | 0x1AF4)
        self.put(0x04, 0x0010_0000, 0x0546)
        self.put(0x08, 0x020000 << 8 | 1)
        self.put(0x0C, 0, 0xFF)
        self.put(0x10, 0x4, 0xFFFF_0000)
        self.put(0x14, 0, 0xFFFF_FFFF)
        self.put(0x2C, DEVICE_ID << 16 | 0x1AF4)
        self.put(0x3C, 0x0100, 0xFF)
        self.p = p
        self.value: dict[int, int] = {}

    def put(self, offset: int, value: int, writable: int = 0, kept: int = 0) -> None:
        """Describe a dword."""
        self.reset[offset], self.writable[offset], self.kept[offset] = value, writable, kept

    async def walk(self, host: Host) -> None:
        """Follow the capability list; describe what it must contain."""
        pointer = await host.read(0x34)
        self.put(0x34, pointer)
        while pointer:
            first = await host.read(pointer)
            name, describe = self.kind(first)
            assert name not in self.capabilities
            assert pointer % 4 == 0
            assert 0x40 <= pointer < 0x100
            self.capabilities[name] = pointer
            describe(pointer, first & 0xFF00)
            pointer = first >> 8 & 0xFF
        assert sorted(self.capabilities) == [
            "common", "device", "express", "isr", "msix", "notify", "power", "window",
        ]  # fmt: skip
        self.value = dict(self.reset)

    def kind(self, first: int) -> tuple[str, Callable[[int, int], None]]:
        """Return name and description of the capability that starts with ``first``."""
        p = self.p
        if first & 0xFF == 0x09:
            name, offset, length = {
                1: ("common", 0x0000, 0x40),
                2: ("notify", 0x3000, 8 * p.queue_pairs),
                3: ("isr", 0x1000, 1),
                4: ("device", 0x2000, p.device_config_length),
                5: ("window", 0, 0),
            }[first >> 24]
            size = 20 if name in ("notify", "window") else 16

            def virtio(at: int, pointer: int) -> None:
                rw = 0xFFFF_FFFF if name == "window" else 0
                self.put(at, (first >> 24) << 24 | size << 16 | pointer | 0x09)
                self.put(at + 4, 0, rw & 0xFF)
                self.put(at + 8, offset, rw)
                self.put(at + 12, length, rw)
                if size == 20:
                    self.put(at + 16, 0 if rw else 4, rw)

            return name, virtio

        def power(at: int, pointer: int) -> None:
            self.put(at, 3 << 16 | pointer | 0x01)
            self.put(at + 4, 1 << 3, 3)

        def msix(at: int, pointer: int) -> None:
            self.put(at, (p.msix_vectors - 1) << 16 | pointer | 0x11, 0xC000_0000)
            self.put(at + 4, 0x8000)
            self.put(at + 8, 0xC000)

        def express(at: int, pointer: int) -> None:
            link = p.lanes << 4 | p.generation
            self.put(at, 2 << 16 | pointer | 0x10)
            self.put(at + 0x04, 1 << 28 | 1 << 15 | 1 << 5 | p.max_payload_code)
            self.put(at + 0x08, 0x2810, 0x79FF, 0x00E0)
            self.put(at + 0x0C, 1 << 22 | link)
            self.put(at + 0x10, 1 << 28 | link << 16, 0x00CB, 0x00CB)
            for offset in (0x14, 0x18, 0x1C, 0x20, 0x34, 0x38):
                self.put(at + offset, 0)
            self.put(at + 0x24, 1 << 4)
            self.put(at + 0x28, 0, 1 << 4)
            self.put(at + 0x2C, ((1 << p.generation) - 1) << 1)
            self.put(at + 0x30, p.generation, 0xF, 0xF)

        return {0x01: ("power", power), 0x11: ("msix", msix), 0x10: ("express", express)}[
            first & 0xFF
        ]

    def at(self, name: str, offset: int) -> int:
        """Offset of a register of a capability."""
        return self.capabilities[name] + offset

    def write(self, offset: int, value: int, byte_enable: int) -> None:
        """Write as the host does."""
        mask = sum(0xFF << 8 * n for n in range(4) if byte_enable >> n & 1)
        mask &= self.writable.get(offset, 0)
        if offset == self.at("power", 4) and value & 3 in (1, 2):
            mask &= ~3
        if mask:
            self.value[offset] = self.value[offset] & ~mask | value & mask

    def flr(self) -> None:
        """Reset as function level reset does."""
        for offset, kept in self.kept.items():
            self.value[offset] = self.reset[offset] & ~kept | self.value[offset] & kept

    def control(self, requester_id: int = OUR_ID) -> dict[str, int]:
        """Return what the function must show to the device."""
        command, devctl = self.value[0x04], self.value[self.at("express", 8)]
        msix = self.value[self.at("msix", 0)]
        awake = self.value[self.at("power", 4)] & 3 == 0
        return {
            "requester_id": requester_id,
            "memory_enable": command >> 1 & awake,
            "bus_master_enable": command >> 2 & awake,
            "intx_disable": command >> 10 & 1,
            "max_payload": min(devctl >> 5 & 7, self.p.max_payload_code),
            "max_read_request": min(devctl >> 12 & 7, 5),
            "read_boundary_128": self.value[self.at("express", 0x10)] >> 3 & 1,
            "extended_tag": devctl >> 8 & 1,
            "relaxed_ordering": devctl >> 4 & 1,
            "no_snoop": devctl >> 11 & 1,
            "msix_enable": msix >> 31,
            "msix_function_mask": msix >> 30 & 1,
        }

    def check_outputs(self, host: Host) -> None:
        """Compare everything the device sees."""
        assert host.control() == self.control()
        assert int(host.dut.bar_base.value) == (
            self.value[0x14] << 32 | self.value[0x10] & 0xFFFF_0000
        )
        assert int(host.dut.completion_timeout_disable.value) == (
            self.value[self.at("express", 0x28)] >> 4 & 1
        )


async def setup(
    dut: Any, stall: float = 0.0, bus_stall: float | None = None
) -> tuple[Host, Golden]:
    """Reset, walk the capability list."""
    start_clock(dut)
    host = Host(dut, stall, bus_stall)
    await reset(dut)
    golden = Golden()
    await golden.walk(host)
    return host, golden


async def check_all(host: Host, golden: Golden, skip: tuple[int, ...] = ()) -> None:
    """Read every register that is not a status register or the window."""
    for offset, expected in golden.value.items():
        if offset != golden.at("window", 16) and offset not in skip:
            found = await host.read(offset)
            assert found == expected, f"{offset:#x}: {found:#x}, not {expected:#x}"


@cocotb.test(timeout_time=200, timeout_unit="us")
async def resets_to_the_documented_values(dut: Any) -> None:
    """All 1024 dwords after reset; nothing but what was described is there."""
    host, golden = await setup(dut)
    window = golden.at("window", 16)
    for offset in range(0, 4096, 4):
        if offset != window:
            assert await host.read(offset) == golden.reset.get(offset, 0), hex(offset)
    golden.check_outputs(host)


@cocotb.test(timeout_time=800, timeout_unit="us")
async def writes_change_writable_bytes_only(dut: Any) -> None:
    """Random writes with random byte enables, everywhere, under stalls."""
    host, golden = await setup(dut, 0.2)
    window, devctl = golden.at("window", 16), golden.at("express", 8)
    offsets = [n for n in golden.value if n != window] + [0x18, 0xF0, 0xFC, 0x100, 0x210, 0xFFC]
    for number in range(600):
        offset = random.choice(offsets)
        value, enable = random.getrandbits(32), random.getrandbits(4)
        if offset == devctl:
            value &= ~0x8000
        await host.write(offset, value, enable)
        golden.write(offset, value, enable)
        golden.check_outputs(host)
        other = random.choice((offset, random.choice(offsets)))
        assert await host.read(other, random.getrandbits(4)) == golden.value.get(other, 0)
        if number % 150 == 149:
            await check_all(host, golden)
    dut.rst.value = 1
    await cycles(dut, 2)
    dut.rst.value = 0
    golden.value = dict(golden.reset)
    await check_all(host, golden)


@cocotb.test(timeout_time=400, timeout_unit="us")
async def bars_are_sized(dut: Any) -> None:
    """The host sizes BAR 0 as 64 KiB of 64-bit memory, then places it."""
    host, _ = await setup(dut)
    for offset in (0x10, 0x14, 0x18, 0x1C, 0x20, 0x24, 0x30):
        await host.write(offset, 0xFFFF_FFFF)
    found = [await host.read(offset) for offset in (0x10, 0x14, 0x18, 0x1C, 0x20, 0x24, 0x30)]
    assert found == [0xFFFF_0004, 0xFFFF_FFFF, 0, 0, 0, 0, 0]
    await host.write(0x10, 0xDEAD_0000)
    await host.write(0x14, 0x12)
    assert int(dut.bar_base.value) == 0x12_DEAD_0000


@cocotb.test(timeout_time=200, timeout_unit="us")
async def refuses_what_is_not_for_us(dut: Any) -> None:
    """Other functions, poisoned writes, broken lengths: UR, status bits, nothing changes."""
    host, golden = await setup(dut, 0.2)
    devctl = golden.at("express", 8)
    ur = (CompletionStatus.UNSUPPORTED_REQUEST, None)
    elsewhere = {"completer_id": 0x1234 & ~7 | random.randint(1, 7)}

    async def status_bits() -> tuple[int, int]:
        found = (await host.read(4)) >> 16 & 0xF900, (await host.read(devctl)) >> 16
        await host.write(4, 0xFFFF_0000, 0b1100)
        await host.write(devctl, 0xFFFF_0000, 0b1100)
        assert (await host.read(4)) >> 16 & 0xF900 == 0
        assert (await host.read(devctl)) >> 16 == 0
        return found

    assert await status_bits() == (0, 0)
    for fields in (
        elsewhere,
        {"length_dw": 2, "beats": 2},
        {"length_dw": 9, "beats": 5},
        {"length_dw": 1, "beats": 2},
        {"length_dw": 0},
        {"type": TLPType.CONFIG_WRITE1},
    ):
        assert await host.request(True, 0x04, 0x6, **fields) == ur
        assert await status_bits() == (0, 0b1001), "UR and correctable (advisory)"
        read_type = {"type": TLPType.CONFIG_READ1} if "type" in fields else {}
        assert await host.request(False, 0x00, **(fields | read_type)) == ur
        assert await status_bits() == (0, 0b1001)
    assert await host.request(True, 0x04, 0x6, poisoned=1) == ur
    assert await status_bits() == (0x8000, 0b0010), "detected parity, non-fatal"
    status, data = await host.request(False, 0x00, poisoned=1)
    assert (status, data) == (CompletionStatus.SUCCESS, golden.reset[0])
    await check_all(host, golden)
    golden.check_outputs(host)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def learns_its_own_id(dut: Any) -> None:
    """The requester id follows the bus and device number of accepted requests."""
    host, _ = await setup(dut)
    for bus_device in (0x0100, 0xFFF8, 0x00A8):
        await host.request(True, 0x3C, 1, completer_id=bus_device)
        assert host.control().requester_id == bus_device
        await host.request(True, 0x3C, 1, completer_id=0x7702)
        await host.request(True, 0x3C, 1, completer_id=0x6600, poisoned=1)
        assert host.control().requester_id == bus_device


@cocotb.test(timeout_time=400, timeout_unit="us")
async def status_bits_are_set_by_events(dut: Any) -> None:
    """Each strobe sets its bit, writing 1 clears exactly that, an event at that time survives."""
    host, golden = await setup(dut, 0.1)
    devctl = golden.at("express", 8)
    await host.write(4, 0x0040)  # parity error response
    where = {
        "received_master_abort": (4, 1 << 29),
        "received_target_abort": (4, 1 << 28),
        "signaled_target_abort": (4, 1 << 27),
        "detected_parity": (4, 1 << 31),
        "master_data_parity": (4, 1 << 24 | 1 << 31),
        "unsupported_request": (devctl, 1 << 19),
        "nonfatal_error": (devctl, 1 << 17),
        "correctable_error": (devctl, 1 << 16),
    }
    expected = {4: 0x0010_0040, devctl: 0x2810}
    for name, (offset, bits) in where.items():
        await host.strobe(name)
        expected[offset] |= bits
        assert [await host.read(n) for n in expected] == list(expected.values()), name
    for name, (offset, bits) in random.sample(sorted(where.items()), len(where)):
        low_bytes = expected[offset] & 0xFFFF
        await host.write(offset, bits | low_bytes, 0b0011)
        assert await host.read(offset) == expected[offset], "byte enables of the status half"
        await host.write(offset, ~bits & 0xFFFF_0000, 0b0011)
        await host.write(offset, bits, 0b1100)
        expected[offset] &= ~bits
        expected[4] &= 0xFFFF_0000
        expected[4] |= low_bytes if offset == 4 else 0
        if offset == 4:
            await host.write(4, low_bytes, 0b0011)
        else:
            await host.write(devctl, low_bytes, 0b0011)
            expected[4] |= 0x40
        assert [await host.read(n) for n in expected] == list(expected.values()), name
    # The parity bit of a master needs Parity Error Response.
    await host.write(4, 0, 0b0001)
    await host.strobe("master_data_parity")
    assert await host.read(4) == 0x8010_0000
    # Levels show as they are.
    dut.interrupt_status.value = 1
    dut.transactions_pending.value = 1
    assert await host.read(4) == 0x8018_0000
    assert await host.read(devctl) == 0x0020_2810
    await host.write(4, 0xFFFF_0000, 0b1100)
    assert await host.read(4) == 0x0018_0000
    dut.interrupt_status.value = 0
    dut.transactions_pending.value = 0
    assert await host.read(4) == 0x0010_0000
    # An event in every cycle of the write that clears is not lost.
    header = host.header(True, 4, 0b1100)
    dut.received_master_abort.value = 1
    host.start(header, 0xFFFF_0000)
    await host.finish(header)
    dut.received_master_abort.value = 0
    assert await host.read(4) == 0x2010_0000


@cocotb.test(timeout_time=100, timeout_unit="us")
async def event_wins_over_clearing(dut: Any) -> None:
    """An event in the very cycle in which the host clears its bit is kept, one before is not."""
    host, _ = await setup(dut)

    async def clear(intx_disable: int, strobe_at: int | None) -> int:
        """Clear all bits and set INTx disable; return when that showed, in cycles."""
        header = host.header(True, 4, 15)
        host.start(header, 0xFFFF_0000 | intx_disable << 10)
        elapsed = 0
        while host.control().intx_disable != intx_disable:
            dut.received_master_abort.value = elapsed == strobe_at
            await cycles(dut)
            elapsed += 1
        dut.received_master_abort.value = 0
        await host.finish(header)
        return elapsed

    assert await host.read(4) == 0x0010_0000
    shows_after = await clear(1, None)
    # Cycle n of the loop lies between edges n and n + 1; what the edge writes shows after it, and
    # is seen one edge later.
    for before, kept in ((3, False), (2, True), (1, True)):
        assert await clear(0, None) == shows_after
        assert await clear(1, shows_after - before) == shows_after
        assert await host.read(4) == (0x2010_0400 if kept else 0x0010_0400), before


@cocotb.test(timeout_time=100, timeout_unit="us")
async def sleeps_in_d3hot(dut: Any) -> None:
    """D3hot hides memory and bus master; D0 brings them back: no soft reset. D1, D2: ignored."""
    host, golden = await setup(dut)
    power = golden.at("power", 4)
    for offset, value in ((4, 0x6), (0x10, 0xABCD_0000), (golden.at("msix", 0), 0x8000_0000)):
        await host.write(offset, value)
        golden.write(offset, value, 15)
    for state, stored in ((3, 3), (1, 3), (2, 3), (0, 0), (1, 0), (2, 0), (3, 3), (0, 0)):
        await host.write(power, state, 0b0001)
        golden.write(power, state, 0b0001)
        assert await host.read(power) == 8 | stored
        assert host.control().memory_enable == (stored == 0)
        assert host.control().bus_master_enable == (stored == 0)
        assert await host.read(4) & 6 == 6
        golden.check_outputs(host)
    await check_all(host, golden)


@cocotb.test(timeout_time=400, timeout_unit="us")
async def function_level_reset(dut: Any) -> None:
    """FLR waits for the drain, then resets all but what PCIe keeps; only the set bit starts it."""
    host, golden = await setup(dut, 0.2)
    devctl, window = golden.at("express", 8), golden.at("window", 16)
    for round_number in range(3):
        for offset, writable in golden.writable.items():
            if writable and offset != window:
                value = 0x7F0D_10F6 if offset == golden.at("power", 4) else random.getrandbits(32)
                value = value & ~0x8000 if offset == devctl else value
                value = value & ~3 if offset == golden.at("power", 4) else value
                await host.write(offset, value)
                golden.write(offset, value, 15)
        for name in STROBES:
            await host.strobe(name)
        await host.write(devctl, 0x8000, 0b0001)
        golden.write(devctl, 0x8000, 0b0001)
        await host.write(devctl, 0x8000, 0b0000)
        await host.write(devctl + 4, 0x8000)
        assert not int(dut.flr_request.value), "no FLR without its bit"
        await host.strobe("flr_done")
        await cycles(dut, 5)
        assert (await host.read(4)) & 0xFFFF == golden.value[4] & 0xFFFF, "flr_done alone"
        await host.write(devctl, 0x8000, 0b0010)
        golden.write(devctl, 0x8000, 0b0010)
        assert int(dut.flr_request.value)
        # While the device drains, accesses are answered and nothing is lost yet.
        await cycles(dut, random.randrange(20))
        assert await host.read(devctl) & 0xFFFF == golden.value[devctl]
        golden.check_outputs(host)
        assert int(dut.flr_request.value)
        header = host.header(False, 0, 15)
        host.start(header, 0)
        await host.strobe("flr_done")
        if round_number == 1:  # a second pulse, or a level, does no harm
            dut.flr_done.value = 1
            await cycles(dut, 30)
            dut.flr_done.value = 0
        while int(dut.flr_request.value):
            await cycles(dut)
        golden.flr()
        assert await host.finish(header) == (CompletionStatus.SUCCESS, golden.reset[0])
        golden.check_outputs(host)
        await check_all(host, golden)
        assert int(dut.flr_request.value) == 0


async def bar_memory(host: Host, memory: bytearray, log: list[tuple[bool, int, int]]) -> None:
    """A register target that remembers bytes and what was accessed."""
    while True:
        request = await host.bus_requests.receive()
        assert request.address % 4 == 0
        log.append((bool(request.write), request.address, request.byte_enable))
        if request.write:
            for lane in range(4):
                if request.byte_enable >> lane & 1:
                    memory[request.address + lane] = request.data >> 8 * lane & 0xFF
        else:
            host.bus_responses.queue(
                [int.from_bytes(memory[request.address : request.address + 4], "little")]
            )


@cocotb.test(timeout_time=2000, timeout_unit="us")
async def window_accesses_the_bar(dut: Any) -> None:
    """pci_cfg_data: exactly one BAR access of the right bytes, or none if that is impossible."""
    host, golden = await setup(dut, 0.2)
    memory = bytearray(random.randbytes(0x10000))
    expected_memory = bytearray(memory)
    log: list[tuple[bool, int, int]] = []
    cocotb.start_soon(bar_memory(host, memory, log))
    window = golden.at("window", 0)
    stored = 0
    kinds = {"access": 0, "none": 0}
    for _ in range(500):
        bar = random.choice((0, 0, 0, 0, 0, 0, 1, 5, 0x80))
        length = random.choice((1, 2, 4, 1, 2, 4, 1, 2, 4, 0, 3, 8, 5, 0x101, 0x8000_0001))
        offset = random.choice(
            (random.getrandbits(16), random.getrandbits(16) & ~3, random.getrandbits(6))
            + (0xFFFC, 0xFFFE, 0xFFFF, 0x10000, 0x10004, random.getrandbits(32))
        )
        await host.write(window + 4, bar, 0b0001)
        await host.write(window + 8, offset)
        await host.write(window + 12, length)
        possible = bar == 0 and length in (1, 2, 4) and offset % length == 0 and offset < 0x10000
        kinds["access" if possible else "none"] += 1
        enable = random.choice((1, 2, 3, 4, 8, 12, 15, 15, 0))
        write = random.random() < 0.5
        if write:
            value = random.getrandbits(32)
            await host.write(window + 16, value, enable)
            mask = sum(0xFF << 8 * n for n in range(4) if enable >> n & 1)
            stored = stored & ~mask | value & mask
            if possible and enable:
                expected_memory[offset : offset + length] = stored.to_bytes(4, "little")[:length]
        else:
            found = await host.read(window + 16, enable)
            if possible and enable:
                mask = (1 << 8 * length) - 1
                data = int.from_bytes(expected_memory[offset : offset + length], "little")
                stored = stored & ~mask | data
            assert found == (stored if possible or not enable else 0)
        lanes = ((1 << length) - 1 << offset % 4) if possible else 0
        # A write is completed when the bus has taken it; the model may see it a little later.
        await cycles(dut, 2)
        assert log == ([(write, offset & ~3, lanes)] if possible and enable else [])
        log.clear()
        assert memory == expected_memory
    assert min(kinds.values()) > 50


@cocotb.test(timeout_time=100, timeout_unit="us")
async def window_write_completes_after_the_access(dut: Any) -> None:
    """The completion waits for the bus."""
    host, golden = await setup(dut, bus_stall=1.0)
    window = golden.at("window", 0)
    await host.write(window + 12, 4)
    await host.write(window + 8, 0x3000)
    header = host.header(True, window + 16, 15)
    host.start(header, 0x1234_5678)
    await cycles(dut, 100)
    assert len(host.sink) == 0
    host.bus_requests.stall = 0.0
    await host.finish(header)
    request = await host.bus_requests.receive()
    assert request == {"address": 0x3000, "write": 1, "data": 0x1234_5678, "byte_enable": 15}
    header = host.header(False, window + 16, 15)
    host.start(header, 0)
    await cycles(dut, 100)
    assert len(host.sink) == 0
    host.bus_responses.queue([0xCAFE_F00D])
    assert await host.finish(header) == (CompletionStatus.SUCCESS, 0xCAFE_F00D)


@cocotb.test(timeout_time=100, timeout_unit="us")
async def takes_seven_cycles(dut: Any) -> None:
    """Back-to-back requests without stalls: one every 7 cycles."""
    host, _ = await setup(dut)
    await cycles(dut, 5)
    count = 20
    headers = [host.header(index % 2 == 1, 0x3C, 15) for index in range(count)]
    for header in headers:
        host.start(header, 0)
    before = host.sink.count
    elapsed = 0
    while host.sink.count < before + count:
        await cycles(dut)
        elapsed += 1
    # The source starts one cycle later, the sink counts one cycle later.
    assert elapsed == 7 * count + 2
    for header in headers:
        await host.finish(header)


def _config(**fields: Any) -> DeviceConfig:
    return DeviceConfig(name="test", **fields)


CASES = [
    {"width": 64, "queue_pairs": 1, "msix_vectors": 2, "lanes": 1, "generation": 2},
    {"width": 128, "queue_pairs": 4, "msix_vectors": 9, "lanes": 4, "generation": 3},
    {"width": 256, "queue_pairs": 8, "msix_vectors": 64, "lanes": 8, "generation": 4},
    {"width": 512, "queue_pairs": 256, "msix_vectors": 1024, "lanes": 16, "generation": 3},
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["width"]))
def test_config_space(case: dict[str, int]) -> None:
    """The configuration space as a host sees it."""
    options = {
        "max_payload_code": 2 if case["width"] == 512 else 1,
        "device_config_length": 12 if case["width"] == 64 else 28,
    }
    component = ConfigSpace(_config(**case), case["width"], **options)
    name = f"config_space_{case['width']}"
    simulate(component, module=__name__, name=name, params=case | options)


def test_builder_refuses() -> None:
    """A configuration that cannot be built names its field."""
    with pytest.raises(ConfigError, match="msix_vectors"):
        build_config_space(_config(msix_vectors=2048))
    with pytest.raises(ConfigError, match="max_payload_code"):
        build_config_space(_config(), max_payload_code=3)
    with pytest.raises(ConfigError, match="device_config_length"):
        build_config_space(_config(), device_config_length=0)


def test_markdown() -> None:
    """The rendered table names every field once, with offset, bits, access and reset."""
    space = build_config_space(_config())
    lines = render_markdown(space).splitlines()
    assert len(lines) == 2 + len(space.fields)
    assert "| 0x000 | 15:0 | vendor_id | read only | 0x1af4 |" in lines
    assert "| 0x010 | 31:16 | bar0_base | read/write | 0x0 |" in lines


def _macros(header: str) -> dict[str, int]:
    path = Path("/usr/include/linux") / header
    if not path.exists():
        pytest.skip(f"{path} is not installed")
    found = re.findall(
        r"^#define\s+(\w+)\s+(0x[0-9a-fA-F]+|\d+)\s*(?:/\*.*)?$", path.read_text(), re.M
    )
    return {name: int(value, 0) for name, value in found}


def test_kernel_headers() -> None:
    """Places of fields are those that Linux uses (pci_regs.h)."""
    pci = _macros("pci_regs.h")
    space = build_config_space(_config())
    express, msix = space["express_id"].offset, space["msix_id"].offset
    power = space["power_id"].offset
    for field, register, mask in (
        ("memory_enable", pci["PCI_COMMAND"], pci["PCI_COMMAND_MEMORY"]),
        ("bus_master_enable", pci["PCI_COMMAND"], pci["PCI_COMMAND_MASTER"]),
        ("parity_error_response", pci["PCI_COMMAND"], pci["PCI_COMMAND_PARITY"]),
        ("serr_enable", pci["PCI_COMMAND"], pci["PCI_COMMAND_SERR"]),
        ("intx_disable", pci["PCI_COMMAND"], pci["PCI_COMMAND_INTX_DISABLE"]),
        ("interrupt_status", pci["PCI_STATUS"], pci["PCI_STATUS_INTERRUPT"]),
        ("capabilities_list", pci["PCI_STATUS"], pci["PCI_STATUS_CAP_LIST"]),
        ("master_data_parity", pci["PCI_STATUS"], pci["PCI_STATUS_PARITY"]),
        ("signaled_target_abort", pci["PCI_STATUS"], pci["PCI_STATUS_SIG_TARGET_ABORT"]),
        ("received_target_abort", pci["PCI_STATUS"], pci["PCI_STATUS_REC_TARGET_ABORT"]),
        ("received_master_abort", pci["PCI_STATUS"], pci["PCI_STATUS_REC_MASTER_ABORT"]),
        ("detected_parity", pci["PCI_STATUS"], pci["PCI_STATUS_DETECTED_PARITY"]),
        ("subsystem_id", pci["PCI_SUBSYSTEM_ID"], 0xFFFF),
        ("interrupt_pin", pci["PCI_INTERRUPT_PIN"], 0xFF),
        ("power_state", power + pci["PCI_PM_CTRL"], pci["PCI_PM_CTRL_STATE_MASK"]),
        ("no_soft_reset", power + pci["PCI_PM_CTRL"], pci["PCI_PM_CTRL_NO_SOFT_RESET"]),
        ("msix_table_size", msix + pci["PCI_MSIX_FLAGS"], pci["PCI_MSIX_FLAGS_QSIZE"]),
        ("msix_function_mask", msix + pci["PCI_MSIX_FLAGS"], pci["PCI_MSIX_FLAGS_MASKALL"]),
        ("msix_enable", msix + pci["PCI_MSIX_FLAGS"], pci["PCI_MSIX_FLAGS_ENABLE"]),
        ("max_payload_supported", express + pci["PCI_EXP_DEVCAP"], pci["PCI_EXP_DEVCAP_PAYLOAD"]),
        ("extended_tag_supported", express + pci["PCI_EXP_DEVCAP"], pci["PCI_EXP_DEVCAP_EXT_TAG"]),
        ("role_based_error_reporting", express + pci["PCI_EXP_DEVCAP"], pci["PCI_EXP_DEVCAP_RBER"]),
        ("flr_capable", express + pci["PCI_EXP_DEVCAP"], pci["PCI_EXP_DEVCAP_FLR"]),
        ("relaxed_ordering", express + pci["PCI_EXP_DEVCTL"], pci["PCI_EXP_DEVCTL_RELAX_EN"]),
        ("max_payload", express + pci["PCI_EXP_DEVCTL"], pci["PCI_EXP_DEVCTL_PAYLOAD"]),
        ("extended_tag", express + pci["PCI_EXP_DEVCTL"], pci["PCI_EXP_DEVCTL_EXT_TAG"]),
        ("no_snoop", express + pci["PCI_EXP_DEVCTL"], pci["PCI_EXP_DEVCTL_NOSNOOP_EN"]),
        ("max_read_request", express + pci["PCI_EXP_DEVCTL"], pci["PCI_EXP_DEVCTL_READRQ"]),
        ("initiate_flr", express + pci["PCI_EXP_DEVCTL"], pci["PCI_EXP_DEVCTL_BCR_FLR"]),
        ("correctable_error", express + pci["PCI_EXP_DEVSTA"], pci["PCI_EXP_DEVSTA_CED"]),
        ("nonfatal_error", express + pci["PCI_EXP_DEVSTA"], pci["PCI_EXP_DEVSTA_NFED"]),
        ("unsupported_request", express + pci["PCI_EXP_DEVSTA"], pci["PCI_EXP_DEVSTA_URD"]),
        ("transactions_pending", express + pci["PCI_EXP_DEVSTA"], pci["PCI_EXP_DEVSTA_TRPND"]),
        ("link_max_width", express + pci["PCI_EXP_LNKCAP"], pci["PCI_EXP_LNKCAP_MLW"]),
        ("read_boundary_128", express + pci["PCI_EXP_LNKCTL"], pci["PCI_EXP_LNKCTL_RCB"]),
        ("link_width", express + pci["PCI_EXP_LNKSTA"], pci["PCI_EXP_LNKSTA_NLW"]),
        ("slot_clock", express + pci["PCI_EXP_LNKSTA"], pci["PCI_EXP_LNKSTA_SLC"]),
        (
            "completion_timeout_disable",
            express + pci["PCI_EXP_DEVCTL2"],
            pci["PCI_EXP_DEVCTL2_COMP_TMOUT_DIS"],
        ),
        ("link_target_speed", express + pci["PCI_EXP_LNKCTL2"], pci["PCI_EXP_LNKCTL2_TLS"]),
    ):
        found = space[field]
        assert (found.offset, found.mask) == (register & ~3, mask << 8 * (register & 3)), field
