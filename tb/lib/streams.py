"""Clock, reset, and models of Amaranth streams for cocotb.

A member `x` of a component with `stream.Signature(payload)` becomes the ports `x__payload` (one
port, however the payload is structured), `x__valid` and `x__ready`.

The timing rule, the same everywhere: wait for the rising edge, read, then write. Right after
`RisingEdge(clk)` cocotb with Verilator still shows every signal, registered or combinational, as
it was just *before* the edge; what is written then takes effect just *after* it. So no model
looks at a value that another model changes at the same edge. Do not use ReadOnly or FallingEdge.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import Event, RisingEdge

from lib.layout import Codec, Record, codec, pack, unpack
from lib.port import reader, writer

__all__ = [
    "ProtocolError",
    "Record",
    "StreamSink",
    "StreamSource",
    "cycles",
    "pack",
    "reset",
    "start_clock",
    "unpack",
]


class ProtocolError(AssertionError):
    """The device under test broke the stream rules."""


def start_clock(dut: Any, period_ns: float = 4, *, domain: str = "") -> None:
    """Start the clock of a domain (Amaranth's `sync` has the port `clk`, others `<name>_clk`)."""
    handle = getattr(dut, f"{domain}_clk" if domain else "clk")
    Clock(handle, round(period_ns * 1000), unit="ps").start()


async def cycles(dut: Any, count: int = 1) -> None:
    """Wait for `count` rising edges."""
    edge = RisingEdge(dut.clk)
    for _ in range(count):
        await edge


async def reset(dut: Any, length: int = 2) -> None:
    """Hold `rst` for `length` cycles; returns right after the edge that still saw reset."""
    if not hasattr(dut, "rst"):  # a component without state
        await cycles(dut, length)
        return
    dut.rst.value = 1
    await cycles(dut, length)
    dut.rst.value = 0
    await cycles(dut, 1)


class _Stream:
    """What source and sink share: the ports, the codec, the random stalls."""

    def __init__(
        self, dut: Any, name: str, layout: Any, stall: float, seed: int | None, clock: Any
    ) -> None:
        self.name = name
        self.stall = stall
        self.count = 0
        self._payload = getattr(dut, f"{name}__payload", None)
        self._valid = getattr(dut, f"{name}__valid")
        self._ready = getattr(dut, f"{name}__ready")
        self._edge = RisingEdge(clock if clock is not None else dut.clk)
        self._rst = getattr(dut, "rst", None)
        self._width = 0 if self._payload is None else len(self._payload)
        self._codec: Codec | None = None if layout is None else codec(layout)
        if self._codec and self._codec.width != self._width:
            raise ValueError(f"{name}: layout of {self._codec.width} bits, port of {self._width}")
        self._random = random.Random(random.getrandbits(32) if seed is None else seed)
        self._task: Any = None

    def stop(self) -> None:
        """End the model, so that another one can take over its ports."""
        self._task.cancel()


class StreamSource(_Stream):
    """Drives a stream into the device under test.

    Between items, and while stalling, the payload is random: a device that looks at it without
    `valid` is found out. `stall` is the chance, cycle by cycle, to hold back the next item.
    """

    def __init__(
        self,
        dut: Any,
        name: str,
        layout: Any = None,
        *,
        stall: float = 0.0,
        seed: int | None = None,
        clock: Any = None,
    ) -> None:
        super().__init__(dut, name, layout, stall, seed, clock)
        self._items: deque[tuple[int, Event | None]] = deque()
        self._wake = Event()
        self._drained = Event()
        self._drained.set()
        self._valid.value = 0
        self._scramble()
        self._task = cocotb.start_soon(self._run())

    def queue(self, items: Iterable[Any]) -> None:
        """Queue items (ints, or dicts if there is a layout) to be sent; returns at once."""
        encode = self._codec.pack if self._codec else int
        self._items.extend((encode(item), None) for item in items)
        self._start()

    async def send(self, item: Any) -> None:
        """Queue one item and wait until the device has taken it."""
        taken = Event()
        self._items.append((self._codec.pack(item) if self._codec else int(item), taken))
        self._start()
        await taken.wait()

    async def idle(self) -> None:
        """Wait until all that was queued has been taken."""
        await self._drained.wait()

    def clear(self) -> None:
        """Drop what was queued and not yet offered."""
        self._items.clear()

    def _start(self) -> None:
        if self._items:
            self._drained.clear()
            self._wake.set()

    def _scramble(self) -> None:
        if self._width:
            writer(self._payload)(self._random.getrandbits(self._width))

    async def _run(self) -> None:
        ready = reader(self._ready)
        set_valid = writer(self._valid)
        set_payload = writer(self._payload) if self._width else lambda _: None
        edge, items, chance = self._edge, self._items, self._random.random
        await edge
        while True:
            if not items:
                self._drained.set()
                self._wake.clear()
                await self._wake.wait()
                await edge
            while self.stall and chance() < self.stall:
                await edge
            if not items:  # cleared meanwhile
                continue
            bits, taken = items.popleft()
            set_payload(bits)
            set_valid(1)
            await edge
            while not ready():
                await edge
            self.count += 1
            if taken:
                taken.set()
            if not items or self.stall:
                set_valid(0)
                self._scramble()


class StreamSink(_Stream):
    """Takes a stream from the device under test, and checks the stream rules.

    Once `valid` is up, it and the payload must hold until `ready` (except through reset).
    `stall` is the chance, cycle by cycle, not to be ready; 1.0 blocks.
    """

    def __init__(
        self,
        dut: Any,
        name: str,
        layout: Any = None,
        *,
        stall: float = 0.0,
        seed: int | None = None,
        clock: Any = None,
    ) -> None:
        super().__init__(dut, name, layout, stall, seed, clock)
        self._received: deque[int] = deque()
        self._arrived = Event()
        self._ready.value = 0
        self._task = cocotb.start_soon(self._run())

    def __len__(self) -> int:
        """Return how many items have arrived that nobody has fetched."""
        return len(self._received)

    def now(self) -> Any | None:
        """Return the next item if there is one, else None."""
        return self._decode(self._received.popleft()) if self._received else None

    async def receive(self) -> Any:
        """Wait for the next item and return it."""
        while not self._received:
            self._arrived.clear()
            await self._arrived.wait()
        return self._decode(self._received.popleft())

    async def take(self, count: int) -> list[Any]:
        """Wait for `count` items and return them."""
        return [await self.receive() for _ in range(count)]

    def _decode(self, bits: int) -> Any:
        return self._codec.unpack(bits) if self._codec else bits

    async def _run(self) -> None:
        valid = reader(self._valid)
        payload = reader(self._payload) if self._width else lambda: 0
        set_ready = writer(self._ready)
        edge, rises, chance = self._edge, RisingEdge(self._valid), self._random.random
        ready = False
        held: int | None = None
        while True:
            await edge
            if valid():
                bits = payload()
                if held is not None and bits != held and not self._in_reset():
                    raise ProtocolError(f"{self.name}: payload {held:#x} became {bits:#x}")
                held = bits
                if ready:
                    held = None
                    self.count += 1
                    self._received.append(bits)
                    self._arrived.set()
            elif held is not None:
                if not self._in_reset():
                    raise ProtocolError(f"{self.name}: valid fell before ready")
                held = None
            wanted = not (self.stall and chance() < self.stall)
            if wanted is not ready:
                ready = wanted
                set_ready(int(ready))
            if ready and not self.stall and held is None and not valid():
                await rises

    def _in_reset(self) -> bool:
        return self._rst is not None and bool(self._rst.value)
