"""The memory side of the host: carries out what the device reads and writes."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from typing import Any

import cocotb
from cocotb.triggers import Event, Timer
from cocotb.utils import get_sim_time

from lib.pcie.checker import RequestChecker
from lib.pcie.faults import FaultList
from lib.pcie.latency import ReadLatency
from lib.pcie.packet import (
    COMPLETER_ABORT,
    COMPLETION,
    COMPLETION_DATA,
    MEM_WRITE,
    SUCCESS,
    UNSUPPORTED_REQUEST,
    Packet,
)

_HIGH = (4, 3, 2, 2, 1, 1, 1, 1) + (0,) * 8  # by byte enable: bytes missing at the end
_LOW = (0, 0, 1, 0, 2, 0, 1, 0, 3, 0, 1, 0, 2, 0, 1, 0)  # ... and at the start


def enabled_range(packet: Packet) -> tuple[int, int]:
    """Return the address range from the first to the last enabled byte; empty if there is none."""
    first = packet.first_be
    start = packet.address + _LOW[first]
    if packet.length_dw == 1:
        return start, (packet.address + 4 - _HIGH[first]) if first else start
    return start, packet.address + packet.length_dw * 4 - _HIGH[packet.last_be]


def enabled_runs(packet: Packet) -> Iterator[tuple[int, int]]:
    """Give the stretches of enabled bytes of a write, as offsets from its address."""
    length, first, last = packet.length_dw, packet.first_be, packet.last_be
    if length > 1 and first in (15, 14, 12, 8) and last in (15, 7, 3, 1):
        yield _LOW[first], length * 4 - _HIGH[last]
        return
    enables = first
    if length > 1:
        middle = (1 << 4 * (length - 2)) - 1
        enables = first | middle << 4 | last << 4 * (length - 1)
    at = 0
    while enables:
        skip = (enables & -enables).bit_length() - 1
        enables >>= skip
        at += skip
        run = (~enables & enables + 1).bit_length() - 1
        yield at, at + run
        enables >>= run
        at += run


class MemoryTarget:
    """Answers memory requests out of a `GuestMemory`.

    Writes take effect when they arrive, in their order. Each read is answered after its own
    latency, any number at once; `sample` says when it looks at memory: "answer", "arrival", or
    "random" for a random moment between the two. All completions of one read come in order;
    `piece_gap_ns` (shortest, longest) is the pause between them, in which those of other reads
    may come. refuse_ungranted: accesses that the memory does not grant to the device are outside
    of it, too; else they reach the memory, which keeps account of them. Requests are counted in
    `reads`, `writes`; those outside memory in `unclaimed`.
    """

    def __init__(self, memory: Any, latency: ReadLatency) -> None:
        self.memory = memory
        self.latency = latency
        self.sample = "answer"
        self.piece_gap_ns = (0.0, 0.0)
        self.boundary = 64
        self.split_on_all_boundaries = False
        self.refuse_ungranted = False
        self.max_payload = 128
        self.faults = FaultList()
        self.checker = RequestChecker()
        self.reads = 0
        self.writes = 0
        self.unclaimed: list[Packet] = []
        self.completer_id = 0
        self.write_claims: list[Callable[[int, bytes], bool]] = []
        self._random = random.Random(random.getrandbits(32))
        self._due: list[tuple[float, int, Packet, Callable[[Packet], None]]] = []
        self._accepted = Event()
        cocotb.start_soon(self._run_answers())

    def _holds(self, start: int, end: int, writing: bool) -> bool:
        memory = self.memory
        if memory is None or start < memory.base or end > memory.end:
            return False
        return not self.refuse_ungranted or memory.device_may(start, end - start, writing)

    # Writes

    def write(self, packet: Packet) -> None:
        """Carry out a memory write."""
        self.checker.request(packet)
        self.writes += 1
        base, payload = packet.address, packet.data
        fault = self.faults.hit(base, base + len(payload)) if self.faults.armed else None
        if fault in ("ur", "ca", "drop", "late_ca"):
            return
        for start, end in enabled_runs(packet):
            address, piece = base + start, payload[start:end]
            for claim in self.write_claims:
                if claim(address, piece):
                    break
            else:
                self._store(packet, address, piece)

    def _store(self, packet: Packet, address: int, piece: bytes) -> None:
        if self._holds(address, address + len(piece), True):
            self.memory.device_write(address, piece)
        else:
            self.unclaimed.append(packet)

    # Reads

    def read(self, packet: Packet, send: Callable[[Packet], None]) -> None:
        """Accept a memory read; its completions go to `send` when the time has come."""
        self.checker.request(packet)
        self.reads += 1
        plain = self.sample == "answer" and not self.piece_gap_ns[1] and not self.faults.armed
        if not plain:
            cocotb.start_soon(self._answer(packet, send))
            return
        heapq.heappush(
            self._due, (self.latency.answer_at(get_sim_time("ns")), self.reads, packet, send)
        )
        self._accepted.set()

    async def _run_answers(self) -> None:
        """Answer plain reads when they are due: one task for all of them, since they are many."""
        due = self._due
        while True:
            while not due:
                self._accepted.clear()
                await self._accepted.wait()
            wait = round((due[0][0] - get_sim_time("ns")) * 1000)
            if wait > 0:
                # No read that comes meanwhile can be due before the shortest latency is over.
                await Timer(min(wait, max(round(self.latency.low_ns * 1000), 1000)), "ps")
                continue
            _, _, packet, send = heapq.heappop(due)
            start, end = enabled_range(packet)
            data = self._sample(packet, start, end)
            self.checker.done(packet)
            if data is None:
                count = max(end - start, 1)
                send(self._refusal(packet, UNSUPPORTED_REQUEST, start, count))
                continue
            for piece in self._pieces(packet, data, start, end):
                send(piece)

    async def _answer(self, packet: Packet, send: Callable[[Packet], None]) -> None:
        now = get_sim_time("ns")
        answer = self.latency.answer_at(now)
        start, end = enabled_range(packet)
        kind = self.faults.hit(start, max(end, start + 1)) if self.faults.armed else None
        if kind == "drop":
            self.checker.done(packet)
            return
        sampled = None
        if self.sample != "answer":
            moment = self._random.uniform(now, answer) if self.sample == "random" else now
            await _until(moment)
            sampled = self._sample(packet, start, end)
        await _until(answer)
        data = self._sample(packet, start, end) if sampled is None else sampled
        if kind in ("ur", "ca") or data is None:
            status = COMPLETER_ABORT if kind == "ca" else UNSUPPORTED_REQUEST
            self.checker.done(packet)
            send(self._refusal(packet, status, start, max(end - start, 1)))
            return
        await self._send(packet, list(self._pieces(packet, data, start, end)), kind, send)

    def _sample(self, packet: Packet, start: int, end: int) -> bytes | None:
        """Return whole dwords: the bytes asked for, and noise in the bytes that were not."""
        if not self._holds(start, end, False):
            self.unclaimed.append(packet)
            return None
        size = packet.length_dw * 4
        before = start - packet.address
        after = size - before - (end - start)
        data = self.memory.device_read(start, end - start)
        if before or after:
            noise = self._random.randbytes
            data = noise(before) + data + noise(after)
        return data

    def _pieces(self, packet: Packet, data: bytes, start: int, end: int) -> Iterator[Packet]:
        """Cut the answer into completions at the read completion boundary. [PCIe 3.0 §2.3.1.1]"""
        base, at, boundary = packet.address, packet.address, self.boundary
        stop = base + len(data)
        while at < stop:
            reach = at + (boundary if self.split_on_all_boundaries else self.max_payload)
            upto = reach & -boundary if reach < stop or self.split_on_all_boundaries else stop
            upto = min(upto, stop)
            first = max(at, start)
            yield self._completion(
                packet, data[at - base : upto - base], max(end - first, 1), first & 0x7F
            )
            at = upto

    def _completion(self, packet: Packet, data: bytes, count: int, lower: int) -> Packet:
        completion = Packet(
            COMPLETION_DATA,
            data,
            traffic_class=packet.traffic_class,
            no_snoop=packet.no_snoop,
            relaxed_ordering=packet.relaxed_ordering,
            requester_id=packet.requester_id,
            completer_id=self.completer_id,
            tag=packet.tag,
            byte_count=count,
            lower_address=lower,
            status=SUCCESS,
        )
        completion.category = packet.category
        return completion

    def _refusal(self, packet: Packet, status: int, start: int, count: int) -> Packet:
        refusal = self._completion(packet, b"", count, start & 0x7F)
        refusal.type, refusal.status = COMPLETION, status
        return refusal.settle()

    async def _send(
        self, packet: Packet, pieces: list[Packet], kind: str | None, send: Callable[[Packet], None]
    ) -> None:
        shortest, longest = self.piece_gap_ns
        if kind == "unexpected":
            stray = pieces[0].copy()
            busy = {tag for _, tag in self.checker.tags}
            stray.tag = next((t for t in range(255, -1, -1) if t not in busy), 0x3FF)
            send(stray)
        for index, piece in enumerate(pieces):
            if index and longest:
                await Timer(round(self._random.uniform(shortest, longest) * 1000) + 1, "ps")
            if kind == "late_ca" and (index or len(pieces) == 1):
                self.checker.done(packet)
                send(self._refusal(packet, COMPLETER_ABORT, piece.lower_address, piece.byte_count))
                return
            if index == len(pieces) - 1:
                self.checker.done(packet)
            piece.poisoned = int(kind == "poison")
            send(piece)
            if kind == "duplicate":
                send(piece.copy())

    def handle(self, packet: Packet, send: Callable[[Packet], None]) -> None:
        """Carry out a memory request."""
        if packet.type == MEM_WRITE:
            self.write(packet)
        else:
            self.read(packet, send)


async def _until(time_ns: float) -> None:
    wait = round((time_ns - get_sim_time("ns")) * 1000)
    if wait > 0:
        await Timer(wait, "ps")
