"""DMA write engine: packets of bytes against memory write TLPs, bit for bit."""

import random
from dataclasses import dataclass

import cocotb
import pytest
from cocotb.triggers import RisingEdge

from lib.sim import params, simulate
from lib.streams import StreamSink, StreamSource, cycles, pack, reset, start_clock, unpack
from virtio_rtl.dma.write_engine import WriteEngine
from virtio_rtl.types.dma import WriteRequest
from virtio_rtl.types.packet import packet_beat
from virtio_rtl.types.pcie import FunctionControl
from virtio_rtl.types.tlp import TLPHeader, TLPType, tlp_beat

WIDTHS = (64, 128, 256, 512)
CLIENTS = 3
DONE_DEPTH = 20
REQUESTER = 0xA5C3


# What the engine should do, in plain Python.


@dataclass
class Group:
    """A client's packet and where its bytes go; the client stands in the top address bits."""

    client: int
    packet: bytes
    requests: list[tuple[int, int]]

    def request_items(self) -> list[dict]:
        last = len(self.requests) - 1
        return [
            {"function": 0, "address": address, "length": length, "last": index == last}
            for index, (address, length) in enumerate(self.requests)
        ]

    def beats(self, lanes: int) -> list[dict]:
        items = []
        for start in range(0, len(self.packet), lanes):
            part = self.packet[start : start + lanes]
            junk = random.randbytes(lanes - len(part))
            items.append(
                {
                    "data": int.from_bytes(part + junk, "little"),
                    "count": len(part),
                    "last": start + lanes >= len(self.packet),
                    "error": random.getrandbits(1),
                }
            )
        return items

    def tlps(self, mps: int) -> list[tuple]:
        """(address, length in dwords, first_be, last_be, payload) of each TLP."""
        result, taken = [], 0
        for address, length in self.requests:
            while length:
                base = address // 4 * 4
                stop = min(base + mps, (base // 4096 + 1) * 4096, address + length)
                image = bytearray(-(-(stop - base) // 4) * 4)
                image[address - base : stop - base] = self.packet[taken : taken + stop - address]
                enables = [
                    sum(1 << i for i in range(4) if address <= base + dword + i < stop)
                    for dword in range(0, len(image), 4)
                ]
                last_be = enables[-1] if len(enables) > 1 else 0
                result.append((base, len(enables), enables[0], last_be, bytes(image)))
                taken += stop - address
                length -= stop - address
                address = stop
        return result


def random_address(client: int) -> int:
    """Any alignment, often near a 4 KiB boundary."""
    page = random.getrandbits(48) << 12
    near = random.choice((random.randrange(4096), 4096 - random.randrange(1, 80), 0))
    return client << 60 | page | near


def random_group(client: int, longest: int = 700, pieces: int = 4) -> Group:
    """Up to ``pieces`` requests of up to ``longest`` bytes, many of them short."""
    lengths = [
        random.choice((random.randint(1, 9), random.randint(1, longest), 64, 16))
        for _ in range(random.randint(1, pieces))
    ]
    requests = [(random_address(client), length) for length in lengths]
    return Group(client, random.randbytes(sum(lengths)), requests)


# The engine in its surroundings.


class Bench:
    """Sources and sinks at all ports, and what was seen at `tlp` and `done` with its cycle."""

    def __init__(self, dut, stall: float = 0.0, clients: int = CLIENTS):
        width = params().width
        self.dut, self.width, self.lanes = dut, width, width // 8
        start_clock(dut)
        self.requests = [
            StreamSource(dut, f"request_{i}", WriteRequest, stall=stall) for i in range(clients)
        ]
        self.packets = [
            StreamSource(dut, f"packet_{i}", packet_beat(width), stall=stall)
            for i in range(clients)
        ]
        self.dones = [StreamSink(dut, f"done_{i}", stall=stall) for i in range(clients)]
        self.sink = StreamSink(dut, "tlp", stall=stall)
        self.beats: list[tuple[int, dict]] = []
        self.tokens: list[tuple[int, int]] = []  # cycle, client
        self.cycle = 0
        self.first_offer = 0  # cycle in which client 0 first offered a beat
        dut.stop.value = 0
        self.set_control()

    def set_control(self, code: int = 1, master: int = 1) -> None:
        """Set MPS code and bus master enable."""
        self.mps = min(128 << code, 512)
        control = {
            "requester_id": REQUESTER,
            "bus_master_enable": master,
            "max_payload": code,
            "relaxed_ordering": 1,
            "no_snoop": 1,
        }
        self.dut.control.value = pack(FunctionControl, control)

    async def start(self) -> "Bench":
        await reset(self.dut)
        cocotb.start_soon(self._watch())
        return self

    async def _watch(self) -> None:
        dut, layout = self.dut, tlp_beat(self.width)
        done = [
            (getattr(dut, f"done_{i}__valid"), getattr(dut, f"done_{i}__ready"))
            for i in range(len(self.dones))
        ]
        while True:
            await RisingEdge(dut.clk)
            self.cycle += 1
            if not self.first_offer and int(dut.packet_0__valid.value):
                self.first_offer = self.cycle
            if int(dut.tlp__valid.value) and int(dut.tlp__ready.value):
                beat = unpack(layout, int(dut.tlp__payload.value))
                self.beats.append((self.cycle, beat))
            for client, (valid, ready) in enumerate(done):
                if int(valid.value) and int(ready.value):
                    self.tokens.append((self.cycle, client))

    def queue(self, groups: list[Group]) -> None:
        for group in groups:
            self.requests[group.client].queue(group.request_items())
            self.packets[group.client].queue(group.beats(self.lanes))

    async def drained(self, groups: int) -> None:
        """Wait for that many tokens, then make sure that nothing more comes."""
        while len(self.tokens) < groups:
            await RisingEdge(self.dut.clk)
        await cycles(self.dut, 30)
        assert len(self.tokens) == groups
        assert int(self.dut.idle.value)

    def tlps(self) -> list[tuple]:
        """(cycle of the first beat, cycle of the last, contents); checks framing and header."""
        result, data, begin, header = [], b"", 0, None
        for cycle, beat in self.beats:
            assert beat.first == (header is None), "first"
            if beat.first:
                begin, header, data = cycle, beat.header, b""
            data += beat.data.to_bytes(self.lanes, "little")
            if beat.last:
                size = 4 * header.length_dw
                assert len(data) == -(-size // self.lanes) * self.lanes, "number of beats"
                assert not any(data[size:]), "lanes past the payload"
                result.append((begin, cycle, check_header(header, data[:size])))
                header = None
        assert header is None, "a TLP without an end"
        return result


def check_header(header, payload: bytes) -> tuple:
    """All fields that a memory write does not use are 0."""
    expected = {
        "type": TLPType.MEM_WRITE,
        "requester_id": REQUESTER,
        "address": header.address,
        "length_dw": header.length_dw,
        "first_be": header.first_be,
        "last_be": header.last_be,
    }
    assert pack(TLPHeader, header) == pack(TLPHeader, expected)
    return header.address, header.length_dw, header.first_be, header.last_be, payload


def check_groups(bench: Bench, groups: list[Group]) -> list[int]:
    """Check that the groups left whole and in each client's order; return clients in order.

    Also: one token per group, in the same order, never before the group's last beat was taken.
    """
    waiting: dict[int, list[Group]] = {}
    for group in groups:
        waiting.setdefault(group.client, []).append(group)
    seen, order, ends = bench.tlps(), [], []
    index = 0
    while index < len(seen):
        client = seen[index][2][0] >> 60
        expected = waiting[client].pop(0).tlps(bench.mps)
        assert [contents for _, _, contents in seen[index : index + len(expected)]] == expected
        index += len(expected)
        order.append(client)
        ends.append(seen[index - 1][1])
    assert not any(waiting.values()), "groups are missing"
    for client in set(order):
        left = [end for end, who in zip(ends, order, strict=True) if who == client]
        tokens = [cycle for cycle, who in bench.tokens if who == client]
        assert len(tokens) == len(left)
        assert all(end < token for end, token in zip(left, tokens, strict=True))
    return order


# Bytes.


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
    # What has been issued fills the output queue and has left the buffer, TLP by TLP.
    assert 4096 <= held <= 4096 + 16 * bench.lanes
    bench.sink.stall = 0.5
    await bench.drained(len(groups))
    check_groups(bench, groups)


# Speed: exact numbers of cycles.


async def measure(bench: Bench, groups: list[Group]) -> int:
    """Cycles from the first beat to the last, both included."""
    bench.queue(groups)
    await bench.drained(len(groups))
    check_groups(bench, groups)
    return bench.beats[-1][0] - bench.beats[0][0] + 1


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def sends_a_beat_in_every_cycle(dut):
    """One client, groups of one TLP back to back: no gap, whatever the length and alignment."""
    for length, offset in ((72, 0), (72, 4), (256, 0), (16, 0), (64, 0), (61, 3), (250, 1)):
        bench = await Bench(dut).start()
        groups = [
            Group(0, random.randbytes(length), [(4096 * index + offset, length)])
            for index in range(40)
        ]
        beats = -(-(length + offset % 4) // bench.lanes)
        into = -(-length // bench.lanes)
        assert await measure(bench, groups) == 40 * beats
        # The client is not slowed down, either, beyond what comes out.
        assert into <= beats
        for model in (*bench.requests, *bench.packets, *bench.dones, bench.sink):
            model.stop()


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def has_no_gap_between_clients_and_pieces(dut):
    """Three clients at once with several requests per group, and long packets: no gap."""
    bench = await Bench(dut).start()
    groups = []
    for index in range(60):
        client = index % CLIENTS
        lengths = [(64, 192), (12, 60), (256, 256, 100)][client]
        requests = [
            ((client << 60) + 4096 * index + 1024 * place, length)
            for place, length in enumerate(lengths)
        ]
        groups.append(Group(client, random.randbytes(sum(lengths)), requests))
    beats = sum(-(-4 * tlp[1] // bench.lanes) for group in groups for tlp in group.tlps(bench.mps))
    # Store and forward: a long TLP behind a short one waits once, while the buffer is empty.
    dut.stop.value = 1
    cocotb.start_soon(_release(dut, 64))
    assert await measure(bench, groups) == beats


async def _release(dut, wait: int) -> None:
    await cycles(dut, wait)
    dut.stop.value = 0


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def has_no_gap_in_scattered_groups(dut):
    """Header and data in separate requests, which end and begin within one beat: no gap."""
    for lengths in ((12, 60), (64, 64), (3, 5, 7, 57), (1, 1, 1, 1)):
        bench = await Bench(dut).start()
        groups = [
            Group(
                0,
                random.randbytes(sum(lengths)),
                [(4096 * i + 64 * place, n) for place, n in enumerate(lengths)],
            )
            for i in range(150)
        ]
        beats = 150 * sum(-(-length // bench.lanes) for length in lengths)
        dut.stop.value = 1
        cocotb.start_soon(_release(dut, 24))
        assert await measure(bench, groups) == beats
        for model in (*bench.requests, *bench.packets, *bench.dones, bench.sink):
            model.stop()


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def has_no_gap_while_splitting(dut):
    """4096-byte requests at MPS 128 leave at one beat per cycle."""
    bench = Bench(dut)
    bench.set_control(0)
    await bench.start()
    groups = [Group(0, random.randbytes(4096), [(4096 * i, 4096)]) for i in range(8)]
    assert await measure(bench, groups) == 8 * 4096 // bench.lanes


@cocotb.test(timeout_time=100, timeout_unit="us")
async def has_the_latency_it_states(dut):
    """One beat of packet to its TLP: 10 cycles; then its token one cycle later."""
    bench = await Bench(dut).start()
    groups = [Group(0, random.randbytes(8), [(64, 8)])]
    await cycles(dut, 20)
    bench.queue(groups)
    await bench.drained(1)
    check_groups(bench, groups)
    assert bench.beats[0][0] - bench.first_offer == 10
    assert bench.tokens[0][0] - bench.beats[0][0] == 1


# Order, fairness, tokens.


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def grants_round_robin(dut):
    """Clients that are always ready take turns."""
    bench = await Bench(dut).start()
    groups = [
        Group(client, random.randbytes(100), [((client << 60) + 4096 * index, 100)])
        for index in range(20)
        for client in range(CLIENTS)
    ]
    bench.queue(groups)
    await bench.drained(len(groups))
    order = check_groups(bench, groups)
    assert order == order[:CLIENTS] * 20
    assert sorted(order[:CLIENTS]) == list(range(CLIENTS))


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def keeps_the_order_of_grants(dut):
    """Payload, then what is requested when it was taken: the second never overtakes."""
    bench = await Bench(dut).start()
    payload = Group(0, random.randbytes(1500), [(4096, 1500)])
    used = Group(1, random.randbytes(16), [((1 << 60) + 4096, 16)])
    for _ in range(5):
        bench.requests[0].queue(payload.request_items())
        bench.packets[0].queue(payload.beats(bench.lanes))
        while not (int(dut.request_0__valid.value) and int(dut.request_0__ready.value)):
            await RisingEdge(dut.clk)
        bench.queue([used])
        await bench.requests[1].idle()
        await cycles(dut, 200)
    assert check_groups(bench, [payload, used] * 5) == [0, 1] * 5


@cocotb.test(timeout_time=200, timeout_unit="us")
async def request_without_data_blocks_no_one(dut):
    """A client with only a request, or only a packet, is not granted; the others go on."""
    bench = await Bench(dut).start()
    lonely, widow = random_group(0), random_group(1)
    bench.requests[0].queue(lonely.request_items())
    bench.packets[1].queue(widow.beats(bench.lanes))
    others = [random_group(2) for _ in range(20)]
    bench.queue(others)
    await bench.drained(20)
    assert bench.requests[0].count == bench.packets[1].count == 0
    bench.packets[0].queue(lonely.beats(bench.lanes))
    bench.requests[1].queue(widow.request_items())
    await bench.drained(22)
    check_groups(bench, [lonely, widow, *others])


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def client_that_takes_no_tokens_stalls_alone(dut):
    """It gets as many groups as it may have open, then none; the others go on."""
    bench = Bench(dut)
    bench.dones[0].stall = 1.0
    await bench.start()
    slow = [Group(0, random.randbytes(40), [(4096 * i, 40)]) for i in range(3 * DONE_DEPTH)]
    others = [random_group(1 + i % 2, 100) for i in range(50)]
    bench.queue(slow)
    bench.queue(others)
    while len(bench.tokens) < 50:
        await RisingEdge(dut.clk)
    await cycles(dut, 100)
    assert sum(1 for _, _, tlp in bench.tlps() if tlp[0] >> 60 == 0) == DONE_DEPTH
    assert bench.requests[0].count == DONE_DEPTH
    bench.dones[0].stall = 0.0
    await bench.drained(len(slow) + 50)
    check_groups(bench, slow + others)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def token_waits_for_the_posted_path(dut):
    """No token while the last beat of the group is held up at `tlp`."""
    bench = await Bench(dut).start()
    bench.sink.stop()
    dut.tlp__ready.value = 0
    group = Group(0, random.randbytes(200), [(4096, 200)])
    bench.queue([group])
    beats = 200 // bench.lanes + (200 % bench.lanes != 0)
    for taken in range(beats):
        await cycles(dut, 40)
        assert len(bench.beats) == taken
        assert not bench.tokens
        dut.tlp__ready.value = 1
        await cycles(dut, 1)
        dut.tlp__ready.value = 0
    await cycles(dut, 5)
    assert len(bench.tokens) == 1
    check_groups(bench, [group])


# Store and forward, stop, bus master enable, reset.


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def slow_client_makes_no_gap_in_a_tlp(dut):
    """However slowly the bytes come, the beats of a TLP follow each other."""
    bench = Bench(dut)
    for source in bench.packets:
        source.stall = 0.8
    await bench.start()
    groups = [random_group(i % CLIENTS) for i in range(30)]
    bench.queue(groups)
    await bench.drained(len(groups))
    check_groups(bench, groups)
    for begin, end, (_, length_dw, *_) in bench.tlps():
        assert end - begin + 1 == -(-4 * length_dw // bench.lanes)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def halts_between_tlps(dut):
    """`stop`, or bus master enable 0: a started TLP is finished, no other starts, none is lost."""
    bench = await Bench(dut, stall=0.2).start()
    groups = [random_group(i % CLIENTS) for i in range(60)]
    bench.queue(groups)
    for turn in range(20):
        await cycles(dut, random.randint(5, 60))
        if turn % 2:
            bench.set_control(master=0)
        else:
            dut.stop.value = 1
        await cycles(dut, 2)
        while not int(dut.idle.value):
            await RisingEdge(dut.clk)
        sent = len(bench.beats)
        bench.tlps()  # checks that the last one is complete
        await cycles(dut, 80)
        assert len(bench.beats) == sent
        assert int(dut.idle.value)
        bench.set_control()
        dut.stop.value = 0
    await bench.drained(len(groups))
    check_groups(bench, groups)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def is_busy_until_the_tlp_has_left(dut):
    """While a TLP is held up at `tlp`, `idle` is low, although `stop` is high."""
    bench = Bench(dut)
    bench.sink.stall = 1.0
    await bench.start()
    groups = [Group(0, random.randbytes(512), [(4096 * i, 512)]) for i in range(10)]
    bench.queue(groups)
    await cycles(dut, 100)
    dut.stop.value = 1
    await cycles(dut, 100)
    assert not int(dut.idle.value)
    bench.sink.stall = 0.0
    while not int(dut.idle.value):
        await RisingEdge(dut.clk)
    await cycles(dut, 50)
    left = [tlp for _, _, tlp in bench.tlps()]
    assert left == [tlp for group in groups for tlp in group.tlps(256)][: len(left)]
    assert 0 < len(left) < 20


@cocotb.test(timeout_time=200, timeout_unit="us")
async def reset_forgets_what_was_not_sent(dut):
    """Stop, idle, reset: afterwards the engine begins anew."""
    bench = await Bench(dut).start()
    dut.stop.value = 1
    bench.queue([random_group(i % CLIENTS, 100, 1) for i in range(6)])
    await cycles(dut, 100)
    assert not bench.beats
    assert int(dut.idle.value)
    for source in (*bench.requests, *bench.packets):
        source.clear()
        source.stop()
        getattr(dut, f"{source.name}__valid").value = 0
    dut.stop.value = 0
    bench = await Bench(dut).start()
    groups = [random_group(i % CLIENTS) for i in range(20)]
    bench.queue(groups)
    await bench.drained(20)
    check_groups(bench, groups)


# A client that is wrong.


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


# Python side.


@pytest.mark.parametrize("width", WIDTHS)
def test_write_engine(width: int) -> None:
    """All cocotb tests at one width."""
    simulate(
        WriteEngine(width, CLIENTS, done_depth=DONE_DEPTH),
        module=__name__,
        name=f"write_engine_{width}",
        params={"width": width},
        waive=[f"done_{i}__payload" for i in range(CLIENTS)],
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
