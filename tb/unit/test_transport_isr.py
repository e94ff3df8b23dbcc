"""ISR status and INTx."""

from __future__ import annotations

import random
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge
from register_helper import RegisterInitiator, access

from lib.sim import simulate
from lib.streams import cycles, reset, start_clock
from virtio_rtl.transport.isr import ISRStatus

INPUTS = ("queue_event", "config_event", "clear", "msix_enable", "intx_disable")


def idle(dut: Any) -> None:
    """Start with all inputs low."""
    start_clock(dut)
    for name in INPUTS:
        getattr(dut, name).value = 0


@cocotb.test(timeout_time=500, timeout_unit="us")
async def no_event_is_lost(dut: Any) -> None:
    """Cycle by cycle, events, reads, clears and settings at random, also in the same cycle."""
    idle(dut)
    bus = RegisterInitiator(dut, stall=0.3)
    await reset(dut)
    expected: list[int] = []
    bits, settings = 0, dict.fromkeys(INPUTS, 0)
    sent = 0
    for _ in range(4000):
        if bus.request.count == sent and random.random() < 0.5:
            size = random.choice([1, 2, 4])
            offset = random.choice([0, 0, 0, 4, 0x800]) + random.randrange(4)
            offset -= offset % size
            write = random.random() < 0.2
            request = access(0x1000 + offset, size, 0xFF if write else None)
            bus.request.queue([request])
            sent += 1
        await RisingEdge(dut.clk)
        # As it was in the cycle that ends here.
        assert int(dut.interrupt_status.value) == (bits != 0 and not settings["msix_enable"])
        assert int(dut.intx.value) == (
            bits != 0 and not settings["msix_enable"] and not settings["intx_disable"]
        )
        taken = int(dut.bus__request__valid.value) and int(dut.bus__request__ready.value)
        if taken and not request["write"]:
            status = request["address"] == 0x1000
            expected.append(bits if status else 0)
            if status and request["byte_enable"] & 1:
                bits = 0
        bits |= settings["queue_event"] | settings["config_event"] << 1
        if settings["clear"]:
            bits = 0
        for name in INPUTS:
            settings[name] = int(random.random() < (0.02 if name == "clear" else 0.3))
            getattr(dut, name).value = settings[name]
    for name in INPUTS:
        getattr(dut, name).value = 0
    await cycles(dut, 30)
    assert len(expected) > 500
    assert await bus.response.take(len(expected)) == expected
    assert {0, 1, 2, 3} <= set(expected)


@cocotb.test(timeout_time=100, timeout_unit="us")
async def interrupt_life(dut: Any) -> None:
    """Event, INTx rises, the read tells why and INTx falls."""
    idle(dut)
    bus = RegisterInitiator(dut)
    await reset(dut)
    for name, bit in (("queue_event", 1), ("config_event", 2)):
        getattr(dut, name).value = 1
        await RisingEdge(dut.clk)
        getattr(dut, name).value = 0
        await cycles(dut, 2)
        assert int(dut.intx.value) == 1
        assert await bus.read(0x1001, 1) == 0  # another byte: no side effect
        assert await bus.read(0x1002, 2) == 0
        assert int(dut.intx.value) == 1
        assert await bus.read(0x1000, 1) == bit
        await cycles(dut, 1)
        assert int(dut.intx.value) == 0
        assert await bus.read(0x1000, 1) == 0


def test_isr() -> None:
    """ISR status in simulation."""
    simulate(ISRStatus(), module=__name__, name="isr")
