"""A root complex for the tests of the read engine: checks reads, answers them in any way.

Written from the PCIe rules, not from the engine. It is a model, not a test.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from lib.streams import StreamSink, StreamSource, pack
from virtio_rtl.types.packet import packet_beat
from virtio_rtl.types.pcie import FunctionControl
from virtio_rtl.types.tlp import CompletionStatus, TLPType, tlp_beat

REQUESTER = 0x1234


class Memory:
    """Host memory: every 64-bit address has its byte."""

    def __init__(self) -> None:
        self._noise = random.randbytes(0x10000) * 2

    def read(self, address: int, length: int) -> bytes:
        """Return bytes; what they are depends on the whole address."""
        result = b""
        while length:
            start = address % 0x10000
            take = min(length, 0x10000 - start)
            first = (start + 40503 * (address >> 16)) % 0x10000
            result += self._noise[first : first + take]
            address += take
            length -= take
        return result


@dataclass
class Read:
    """A memory read that was received and checked."""

    tag: int
    address: int
    length: int
    cycle: int
    done: int = 0
    due: int = 0
    poison_at: int = -1


def completion(width: int, payload: bytes, **fields: Any) -> list[int]:
    """Return the beats of a completion; lanes past the payload and later headers are noise."""
    layout = tlp_beat(width)
    size = width // 8
    header = {
        "type": TLPType.COMPLETION_DATA if payload else TLPType.COMPLETION,
        "length_dw": len(payload) // 4,
        "requester_id": REQUESTER,
        "completer_id": 0,
        "status": CompletionStatus.SUCCESS,
    } | fields
    count = max(1, -(-len(payload) // size))
    beats = []
    for index in range(count):
        chunk = payload[index * size : (index + 1) * size]
        chunk += random.randbytes(size - len(chunk))
        beat = {
            "data": int.from_bytes(chunk, "little"),
            "first": index == 0,
            "last": index == count - 1,
        }
        if index == 0:
            beats.append(pack(layout, beat | {"header": header}))
        else:
            noise = random.getrandbits(layout.size) & ~pack(
                layout, {"data": (1 << width) - 1, "first": 1, "last": 1}
            )
            beats.append(noise | pack(layout, beat))
    return beats


class Host:
    """Receives reads, checks them against the rules, answers them later and out of order."""

    def __init__(self, dut: Any, params: Any, *, stall: float = 0.0) -> None:
        self.dut = dut
        self.width = params.width
        self.tags = params.tags
        self.slot_bytes = params.slot_bytes
        self.memory = Memory()
        self.read_code = 2
        self.rcb = 64
        self.piece_max = 256
        self.latency: Callable[[], int] = lambda: 20
        self.shuffle = True
        self.split_always = False
        self.answer: Callable[[Read], bool] = lambda read: True
        self.on_read: Callable[[Read], None] = lambda read: None
        self.in_flight: dict[int, Read] = {}
        self.seen: list[Read] = []
        self.cycle = 0
        self.extended = True
        self.bus_master = True
        self.tlps = StreamSink(dut, "tlp", tlp_beat(self.width), stall=stall)
        self.source = StreamSource(dut, "completions", stall=stall)
        self.sent = 0
        self.set_control()
        cocotb.start_soon(self._run())

    def set_control(self) -> None:
        """Drive the function's control register from our own fields."""
        self.dut.control.value = pack(
            FunctionControl,
            {
                "requester_id": REQUESTER,
                "bus_master_enable": self.bus_master,
                "max_read_request": self.read_code,
                "extended_tag": self.extended,
                "read_boundary_128": self.rcb == 128,
            },
        )

    @property
    def read_size(self) -> int:
        """MRRS in bytes, as far as the slots go."""
        return min(128 << self.read_code, self.slot_bytes)

    def check(self, tlp: Any) -> Read:
        """Check a read against the rules of PCIe; return what it asks for."""
        header = tlp.header
        assert (tlp.first, tlp.last) == (1, 1)
        assert header.type == TLPType.MEM_READ
        assert header.requester_id == REQUESTER
        assert (header.traffic_class, header.no_snoop, header.relaxed_ordering) == (0, 0, 0)
        assert header.tag < self.tags
        assert header.tag not in self.in_flight, f"tag {header.tag} is in flight"
        assert header.address % 4 == 0
        assert 1 <= header.length_dw * 4 <= self.slot_bytes
        assert (header.address % 4096) + header.length_dw * 4 <= 4096
        enables = [header.first_be >> lane & 1 for lane in range(4)]
        if header.length_dw > 1:
            enables += [1] * (4 * (header.length_dw - 2))
            enables += [header.last_be >> lane & 1 for lane in range(4)]
            assert header.first_be
            assert header.last_be
        else:
            assert header.last_be == 0
        first, last = enables.index(1), len(enables) - enables[::-1].index(1)
        assert all(enables[first:last]), "bytes in the middle are not enabled"
        return Read(header.tag, header.address + first, last - first, self.cycle)

    def next_piece(self, read: Read) -> tuple[bytes, dict[str, Any]]:
        """Return the payload and header fields of the read's next completion."""
        position = read.address + read.done
        left = read.length - read.done
        limit = random.randrange(1, self.piece_max // self.rcb + 1) * self.rcb
        end = min(position // self.rcb * self.rcb + limit, position + left)
        if self.split_always:
            end = min((position // self.rcb + 1) * self.rcb, position + left)
        before, after = position % 4, -end % 4
        payload = (
            random.randbytes(before)
            + self.memory.read(position, end - position)
            + random.randbytes(after)
        )
        before_done = read.done
        read.done += end - position
        return payload, {
            "tag": read.tag,
            "byte_count": left,
            "lower_address": position & 0x7F,
            "poisoned": int(before_done <= read.poison_at < read.done),
        }

    def send(self, payload: bytes, **fields: Any) -> None:
        """Queue one completion."""
        self.source.queue(completion(self.width, payload, **fields))
        self.sent += 1

    def send_next(self, read: Read) -> None:
        """Queue the read's next completion; forget the read after its last one."""
        payload, fields = self.next_piece(read)
        self.send(payload, **fields)
        if read.done == read.length:
            del self.in_flight[read.tag]

    async def _run(self) -> None:
        edge = RisingEdge(self.dut.clk)
        busy = 0
        while True:
            await edge
            self.cycle += 1
            while (tlp := self.tlps.now()) is not None:
                read = self.check(tlp)
                read.due = self.cycle + self.latency()
                self.in_flight[read.tag] = read
                self.seen.append(read)
                self.on_read(read)
            # One TLP ahead of the source at most, so that the choice is made late.
            if self.source._items and busy:
                busy = len(self.source._items) > 1
                continue
            ready = [r for r in self.in_flight.values() if r.due <= self.cycle and self.answer(r)]
            if ready:
                self.send_next(random.choice(ready) if self.shuffle else ready[0])
                busy = 1


def packet_bytes(width: int, beats: list[Any]) -> bytes:
    """Check the framing of a packet's beats; return its bytes."""
    size = width // 8
    assert all(beat.count == size and not beat.last for beat in beats[:-1])
    assert beats[-1].last
    assert 1 <= beats[-1].count <= size
    return b"".join(beat.data.to_bytes(size, "little")[: beat.count] for beat in beats)


class Client:
    """Sends groups of requests, and takes their packets."""

    def __init__(self, dut: Any, index: int, host: Host, *, stall: float = 0.0) -> None:
        from virtio_rtl.types.dma import ReadRequest

        self.host = host
        self.width = host.width
        self.source = StreamSource(dut, f"request_{index}", ReadRequest, stall=stall)
        self.sink = StreamSink(dut, f"packet_{index}", packet_beat(host.width), stall=stall)

    def ask(self, pieces: list[tuple[int, int]]) -> bytes:
        """Queue a group of (address, length); return the bytes that have to come."""
        self.source.queue(
            {
                "function": random.getrandbits(8),
                "address": address,
                "length": length,
                "last": index == len(pieces) - 1,
            }
            for index, (address, length) in enumerate(pieces)
        )
        return b"".join(self.host.memory.read(address, length) for address, length in pieces)

    async def expect(self, wanted: bytes, error: int = 0) -> None:
        """Wait for a packet; compare it."""
        got, flag = await self.take()
        assert (len(got), flag) == (len(wanted), error)
        if got != wanted:
            wrong = [i for i in range(len(got)) if got[i] != wanted[i]]
            raise AssertionError(f"{len(wrong)} of {len(got)} bytes are wrong, {wrong[:40]}...")

    async def take(self) -> tuple[bytes, int]:
        """Wait for a packet; return its bytes and its error flag."""
        beats = [await self.sink.receive()]
        while not beats[-1].last:
            beats.append(await self.sink.receive())
        return packet_bytes(self.width, beats), beats[-1].error
