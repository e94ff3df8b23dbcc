"""Both ends of the register bus, for the tests of the transport."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import cocotb

from lib.streams import Record, StreamSink, StreamSource
from virtio_rtl.types.regbus import RegisterRequest


def access(address: int, size: int, value: int | None = None) -> dict[str, int]:
    """Return the request for an aligned access of 1, 2 or 4 bytes; a read if `value` is None."""
    assert size in (1, 2, 4)
    assert address % size == 0
    lane = address % 4
    return {
        "address": address - lane,
        "write": int(value is not None),
        "data": 0 if value is None else value << 8 * lane,
        "byte_enable": ((1 << size) - 1) << lane,
    }


class RegisterInitiator:
    """Makes accesses of 1 to 8 bytes, one after the other, as a driver does."""

    def __init__(self, dut: Any, name: str = "bus", stall: float = 0.0) -> None:
        self.request = StreamSource(dut, f"{name}__request", RegisterRequest, stall=stall)
        self.response = StreamSink(dut, f"{name}__response", stall=stall)

    async def write(self, address: int, value: int, size: int = 4) -> None:
        """Write; 8 bytes go as two halves."""
        if size == 8:
            await self.write(address, value & 0xFFFF_FFFF)
            await self.write(address + 4, value >> 32)
            return
        await self.request.send(access(address, size, value))

    async def raw(self, **fields: int) -> int | None:
        """Make one access as given; return the whole dword if it was a read."""
        await self.request.send(fields)
        return None if fields.get("write") else await self.response.receive()

    async def read(self, address: int, size: int = 4) -> int:
        """Read; 8 bytes come as two halves."""
        if size == 8:
            return await self.read(address) | await self.read(address + 4) << 32
        await self.request.send(access(address, size))
        word = await self.response.receive()
        return word >> 8 * (address % 4) & (1 << 8 * size) - 1

    def stop(self) -> None:
        """Leave the ports to somebody else."""
        self.request.stop()
        self.response.stop()


class RegisterMemory:
    """A target that stores what is written, and keeps a log of all accesses."""

    def __init__(self, dut: Any, name: str, stall: float = 0.0) -> None:
        self.request = StreamSink(dut, f"{name}__request", RegisterRequest, stall=stall)
        self.response = StreamSource(dut, f"{name}__response", stall=stall)
        self.bytes: dict[int, int] = {}
        self.log: list[Record] = []
        self._task = cocotb.start_soon(self._run())

    async def _run(self) -> None:
        while True:
            request = await self.request.receive()
            self.log.append(request)
            if request.write:
                store(self.bytes, request)
            else:
                self.response.queue([load(self.bytes, request.address)])


def store(memory: dict[int, int], request: Any) -> None:
    """Do a write, byte by byte."""
    for byte in range(4):
        if request["byte_enable"] >> byte & 1:
            memory[request["address"] + byte] = request["data"] >> 8 * byte & 0xFF


def load(memory: dict[int, int], address: int) -> int:
    """Return the dword at an address."""
    return sum(memory.get(address + byte, 0) << 8 * byte for byte in range(4))


def replay(memory: dict[int, int], requests: Iterable[Any]) -> list[int]:
    """Do accesses in order; return what the reads see."""
    answers = []
    for request in requests:
        if request["write"]:
            store(memory, request)
        else:
            answers.append(load(memory, request["address"]))
    return answers
