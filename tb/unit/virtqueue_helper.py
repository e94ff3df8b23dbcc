"""What the tests of the virtqueue engine's rooms share: memory, lookups, cycle stamps."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from lib.layout import pack
from lib.port import reader, writer
from lib.streams import StreamSink, cycles
from virtio_rtl.types.virtqueue import Buffer, QueueConfig, Segment

__all__ = [
    "IdleWatch",
    "Moves",
    "PatternMemory",
    "Strobes",
    "VectorMonitor",
    "busy_while_offered",
    "descriptor_bytes",
    "queue_config",
    "serve_lookups",
    "spread",
    "until",
]

_PATTERN = random.Random(20).randbytes(65521)  # a prime: no stride of a bus repeats in it


class PatternMemory:
    """Memory of 2**64 bytes whose content depends on the address; what is written is noted.

    `set` lays bytes over the pattern, at most 64 KiB away from each other to be found.
    """

    def __init__(self) -> None:
        self.over: dict[int, int] = {}
        self.writes: list[tuple[int, bytes]] = []
        self.reads: list[tuple[int, int]] = []

    def set(self, address: int, content: bytes) -> None:
        """Lay `content` over the pattern."""
        self.over.update(enumerate(content, address))

    def peek(self, address: int, length: int) -> bytes:
        """Return what a device would read."""
        start = address % len(_PATTERN)
        repeat = _PATTERN * (2 + length // len(_PATTERN))
        content = bytearray(repeat[start : start + length])
        if self.over:
            for index in range(length):
                content[index] = self.over.get(address + index, content[index])
        return bytes(content)

    def device_read(self, address: int, length: int) -> bytes:
        """As `peek`, and noted."""
        self.reads.append((address, length))
        return self.peek(address, length)

    def device_write(self, address: int, content: bytes) -> None:
        """Note a write."""
        self.writes.append((address, content))


def descriptor_bytes(address: int, length: int, buffer_id: int = 0, *, flags: int = 0) -> bytes:
    """Sixteen bytes of a packed descriptor. [virtio 1.4 §2.8.13]"""
    return (
        address.to_bytes(8, "little")
        + length.to_bytes(4, "little")
        + buffer_id.to_bytes(2, "little")
        + flags.to_bytes(2, "little")
    )


def queue_config(size: int, base: int, *, enabled: int = 1) -> dict[str, int]:
    """Configuration of a virtqueue whose areas are far from each other."""
    return {
        "enabled": enabled,
        "size": size,
        "descriptor_area": base,
        "driver_area": base + 0x10_0000,
        "device_area": base + 0x20_0000,
    }


def serve_lookups(
    dut: Any, names: Iterable[str], configs: Mapping[int, Mapping[str, int]] | list[Any]
) -> None:
    """Answer `QueueLookup` ports: the configuration in the cycle after the virtqueue."""
    packed = dict(enumerate(configs)) if isinstance(configs, list) else dict(configs)
    bits = {queue: pack(QueueConfig, config) for queue, config in packed.items()}
    ports = [
        (reader(getattr(dut, f"{name}__queue")), writer(getattr(dut, f"{name}__config")))
        for name in names
    ]

    async def run() -> None:
        edge = RisingEdge(dut.clk)
        while True:
            await edge
            for read, write in ports:
                write(bits.get(read(), 0))

    cocotb.start_soon(run())


class Moves:
    """The cycles in which a stream moved."""

    def __init__(self, dut: Any, name: str, *, valid: str = "__valid", ready: str = "__ready"):
        self.cycles: list[int] = []
        self._valid = reader(getattr(dut, name + valid))
        self._ready = reader(getattr(dut, name + ready))
        self._clk = dut.clk
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        edge, now = RisingEdge(self._clk), 0
        while True:
            await edge
            now += 1
            if self._valid() and self._ready():
                self.cycles.append(now)


class Strobes:
    """Counts the cycles in which a bit of a port is high."""

    def __init__(self, dut: Any, name: str, bit: int = 0):
        self.count = 0
        self._bit = bit
        self._read = reader(getattr(dut, name))
        self._clk = dut.clk
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        edge = RisingEdge(self._clk)
        while True:
            await edge
            self.count += self._read() >> self._bit & 1


class IdleWatch:
    """Checks that `idle` is never high while a buffer is inside; `now`: its value.

    A buffer is inside from when its record was taken until its completion was; one that is absent
    never is. `segments`: it is inside from its first segment on.
    """

    def __init__(self, dut: Any, *, segments: bool = False):
        self.now = False
        self._segments = segments
        self._segment = reader(dut.segment__payload)
        self._moves = reader(dut.segment__valid), reader(dut.segment__ready)
        self._last = pack(Segment, {"last": 1})
        self._clk = dut.clk
        self._idle = reader(dut.idle)
        self._record = reader(dut.buffer__payload)
        self._entered = reader(dut.buffer__valid), reader(dut.buffer__ready)
        self._left = reader(dut.completion__valid), reader(dut.completion__ready)
        self._absent = pack(Buffer, {"absent": 1})
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        edge, inside, begun = RisingEdge(self._clk), 0, False
        while True:
            await edge
            self.now = bool(self._idle())
            assert not (self.now and inside), f"idle with {inside} buffers inside"
            assert not (self.now and begun), "idle in the midst of a buffer"
            if self._segments and all(port() for port in self._moves):
                begun = not self._segment() & self._last
            if all(port() for port in self._entered) and not self._record() & self._absent:
                inside += 1
            inside -= all(port() for port in self._left)


class VectorMonitor:
    """Calls `seen(values)` in every cycle in which `enable` is high, with the ports' values."""

    def __init__(
        self, dut: Any, enable: str, ports: Iterable[str], seen: Callable[..., None]
    ) -> None:
        self._enable = reader(getattr(dut, enable))
        self._ports = [reader(getattr(dut, port)) for port in ports]
        self._clk = dut.clk
        self._seen = seen
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        edge = RisingEdge(self._clk)
        while True:
            await edge
            if self._enable():
                self._seen(*(read() for read in self._ports))


def busy_while_offered(dut: Any, *names: str) -> None:
    """Check that `idle` is low in every cycle after one in which a stream offered something."""
    valids = [reader(getattr(dut, f"{name}__valid")) for name in names]
    idle = reader(dut.idle)

    async def run() -> None:
        edge, offered = RisingEdge(dut.clk), False
        while True:
            await edge
            assert not (offered and idle()), "idle, and something was offered"
            offered = any(valid() for valid in valids)

    cocotb.start_soon(run())


def spread(stamps: list[int]) -> int:
    """Cycles from the first to the last of some stamps, both included."""
    return stamps[-1] - stamps[0] + 1


async def until(dut: Any, condition: Callable[[], bool], limit: int = 20_000) -> None:
    """Wait until a condition holds; fail after `limit` cycles."""
    for _ in range(limit):
        if condition():
            return
        await cycles(dut)
    raise AssertionError(f"not within {limit} cycles")


async def nothing_more(dut: Any, *sinks: StreamSink, wait: int = 60) -> None:
    """Check that nothing else arrives."""
    await cycles(dut, wait)
    assert [len(sink) for sink in sinks] == [0] * len(sinks), "something came unasked"
