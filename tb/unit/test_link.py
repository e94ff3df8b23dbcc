"""The simulated link: timing, order, rate, and the account of what crosses it."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import cocotb
import pytest
from cocotb.triggers import Timer
from cocotb.utils import get_sim_time

from lib.pcie.host import memory_request
from lib.pcie.link import LinkPort
from lib.pcie.monitor import DOWN, UP, AddressRanges
from lib.pcie.packet import MEM_READ, MEM_WRITE, Packet
from lib.pcie.selftest import BASE, SIZE, PortsDut, bench
from lib.pcie.tlp_codec import packet_of, tlp_of
from lib.sim import params, simulate
from lib.streams import cycles, start_clock
from virtio_rtl.types.tlp import (
    TLPType,
)


@cocotb.test(timeout_time=400, timeout_unit="us")
async def link_is_as_cocotbext_models_it(dut: Any) -> None:
    """The fast link delivers the same TLPs at the same times as cocotbext-pcie's own ports."""
    from cocotbext.pcie.core.port import SimPort

    start_clock(dut)
    credits = [64, 1024, 64, 64, 64, 1024]
    train = []
    for k in range(150):
        size = random.choice((0, 4, 64, 256))
        kind = MEM_WRITE if size else MEM_READ
        train.append(memory_request(kind, BASE + 4096 * k, size or 64, bytes([k] * size)))
    arrivals: dict[str, list[tuple[float, Packet]]] = defaultdict(list)

    def end(plain: bool, name: str) -> Any:
        port = SimPort(fc_init=[credits] * 8) if plain else LinkPort(credits, 128)
        port.max_link_speed, port.max_link_width = 3, 8

        def on_packet(packet: Packet) -> bool:
            arrivals[name].append((get_sim_time("ns"), packet))
            port.release(packet)
            return True

        async def on_tlp(tlp: Any) -> None:
            arrivals[name].append((get_sim_time("ns"), packet_of(tlp)))
            tlp.release_fc()

        port.rx_handler = on_tlp
        if not plain:
            port.on_packet = on_packet
        return port

    async def send_back(far: Any) -> None:
        for packet in train:
            await far.send(tlp_of(packet))

    start = {}
    for name, plain in (("fast", (0, 0)), ("mixed", (0, 1)), ("plain", (1, 1))):
        near, far = end(bool(plain[0]), f"{name} back"), end(bool(plain[1]), name)
        near.connect(far)
        await Timer(1, "us")
        start[name] = get_sim_time("ns")
        back = cocotb.start_soon(send_back(far))
        for packet in train:
            await near.send(tlp_of(packet))
        await back
        await Timer(1, "us")
    for name in ("fast", "mixed"):
        got, plain_got = arrivals[name], arrivals["plain"]
        assert [p for _, p in got] == [p for _, p in plain_got] == train
        took = got[-1][0] - start[name]
        reference = plain_got[-1][0] - start["plain"]
        assert abs(took / reference - 1) < 0.004, (name, took, reference)


@cocotb.test(timeout_time=100, timeout_unit="us")
async def what_waits_for_credits(dut: Any) -> None:
    """Posted requests and completions pass waiting reads; nothing passes a waiting write."""
    start_clock(dut)
    near, far = LinkPort([0] * 6), LinkPort([2, 64, 2, 64, 8, 64])
    near.max_link_speed = far.max_link_speed = 3
    near.max_link_width = far.max_link_width = 8
    arrived: list[Packet] = []
    far.on_packet = lambda packet: not arrived.append(packet)
    near.connect(far)
    await Timer(1, "us")
    read = memory_request(MEM_READ, BASE, 4)
    write = memory_request(MEM_WRITE, BASE, 4, bytes(4))
    answer = Packet(TLPType.COMPLETION, byte_count=4)
    for packet in (read, read, read, write, answer, read, write, write, answer, write):
        near.submit(packet.copy())
    await Timer(1, "us")
    assert arrived == [read, read, write, answer, write]
    far.release(write)
    await Timer(1, "us")
    assert arrived[5:] == [write, answer]
    far.release(read)
    far.release(write)
    await Timer(1, "us")
    assert arrived[7:] in ([read, write], [write, read])
    assert near.backlog() == 1
    far.release(read)
    await Timer(1, "us")
    assert len(arrived) == 10


@cocotb.test(timeout_time=200, timeout_unit="us")
async def saturated_link(dut: Any) -> None:
    """A stream of writes runs at the link's rate, felt by the RTL as back-pressure."""
    lanes, count, size = params().width // 32, 400, 256
    b = await bench(dut, endpoint={"lanes": lanes, "check_credits": False})
    for k in range(count):
        b.device.write(BASE + size * k, random.randbytes(size))
    while b.endpoint.sent < 50:
        await cycles(dut, 1)
    first = b.host.monitor.snapshot()
    while b.endpoint.sent < 350:
        await cycles(dut, 1)
        assert b.endpoint.port.backlog() <= b.endpoint.tx_depth
    window = b.host.monitor.snapshot() - first
    rate = 8 * 128 / 130 * lanes
    used = window.gbps(UP, dllps=True)
    assert window.total(UP).wire_bytes == window.total(UP).tlps * 280
    assert abs(window.total(UP).tlps - 300) <= b.endpoint.tx_depth + 2
    # What the RTL could offer, and what the link can take: the smaller one decides.
    offered = (size + 24) * 8 / (max(1, size * 8 // params().width) * 4)
    expected = min(rate, offered)
    assert 0.97 * expected < used < 1.005 * expected, (used, rate, offered)


@cocotb.test(timeout_time=100, timeout_unit="us")
async def counts_by_purpose(dut: Any) -> None:
    """The monitor splits the wire by direction, address range and type."""
    b = await bench(dut)
    b.host.monitor.classifier = AddressRanges(
        {"ring": [(BASE, BASE + 4096)], "payload": [(BASE + 4096, BASE + SIZE)]}
    )
    start = b.host.monitor.snapshot()
    b.device.read(BASE, 256, 0)
    b.device.read(BASE + 8192, 72, 1)
    b.device.write(BASE + 16, bytes(16))
    b.device.write(0xFEE0_0000, bytes(4))
    await b.device.answers(2)
    await Timer(100, "ns")
    window = b.host.monitor.snapshot() - start
    assert window.total(UP, "ring", TLPType.MEM_READ) == (1, 24, 0)
    assert window.total(UP, "ring", TLPType.MEM_WRITE) == (1, 40, 16)
    assert window.total(UP, "payload") == (1, 24, 0)
    assert window.total(UP, "other") == (1, 24, 4)
    assert window.total(DOWN, "ring") == (1, 276, 256)
    assert window.total(DOWN, "payload") == (1, 92, 72)
    assert window.total(UP).wire_bytes == 24 + 40 + 24 + 24
    assert "ring MEM_READ 1 24 0" in window.table()


@pytest.mark.parametrize("width", [64, 128, 256, 512])
def test_link(width: int) -> None:
    """Timing, order and rate, at all widths."""
    simulate(PortsDut(width), module=__name__, name=f"link_{width}", params={"width": width})
