"""What the tests of the write engine share: golden TLPs, surroundings, checks."""

import random
from dataclasses import dataclass

import cocotb
from cocotb.triggers import RisingEdge

from lib.sim import params
from lib.streams import StreamSink, StreamSource, cycles, pack, reset, start_clock, unpack
from virtio_rtl.dma.write_engine import WriteEngine
from virtio_rtl.types.dma import WriteRequest
from virtio_rtl.types.packet import packet_beat
from virtio_rtl.types.pcie import FunctionControl
from virtio_rtl.types.tlp import TLPHeader, TLPType, tlp_beat

__all__ = [
    "CLIENTS",
    "DONE_DEPTH",
    "TIED",
    "WIDTHS",
    "Bench",
    "Group",
    "check_groups",
    "make_engine",
    "random_address",
    "random_group",
]

WIDTHS = (64, 128, 256, 512)
CLIENTS = 3
DONE_DEPTH = 20
TIED = [f"done_{i}__payload" for i in range(CLIENTS)]  # tokens carry nothing
REQUESTER = 0xA5C3


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


def make_engine(width: int) -> WriteEngine:
    """The engine that all tests are about."""
    return WriteEngine(width, CLIENTS, done_depth=DONE_DEPTH)
