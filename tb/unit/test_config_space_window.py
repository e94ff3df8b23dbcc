"""The PCI_CFG window: BAR accesses through the configuration space."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from config_space_host import Host
from config_space_rig import CASES, configured, setup

from lib.sim import simulate
from lib.streams import cycles
from virtio_rtl.types.tlp import CompletionStatus


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


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["width"]))
def test_config_space_window(case: dict[str, int]) -> None:
    """The window at every width."""
    component, context = configured(case)
    name = f"config_space_window_{case['width']}"
    simulate(component, module=__name__, name=name, params=context)
