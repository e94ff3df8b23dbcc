"""Device configuration of the network device."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge
from register_helper import RegisterInitiator
from transport_helper import KINDS, MAC, MQ, MTU, STATUS, config

from lib.sim import params, simulate
from lib.streams import cycles, reset, start_clock
from virtio_rtl.transport.device_config import NetConfig

OFFERED, _ = KINDS["whole"]
DEVICE = {"mac": "02:11:22:33:44:55", "mtu": 1500, "pairs": 5}


def image(offered: int, link: int) -> bytes:
    """Return the structure, written by hand."""
    mac = bytes.fromhex("021122334455") if offered & MAC else bytes(6)
    status = link if offered & STATUS else 0
    pairs = 5 if offered & MQ else 0
    mtu = 1500 if offered & MTU else 0
    words = [status, pairs, mtu]
    return (mac + b"".join(word.to_bytes(2, "little") for word in words)).ljust(64, b"\0")


@cocotb.test(timeout_time=500, timeout_unit="us")
async def every_byte_is_right_and_read_only(dut: Any) -> None:
    """All offsets and sizes, before and after writes, link up and down."""
    start_clock(dut)
    dut.status_negotiated.value = dut.freeze.value = 0
    bus = RegisterInitiator(dut, stall=0.2)
    dut.link_up.value = 0
    await reset(dut)
    for link in (0, 1, 0):
        dut.link_up.value = link
        await cycles(dut, 2)
        golden = image(params().offered, link)
        for _ in range(2):
            for size in (1, 2, 4):
                for offset in range(0, 64, size):
                    expected = int.from_bytes(golden[offset : offset + size], "little")
                    assert await bus.read(0x2000 + offset, size) == expected
            for offset in range(0, 64, 4):
                await bus.write(0x2000 + offset, random.getrandbits(32))


@cocotb.test(timeout_time=500, timeout_unit="us")
async def changes_and_reads_strobe(dut: Any) -> None:
    """One `changed` per link change, `notify` if the driver wants it, `config_read` per read."""
    start_clock(dut)
    bus = RegisterInitiator(dut)
    dut.link_up.value = dut.status_negotiated.value = dut.freeze.value = 0
    await reset(dut)
    seen = {"changed": 0, "notify": 0, "config_read": 0}

    async def watch() -> None:
        while True:
            await RisingEdge(dut.clk)
            for name in seen:
                seen[name] += int(getattr(dut, name).value)

    cocotb.start_soon(watch())
    expected = {"changed": 0, "notify": 0, "config_read": 0}
    link = 0
    offers = bool(params().offered & STATUS)
    for _ in range(100):
        negotiated = random.getrandbits(1)
        dut.status_negotiated.value = negotiated
        new = random.getrandbits(1)
        dut.link_up.value = new
        expected["changed"] += offers and new != link
        expected["notify"] += offers and new != link and negotiated
        link = new
        await cycles(dut, 2)
        for _ in range(random.randrange(3)):
            await bus.read(0x2004)
            expected["config_read"] += 1
        await bus.write(0x2000, 0)
        await cycles(dut, 2)
    assert seen == expected


@cocotb.test(timeout_time=100, timeout_unit="us")
async def changed_is_early_enough(dut: Any) -> None:
    """No read shows a new status before its `changed`."""
    start_clock(dut)
    bus = RegisterInitiator(dut)
    dut.link_up.value = dut.status_negotiated.value = dut.freeze.value = 0
    await reset(dut)
    if not params().offered & STATUS:
        return
    for wait in range(6):
        old = wait & 1
        bus.request.queue([{"address": 0x2004, "byte_enable": 12}])
        await cycles(dut, wait)
        dut.link_up.value = 1 - old
        changed_at = read_at = None
        for cycle in range(10):
            await RisingEdge(dut.clk)
            if int(dut.changed.value):
                changed_at = cycle
            if int(dut.config_read.value):
                read_at = cycle
        value = (await bus.response.receive()) >> 16
        assert changed_at is not None
        if value != old:
            assert read_at is not None
            assert read_at > changed_at


@cocotb.test(timeout_time=500, timeout_unit="us")
async def nothing_changes_while_frozen(dut: Any) -> None:
    """A change meanwhile shows when the freeze ends, with one `changed` and `notify`."""
    start_clock(dut)
    bus = RegisterInitiator(dut)
    dut.link_up.value = dut.freeze.value = 0
    dut.status_negotiated.value = 1
    await reset(dut)
    if not params().offered & STATUS:
        return
    shown = 0
    for _ in range(30):
        dut.freeze.value = 1
        for _ in range(random.randint(1, 9)):
            await RisingEdge(dut.clk)
            dut.link_up.value = random.getrandbits(1)
            assert int(dut.changed.value) == int(dut.notify.value) == 0
        await cycles(dut, 2)
        assert await bus.read(0x2006, 2) == shown
        told = int(dut.link_up.value) != shown
        dut.freeze.value = 0
        await cycles(dut, 1)
        assert int(dut.changed.value) == int(dut.notify.value) == told
        await cycles(dut, 1)
        assert int(dut.changed.value) == int(dut.notify.value) == 0
        shown = int(dut.link_up.value)
        assert await bus.read(0x2006, 2) == shown


@pytest.mark.parametrize("offered", [OFFERED, OFFERED & ~(MAC | MQ), OFFERED & ~(STATUS | MTU)])
def test_net_config(offered: int) -> None:
    """The structure in simulation."""
    device = config(DEVICE["pairs"], mac=DEVICE["mac"], mtu=DEVICE["mtu"])
    simulate(
        NetConfig(device, offered),
        module=__name__,
        name=f"net_config_{offered:x}",
        params={"offered": offered},
        waive=[] if offered & STATUS else ["changed", "notify"],
    )


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
@pytest.mark.parametrize("bit", [63, 60, 57, 51])
def test_fields_without_a_source_are_refused(bit: int) -> None:
    """Features whose configuration fields this room does not have cannot be offered."""
    with pytest.raises(ValueError, match="no configuration"):
        NetConfig(config(), OFFERED | 1 << bit)
