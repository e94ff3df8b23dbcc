"""The write engine's TLPs, bit for bit, also for a client that is wrong."""

import random

import cocotb
import pytest
from write_engine_rig import (
    CLIENTS,
    TIED,
    WIDTHS,
    Bench,
    Group,
    check_groups,
    make_engine,
    random_address,
    random_group,
)

from lib.sim import simulate
from lib.streams import cycles
from virtio_rtl.dma.write_engine import WriteEngine


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def writes_every_byte_under_stalls(dut):
    """Random groups of three clients, random stalls everywhere: all TLPs bit for bit."""
    for stall, code in ((0.0, 1), (0.3, 0), (0.6, 2), (0.1, 5)):
        bench = Bench(dut, stall)
        bench.set_control(code)
        await bench.start()
        groups = [random_group(random.randrange(CLIENTS)) for _ in range(60)]
        bench.queue(groups)
        await bench.drained(len(groups))
        check_groups(bench, groups)
        for model in (*bench.requests, *bench.packets, *bench.dones, bench.sink):
            model.stop()


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def enables_exactly_the_bytes(dut):
    """Each start in a dword with each short length, and lengths around a beat and the MPS."""
    bench = await Bench(dut).start()
    lanes = bench.lanes
    lengths = {*range(1, 10), *range(lanes - 5, lanes + 6), *range(251, 260), 511, 512, 513}
    groups = [
        Group(0, random.randbytes(length), [(0x1000 * length + offset, length)])
        for length in sorted(lengths - {0, -1, -2})
        for offset in range(4)
    ]
    bench.queue(groups)
    await bench.drained(len(groups))
    check_groups(bench, groups)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def reads_from_every_lane(dut):
    """Requests of odd lengths begin at each byte of a beat, with each offset in a dword."""
    bench = await Bench(dut).start()
    groups = []
    for offset in range(4):
        for start in range(1, bench.lanes + 2):
            length = random.randint(1, 2 * bench.lanes + 3)
            requests = [(0x10000 + 64 * start, start), (0x20000 + 256 * start + offset, length)]
            groups.append(Group(0, random.randbytes(start + length), requests))
    bench.queue(groups)
    await bench.drained(len(groups))
    check_groups(bench, groups)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def never_crosses_4k(dut):
    """Requests of up to 4096 bytes at all places around a page boundary."""
    bench = await Bench(dut).start()
    groups = []
    for _ in range(25):
        address = random.getrandbits(50) * 4096 - random.randrange(1, 600)
        length = random.choice((random.randint(1, 700), 4096, 4095))
        groups.append(Group(0, random.randbytes(length), [(address % 2**60, length)]))
    groups.append(Group(0, random.randbytes(4096), [(0xFFF_FFFF_FFFF_FFFF - 4096 * 3, 4096)]))
    groups.append(Group(0, random.randbytes(16), [(2**32 - 8, 16)]))
    groups.append(Group(0, random.randbytes(16), [(2**52 - 8, 16)]))
    bench.queue(groups)
    await bench.drained(len(groups))
    check_groups(bench, groups)
    for _, _, (address, length_dw, *_) in bench.tlps():
        assert address // 4096 == (address + 4 * length_dw - 1) // 4096


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def obeys_max_payload(dut):
    """Each MPS code; codes above the engine's own limit mean that limit, reserved ones 128."""
    for code, mps in enumerate((128, 256, 512, 512, 512, 512, 128, 128)):
        bench = Bench(dut)
        bench.set_control(code)
        bench.mps = mps
        await bench.start()
        groups = [
            Group(0, random.randbytes(1500), [(0x1_0000_0000 + random.randrange(4096), 1500)]),
            Group(1, random.randbytes(2048), [((1 << 60) + 4096, 2048)]),
        ]
        bench.queue(groups)
        await bench.drained(len(groups))
        check_groups(bench, groups)
        for model in (*bench.requests, *bench.packets, *bench.dones, bench.sink):
            model.stop()


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def writes_packets_larger_than_the_buffer(dut):
    """A packet of 20000 bytes in pieces of any size, between small ones of another client."""
    bench = await Bench(dut, stall=0.1).start()
    requests, left = [], 20000
    while left:
        length = min(left, random.choice((4096, 1514, 3000, 37)))
        requests.append((random_address(0), length))
        left -= length
    groups = [Group(0, random.randbytes(20000), requests)]
    groups += [random_group(1, 100) for _ in range(10)]
    bench.queue(groups)
    await bench.drained(len(groups))
    check_groups(bench, groups)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def full_buffer_overwrites_nothing(dut):
    """The posted path is blocked until the buffer is full, then slow: all bytes are right."""
    bench = await Bench(dut).start()
    bench.sink.stall = 1.0
    groups = [
        Group(0, random.randbytes(4096), [(8192 * i + random.randrange(1, 4000), 4096)])
        for i in range(5)
    ]
    bench.queue(groups)
    await cycles(dut, 800)
    held = bench.packets[0].count * bench.lanes
    # What has been issued fills the output queue and has left the buffer, TLP by TLP; two beats
    # stand at the client's door.
    assert 4096 <= held <= 4096 + 18 * bench.lanes
    bench.sink.stall = 0.5
    await bench.drained(len(groups))
    check_groups(bench, groups)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def wrong_packet_length_harms_no_one_else(dut):
    """Too short: missing beats are zeros. Too long: the surplus is dropped. Others are exact."""
    for stall in (0.0, 0.3):
        bench = await Bench(dut, stall).start()
        lanes = bench.lanes
        groups = []
        for index in range(60):
            group = random_group(index % CLIENTS, 300)
            asked = len(group.packet)
            if group.client == 0:
                actual = random.choice(
                    (random.randint(1, asked), asked + random.randint(1, 5 * lanes), 6000)
                )
                sent = Group(0, random.randbytes(actual), group.requests)
                bench.requests[0].queue(sent.request_items())
                items = sent.beats(lanes)
                bench.packets[0].queue(items)
                rows = b"".join(item["data"].to_bytes(lanes, "little") for item in items)
                group.packet = (rows + bytes(asked))[:asked]
            else:
                bench.queue([group])
            groups.append(group)
        await bench.drained(len(groups))
        check_groups(bench, groups)
        for model in (*bench.requests, *bench.packets, *bench.dones, bench.sink):
            model.stop()


@cocotb.test(timeout_time=200, timeout_unit="us")
async def short_packet_waits_for_nothing(dut):
    """A group whose packet is too short ends, although its client sends nothing more."""
    bench = await Bench(dut).start()
    group = random_group(0, 300)
    bench.requests[0].queue(group.request_items())
    bench.packets[0].queue([{"data": 0, "count": 1, "last": 1, "error": 1}])
    group.packet = bytes(len(group.packet))
    other = random_group(1)
    await cycles(dut, 5)
    bench.queue([other])
    await bench.drained(2)
    assert check_groups(bench, [group, other]) == [0, 1]


@pytest.mark.parametrize("width", WIDTHS)
def test_write_engine_bytes(width: int) -> None:
    """Every byte, at each width."""
    simulate(
        make_engine(width),
        module=__name__,
        name=f"write_engine_bytes_{width}",
        params={"width": width},
        waive=TIED,
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": 32},
        {"width": 1024},
        {"clients": 0},
        {"payload_limit": 500},
        {"payload_limit": 4096},
        {"buffer_bytes": 1024},
        {"buffer_bytes": 3000},
        {"done_depth": 0},
    ],
)
def test_rejects_what_cannot_be_built(wrong: dict) -> None:
    """A wrong parameter raises ValueError, which names it."""
    with pytest.raises(ValueError, match=f"({next(iter(wrong))}|buffer_bytes) = "):
        WriteEngine(**({"width": 64, "clients": 1} | wrong))
