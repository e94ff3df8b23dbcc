"""The configuration space: what the host finds, what it can change, status, power states, FLR."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from config_space_host import STROBES
from config_space_rig import CASES, check_all, configured, setup

from lib.sim import simulate
from lib.streams import cycles
from virtio_rtl.types.tlp import CompletionStatus, TLPType


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


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["width"]))
def test_config_space_registers(case: dict[str, int]) -> None:
    """The configuration space as a host sees it."""
    component, context = configured(case)
    name = f"config_space_registers_{case['width']}"
    simulate(component, module=__name__, name=name, params=context)
