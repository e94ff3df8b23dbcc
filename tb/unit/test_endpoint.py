"""The endpoint between link and RTL: enumeration, BAR accesses, credits, throughput."""

from __future__ import annotations

import random
import struct
from typing import Any

import cocotb
import pytest
from cocotb.triggers import Timer

from lib.layout import unpack
from lib.pcie.access import PciAccess
from lib.pcie.endpoint import EndpointError
from lib.pcie.host import BusError, memory_request
from lib.pcie.packet import MEM_WRITE, Packet
from lib.pcie.selftest import BASE, PortsDut, bench
from lib.sim import params, simulate
from lib.streams import cycles
from virtio_rtl.types.tlp import (
    FlowControlLimits,
)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def enumerates(dut: Any) -> None:
    """The root complex finds the device through configuration TLPs and programs it."""
    b = await bench(dut, stall=0.3, device_stall=0.3, max_payload=256, max_read_request=1024)
    found = await b.host.bring_up()
    assert (found.vendor_id, found.device_id) == (0x1AF4, 0x1041)
    assert found.bar_size[0] == 4096
    assert b.device.id == int(found.pcie_id) == 0x100
    control = struct.unpack_from("<H", b.device.config, 0x48)[0]
    assert control >> 5 & 7 == 1
    assert control >> 12 == 3
    assert control >> 8 & 1
    assert b.device.config[4] & 6 == 6
    programmed = struct.unpack_from("<Q", b.device.config, 0x10)[0]
    assert programmed & ~0xF == found.bar_addr[0]
    access = PciAccess(b.host, found)
    assert await access.config_read(2, 2) == 0x1041
    assert await access.config_read(0x34, 1) == 0x40
    await access.config_write(0x12, 0xABCD, 2)
    assert b.device.config[0x10:0x14] == b"\x0c\xf0\xcd\xab" or b.device.config[0x12] == 0xCD


@cocotb.test(timeout_time=200, timeout_unit="us")
async def reads_and_writes_the_bar(dut: Any) -> None:
    """Accesses of 1, 2 and 4 bytes and long ones reach the BAR; errors come back as such."""
    b = await bench(dut, stall=0.3, device_stall=0.3)
    found = await b.host.bring_up()
    access = PciAccess(b.host, found)
    model = bytearray(4096)
    for _ in range(60):
        size = random.choice((1, 2, 4))
        at = random.randrange(0, 64, size)
        value = random.getrandbits(8 * size)
        if random.random() < 0.5:
            await access.bar_write(0, at, value, size)
            model[at : at + size] = value.to_bytes(size, "little")
        else:
            expected = int.from_bytes(model[at : at + size], "little")
            assert await access.bar_read(0, at, size) == expected
    blob = random.randbytes(201)
    address = access.bar_address(0, 0x103)
    await b.host.mmio_write(address, blob)
    assert await b.host.mmio_read(address, 201) == blob
    assert b.device.bar[0x102] == 0
    assert b.device.bar[0x103 + 201] == 0
    b.device.silent = True
    with pytest.raises(BusError):
        await b.host.mmio_read(address, 4, timeout_ns=2000)
    b.host.check()


@cocotb.test(timeout_time=200, timeout_unit="us")
async def receive_credits(dut: Any) -> None:
    """Requests that the RTL does not take hold their credits; completions are never held."""
    b = await bench(dut, endpoint={"receive_credits": (8, 64, 4, 4, 0, 0)})
    await b.host.bring_up()
    b.device.sink.stall = 1.0
    await cycles(dut, 4)
    base = b.host.first_device().bar_addr[0]
    received = b.endpoint.received
    for k in range(40):
        b.host.link.submit(memory_request(MEM_WRITE, base + 4 * k, 4, bytes([k, 0, 0, 0])))
    await Timer(2, "us")
    taken = b.endpoint.received - received
    assert taken <= 7  # what fits into the RTL's FIFO
    assert b.endpoint.received - received + len(b.endpoint._rx_queue) == 8 + taken
    b.device.sink.stall = 0.0
    await Timer(3, "us")
    assert b.device.bar[: 4 * 40 : 4] == bytes(range(40))
    assert b.device.bar[4 * 40] == 0


@cocotb.test(timeout_time=400, timeout_unit="us")
async def transmit_credits(dut: Any) -> None:
    """`flow_control` shows the link's limits, and sending beyond them is found."""
    b = await bench(dut, endpoint={"check_credits": False}, credits=(8, 40, 12, 12, 16, 100))
    limits = unpack(FlowControlLimits, int(dut.device_credits.value))
    assert limits.posted_header == 8
    assert limits.posted_data == 40
    assert limits.nonposted_header == 12
    assert limits.completion_header == 16
    assert limits.completion_data == 100
    assert not limits.posted_infinite | limits.nonposted_infinite | limits.completion_infinite
    for k in range(300):
        b.device.write(BASE + 16 * k, random.randbytes(16))
    for tag in range(64):
        b.device.read(BASE + 4 * tag, 4, tag)
    await b.device.answers(64)
    await Timer(1, "us")
    limits = unpack(FlowControlLimits, int(dut.device_credits.value))
    assert limits.posted_header == (300 + 8) % 256
    assert limits.posted_data == 300 + 40
    assert limits.nonposted_header == 64 + 12
    b.endpoint.check_credits = True
    b.endpoint._charge(Packet(MEM_WRITE, bytes(16)))
    b.endpoint._consumed = [300, 300, 64, 0, 0]
    for _ in range(8):
        b.endpoint._charge(Packet(MEM_WRITE, bytes(16)))
    with pytest.raises(EndpointError):
        b.endpoint._charge(Packet(MEM_WRITE, bytes(16)))
    b.host.check()


@cocotb.test(timeout_time=200, timeout_unit="us")
async def one_beat_per_cycle(dut: Any) -> None:
    """Without stalls the endpoint offers and takes a beat in every cycle."""
    b = await bench(dut, endpoint={"lanes": 16, "generation": 5})
    lanes = params().width // 8
    beats = 256 // lanes
    # Downwards: held up behind one blocked beat, then let go.
    b.device.sink.stall = 1.0
    await cycles(dut, 4)
    for _ in range(16):
        b.host.link.submit(memory_request(MEM_WRITE, 0, 256, bytes(256)))
    await Timer(500, "ns")
    start = b.device.sink.count
    b.device.sink.stall = 0.0
    await cycles(dut, 2)
    before = b.device.sink.count
    await cycles(dut, 10 * beats)
    assert b.device.sink.count - before == 10 * beats
    assert start <= 1
    # Upwards, on a link with room to spare.
    for k in range(16):
        b.device.write(BASE + 256 * k, bytes(256))
    while b.device.source.count < beats:
        await cycles(dut, 1)
    before = b.device.source.count
    await cycles(dut, 10 * beats)
    assert b.device.source.count - before == 10 * beats


@pytest.mark.parametrize("width", [64, 128, 256, 512])
def test_endpoint(width: int) -> None:
    """Host, link and endpoint, at all widths."""
    simulate(PortsDut(width), module=__name__, name=f"endpoint_{width}", params={"width": width})
