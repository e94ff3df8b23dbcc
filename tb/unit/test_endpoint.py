"""The simulated PCIe host and endpoint, tested by themselves: a device in Python behind FIFOs.

The device sees the RTL's ports through `lib.streams` (another codec than the one under test) and
is written in terms of header fields, so that host and endpoint are checked from outside.
"""

from __future__ import annotations

import random
import struct
from itertools import pairwise
from typing import Any

import cocotb
import pytest
from cocotb.triggers import Timer
from cocotb.utils import get_sim_time

from lib.layout import unpack
from lib.pcie.access import PciAccess
from lib.pcie.endpoint import EndpointError
from lib.pcie.host import BusError, memory_request
from lib.pcie.latency import ReadLatency
from lib.pcie.link import LinkPort
from lib.pcie.monitor import DOWN, UP, AddressRanges
from lib.pcie.packet import MEM_READ, MEM_WRITE, Packet
from lib.pcie.selftest import BASE, SIZE, PortsDut, bench
from lib.pcie.tlp_codec import packet_of, tlp_of
from lib.sim import params, simulate
from lib.streams import cycles, start_clock
from virtio_rtl.types.tlp import (
    CompletionStatus,
    FlowControlLimits,
    TLPType,
)


def check_completion(
    group: list[Any], address: int, length: int, expected: bytes, *, pieces: bool, boundary: int
) -> None:
    """Check all the completions of one read against the rules of PCIe 3.0 §2.3.1.1."""
    at = address
    for header, data in group:
        assert header["type"] == TLPType.COMPLETION_DATA
        assert header["status"] == CompletionStatus.SUCCESS
        assert header["byte_count"] == address + length - at
        assert header["lower_address"] == at & 0x7F
        assert header["length_dw"] * 4 == len(data) <= 256
        end = min((at & ~3) + len(data), address + length)
        assert data[at & 3 : (at & 3) + end - at] == expected[at - address : end - address]
        if end != address + length:
            assert end % boundary == 0
        if pieces:
            assert end <= (at | boundary - 1) + 1
        at = end
    assert at == address + length


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
@cocotb.parametrize(
    (
        ("pieces", "boundary", "gap", "sample"),
        ((False, 64, 0.0, "answer"), (True, 64, 90.0, "random"), (True, 128, 0.0, "arrival")),
    )
)
async def dma_reads(dut: Any, pieces: bool, boundary: int, gap: float, sample: str) -> None:
    """Reads of any alignment come back right, cut at the boundary, out of order between tags."""
    limits = {"split_on_all_rcb": pieces, "read_boundary": boundary}
    b = await bench(dut, stall=0.2, device_stall=0.2, **limits)
    b.host.target.piece_gap_ns = (0.0, gap)
    b.host.target.sample = sample
    reads = []
    for tag in range(64):
        length = random.choice((1, 3, 4, 64, 100, 509))
        at = BASE + random.randrange(SIZE // 4096) * 4096 + random.randrange(4096 - length)
        length = min(length, 512 - at % 4)
        reads.append((at, length))
        b.device.read(at, length, tag)
    groups: dict[int, list[Any]] = {tag: [] for tag in range(64)}
    order = []
    left = dict(enumerate(length for _, length in reads))
    while any(left.values()):
        await b.device.answers(1)
        header, data = b.device.completions.pop(0)
        tag = header["tag"]
        order.append(tag)
        groups[tag].append((header, data))
        left[tag] -= min(left[tag], len(data) - header["lower_address"] % 4)
    for tag, (at, length) in enumerate(reads):
        expected = b.memory.read(at, length)
        check_completion(groups[tag], at, length, expected, pieces=pieces, boundary=boundary)
    assert list(dict.fromkeys(order)) != list(range(64))
    runs = 1 + sum(now != then for now, then in pairwise(order))
    assert (runs > 64) == bool(gap)
    assert not b.host.target.checker.tags
    b.host.check()


@cocotb.test(timeout_time=200, timeout_unit="us")
async def dma_writes(dut: Any) -> None:
    """Writes land byte for byte, in order, and a later read sees them."""
    b = await bench(dut, stall=0.2, device_stall=0.2)
    model = bytearray(b.memory.read(BASE, 8192))
    for _ in range(100):
        length = random.choice((1, 2, 5, 64, 256))
        at = random.randrange(8192 - length)
        length = min(length, 4096 - at % 4096, 256 - at % 4)
        data = random.randbytes(length)
        b.device.write(BASE + at, data)
        model[at : at + length] = data
    b.device.read(BASE + at, length, 5)
    await b.device.answers(1)
    assert b.memory.read(BASE, 8192) == model
    _, data = b.device.completions[0]
    assert data[at & 3 :][:length] == model[at : at + length]
    sparse = {"type": TLPType.MEM_WRITE, "address": BASE, "length_dw": 2, "first_be": 0b1001}
    b.device.send({**sparse, "last_be": 0b0110}, b"ABCDEFGH")
    b.device.read(BASE, 8, 6)
    await b.device.answers(2)
    model[0:1], model[3:4], model[5:7] = b"A", b"D", b"FG"
    assert b.memory.read(BASE, 8) == model[:8]
    b.host.check()


@cocotb.test(timeout_time=200, timeout_unit="us")
async def latency_is_as_set(dut: Any) -> None:
    """A fixed latency is exact and keeps order; a random one has its mean and range."""
    b = await bench(dut, latency=ReadLatency(700, None))
    up = b.host.monitor.watch(lambda p, way: way == UP and p.type == MEM_READ)
    down = b.host.monitor.watch(lambda p, way: way == DOWN and p.type > MEM_WRITE)
    for tag in range(32):
        b.device.read(BASE + 64 * tag, 4, tag)
    await b.device.answers(32)
    times = [a.time_ns - z.time_ns for a, z in zip(down.seen, up.seen, strict=True)]
    wire = 24 / (8 * 128 / 130) + 10
    assert abs(times[0] - 700 - wire) < 0.1, times[0]
    assert [header["tag"] for header, _ in b.device.completions] == list(range(32))
    model = ReadLatency(600, (400, 1000))
    draws = [model.answer_at(0) for _ in range(4000)]
    assert 400 <= min(draws) < 410
    assert 990 < max(draws) <= 1000
    assert 590 < sum(draws) / len(draws) < 610
    ordered = ReadLatency(600, (0, 1000), reorder=False)
    answers = [ordered.answer_at(t) for t in range(200)]
    assert answers == sorted(answers)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def sampling_moment(dut: Any) -> None:
    """Memory is looked at when the setting says, never before the read has arrived."""
    b = await bench(dut, latency=ReadLatency(1000, None))
    seen = {}
    for sample in ("arrival", "answer", "random"):
        b.host.target.sample = sample
        values = []
        for _ in range(12):
            await Timer(1, "us")
            b.device.completions.clear()
            b.memory.write_u32(BASE, 0)
            watch = b.host.monitor.watch(lambda p, way: way == UP)
            b.device.read(BASE, 4, 1)
            while not watch.seen:
                await Timer(1, "ns")
            b.host.monitor.watches.clear()
            for step in range(1, 100):
                await Timer(10, "ns")
                b.memory.write_u32(BASE, step)
            await b.device.answers(1)
            values.append(int.from_bytes(b.device.completions[0][1], "little"))
        seen[sample] = values
    assert set(seen["arrival"]) == {0}
    assert min(seen["answer"]) >= 98
    assert max(seen["random"]) - min(seen["random"]) > 30


@cocotb.test(timeout_time=200, timeout_unit="us")
async def faults(dut: Any) -> None:
    """Injected errors look to the device as PCIe says."""
    b = await bench(dut, split_on_all_rcb=True)
    kinds = ("ur", "ca", "late_ca", "poison", "drop", "duplicate", "unexpected")
    for index, kind in enumerate(kinds):
        b.host.fault(BASE + 4096 * index, BASE + 4096 * index + 1, kind, count=1)
        b.device.read(BASE + 4096 * index, 128, index)
    await Timer(3, "us")
    got: dict[int, list[Any]] = {}
    for header, data in b.device.completions:
        got.setdefault(header["tag"], []).append((header, data))
    status = {tag: [h["status"].name for h, _ in group] for tag, group in got.items()}
    assert status[0] == ["UNSUPPORTED_REQUEST"]
    assert got[0][0][0]["byte_count"] == 128
    assert status[1] == ["COMPLETER_ABORT"]
    assert status[2] == ["SUCCESS", "COMPLETER_ABORT"]
    assert [h["poisoned"] for h, _ in got[3]] == [1, 1]
    assert 4 not in got
    assert status[5] == ["SUCCESS"] * 4
    assert status[6] == ["SUCCESS"] * 2
    assert [tag for tag in got if tag >= len(kinds)] == [255]
    b.device.completions.clear()
    b.device.read(BASE, 4, 0)
    b.device.read(BASE + 64, 4, 4)
    b.device.read(0x1000, 4, 9)
    await b.device.answers(3)
    last = {h["tag"]: h["status"].name for h, _ in b.device.completions}
    assert last == {0: "SUCCESS", 4: "SUCCESS", 9: "UNSUPPORTED_REQUEST"}
    assert len(b.host.target.unclaimed) == 1
    before = b.memory.read(BASE, 8)
    b.host.fault(BASE, BASE + 4, "ca")
    b.device.write(BASE, b"12345678")
    await Timer(1, "us")
    assert b.memory.read(BASE, 8) == before


@cocotb.test(timeout_time=200, timeout_unit="us")
async def windows_and_rules(dut: Any) -> None:
    """Accesses outside granted windows and requests that break PCIe's rules are found."""
    b = await bench(dut)
    span = {"type": TLPType.MEM_READ, "address": BASE, "length_dw": 1, "first_be": 15}
    wrong = (
        {"address": BASE + 4092, "length_dw": 2, "last_be": 15},
        {"length_dw": 256, "last_be": 15},
        {"last_be": 1},
        {"length_dw": 2},
        {"length_dw": 4, "first_be": 5, "last_be": 15},
        {"tag": 1},
    )
    b.device.send({**span, "tag": 1})
    for index, change in enumerate(wrong):
        b.device.send({**span, "tag": 10 + index, **change})
        await Timer(50, "ns")
        assert len(b.host.violations) == index + 1, change
    b.device.send({"type": TLPType.MEM_WRITE, "address": BASE, "length_dw": 128, "first_be": 15,
                   "last_be": 15}, bytes(512))  # fmt: skip
    await Timer(2, "us")
    assert "maximum payload" in b.host.violations[-1]
    assert not b.memory.faults
    b.memory.revoke(next(iter(b.memory._granules.values()))[0])
    b.device.write(BASE, b"1234")
    await Timer(500, "ns")
    assert len(b.memory.faults) == 1
    with pytest.raises(AssertionError):
        b.host.check()


@cocotb.test(timeout_time=200, timeout_unit="us")
async def interrupts(dut: Any) -> None:
    """MSI-X writes and INTx reach the host, with times, behind the data written before."""
    b = await bench(dut)
    b.device.write(BASE, b"done")
    b.device.write(0xFEE0_1000, b"\x21\0\0\0")
    seen = []
    b.host.interrupts.callbacks.append(lambda i: seen.append(b.memory.read(BASE, 4)))
    await b.host.interrupts.wait(lambda: b.host.interrupts.received)
    assert b.host.interrupts.received[0][1:] == (0xFEE0_1000, 0x21)
    assert b.host.interrupts.received[0].time_ns == get_sim_time("ns")
    assert seen == [b"done"]
    await Timer(1, "us")
    limit = b.endpoint.limits()["posted_header"]
    dut.device_intx.value = 1
    await b.host.interrupts.wait(lambda: b.host.interrupts.level)
    dut.device_intx.value = 0
    await b.host.interrupts.wait(lambda: not b.host.interrupts.level)
    await Timer(1, "us")
    # The credits that the endpoint takes for itself are never the RTL's.
    assert b.endpoint.limits()["posted_header"] == limit
    assert [level for _, level in b.host.interrupts.level_changes] == [1, 0]
    b.host.link.submit(Packet(TLPType.MESSAGE, first_be=9, last_be=1))
    await Timer(200, "ns")
    header, _ = b.device.others[0]
    assert (header.type, header.last_be, header.first_be) == (TLPType.MESSAGE, 1, 9)
    b.device.send({"type": TLPType.MESSAGE, "first_be": 0, "last_be": 3})
    await Timer(200, "ns")
    assert b.host.messages[0].message_code == 0x30
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
    assert int(dut.device_link.value) == 1
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
    arrivals: dict[str, list[tuple[float, Packet]]] = {"fast": [], "mixed": [], "plain": []}

    def end(plain: bool, name: str, receive: bool) -> Any:
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

    start = {}
    for name, plain in (("fast", (0, 0)), ("mixed", (0, 1)), ("plain", (1, 1))):
        near, far = end(bool(plain[0]), name, False), end(bool(plain[1]), name, True)
        near.connect(far)
        await Timer(1, "us")
        start[name] = get_sim_time("ns")
        for packet in train:
            await near.send(tlp_of(packet))
        await Timer(1, "us")
    for name in ("fast", "mixed"):
        got, plain_got = arrivals[name], arrivals["plain"]
        assert [p for _, p in got] == [p for _, p in plain_got] == train
        took = got[-1][0] - start[name]
        reference = plain_got[-1][0] - start["plain"]
        assert abs(took / reference - 1) < 0.01, (name, took, reference)


@pytest.mark.parametrize("width", [64, 128, 256, 512])
def test_endpoint(width: int) -> None:
    """Host, link and endpoint, at all widths."""
    simulate(PortsDut(width), module=__name__, name=f"endpoint_{width}", params={"width": width})
