"""The DMA engines as a client sees them, in Python: guest memory behind streams."""

from __future__ import annotations

import random
from collections import deque
from typing import Any, Protocol

import cocotb
from cocotb.triggers import Event

from lib.streams import StreamSink, StreamSource, cycles
from virtio_rtl.types.dma import ReadRequest, WriteRequest
from virtio_rtl.types.packet import packet_beat

__all__ = ["DeviceMemory", "ReadClientModel", "WriteClientModel", "packet_beats", "packet_bytes"]


def packet_beats(
    data: bytes, width: int, *, error: bool = False, early: bool = False, scramble: bool = False
) -> list[dict[str, int]]:
    """Beats of a packed packet.

    early: all of them tell the error, as those of one read do; scramble: lanes behind the last
    byte, which mean nothing, are random instead of 0.
    """
    lanes = width // 8
    beats = []
    for start in range(0, len(data), lanes):
        piece = data[start : start + lanes]
        last = start + lanes >= len(data)
        rest = random.randbytes(lanes - len(piece)) if scramble else b""
        beats.append(
            {
                "data": int.from_bytes(piece + rest, "little"),
                "count": len(piece),
                "last": int(last),
                "error": int((last or early) and error),
            }
        )
    return beats


async def packet_bytes(sink: StreamSink) -> tuple[bytes, bool]:
    """Wait for a whole packet; its bytes and its error flag."""
    data = b""
    while True:
        beat = await sink.receive()
        data += int(beat["data"]).to_bytes(128, "little")[: beat["count"]]
        if beat["last"]:
            return data, bool(beat["error"])


class DeviceMemory(Protocol):
    """Memory as a device sees it."""

    def device_read(self, addr: int, length: int, /) -> bytes:
        """Read bytes."""

    def device_write(self, addr: int, data: bytes, /) -> None:
        """Write bytes."""


class ReadClientModel:
    """Answers one client's read requests from guest memory, in order, after a random latency.

    Memory is sampled at a random moment between request and answer, each request on its own, so
    that what is read need not be newer than what an earlier request has read.

    depth: requests that are taken before the bytes of the oldest are, as many as it will be of a
    read engine; these come as soon as there is a beat of them, also of a group that has not ended.
    None: any number, and groups come whole.
    """

    def __init__(
        self,
        dut: Any,
        request: str,
        packet: str,
        memory: DeviceMemory,
        width: int,
        *,
        latency: tuple[int, int] = (20, 60),
        stall: float = 0.0,
        depth: int | None = None,
    ) -> None:
        self.dut = dut
        self.memory = memory
        self.width = width
        self.depth = depth
        self._stall = stall
        self.latency = latency
        self.requests = 0
        self.fail: Any = None
        self._sink = StreamSink(dut, request, ReadRequest, stall=stall)
        self._source = StreamSource(dut, packet, packet_beat(width), stall=stall)
        self._pending: deque[tuple[Event, dict[str, Any]]] = deque()
        self._arrived = Event()
        cocotb.start_soon(self._accept())
        cocotb.start_soon(self._answer())

    async def _accept(self) -> None:
        while True:
            request = await self._sink.receive()
            self.requests += 1
            assert 1 <= request["length"] <= 4096
            answer: dict[str, Any] = {"last": request["last"]}
            ready = Event()
            self._pending.append((ready, answer))
            self._limit()
            self._arrived.set()
            cocotb.start_soon(self._sample(request, answer, ready))

    def _limit(self) -> None:
        full = self.depth is not None and len(self._pending) >= self.depth
        self._sink.stall = 1.0 if full else self._stall

    async def _sample(self, request: Any, answer: dict[str, Any], ready: Event) -> None:
        delay = random.randint(*self.latency)
        before = random.randint(0, delay)
        await cycles(self.dut, before)
        failed = bool(self.fail and self.fail(request["address"]))
        answer["error"] = failed
        answer["data"] = (
            random.randbytes(request["length"])
            if failed
            else self.memory.device_read(request["address"], request["length"])
        )
        await cycles(self.dut, delay - before)
        ready.set()

    async def _answer(self) -> None:
        data, error = b"", False
        while True:
            while not self._pending:
                self._arrived.clear()
                await self._arrived.wait()
            ready, answer = self._pending[0]
            await ready.wait()
            data += answer["data"]
            error |= answer["error"]
            if self.depth is not None and not answer["last"]:
                # The last byte stays: the last beat needs one.
                whole = max(len(data) - 1, 0) // (self.width // 8) * (self.width // 8)
                beats = packet_beats(data[:whole], self.width, error=error, early=True)
                self._source.queue([beat | {"last": 0} for beat in beats])
                data = data[whole:]
                await self._source.idle()
            self._pending.popleft()
            self._limit()
            if answer["last"]:
                self._source.queue(packet_beats(data, self.width, error=error, early=True))
                data, error = b"", False


class WriteClientModel:
    """Carries one client's writes out, group by group, and answers each with a done token."""

    def __init__(
        self,
        dut: Any,
        request: str,
        packet: str,
        done: str,
        memory: DeviceMemory,
        width: int,
        *,
        latency: tuple[int, int] = (2, 20),
        stall: float = 0.0,
    ) -> None:
        self.dut = dut
        self.memory = memory
        self.latency = latency
        self.groups: list[list[tuple[int, bytes]]] = []
        self._requests = StreamSink(dut, request, WriteRequest, stall=stall)
        self._packets = StreamSink(dut, packet, packet_beat(width), stall=stall)
        self._done = StreamSource(dut, done, stall=stall)
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        while True:
            requests = [await self._requests.receive()]
            while not requests[-1]["last"]:
                requests.append(await self._requests.receive())
            data, _ = await packet_bytes(self._packets)
            assert sum(r["length"] for r in requests) == len(data), "lengths and packet differ"
            await cycles(self.dut, random.randint(*self.latency))
            group = []
            for request in requests:
                piece, data = data[: request["length"]], data[request["length"] :]
                self.memory.device_write(request["address"], piece)
                group.append((request["address"], piece))
            self.groups.append(group)
            self._done.queue([0])
