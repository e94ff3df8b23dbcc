"""TxArbiter with sources, a sink, and the rules that each beat is held against."""

from __future__ import annotations

import random
from collections import Counter, deque
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge
from tlp_helper import TLP, random_dwords, random_header

from lib.sim import params
from lib.streams import StreamSink, StreamSource, pack, unpack
from virtio_rtl.types.tlp import FlowControlLimits, TLPHeader, tlp_beat
from virtio_rtl.types.tlp import TLPType as T

INPUTS = ["posted", "nonposted", "completion_bar", "completion_config", "message"]
FREE = {"posted_infinite": 1, "nonposted_infinite": 1, "completion_infinite": 1}


def class_of(name: str) -> str:
    """Return the flow control class of an input."""
    return "posted" if name == "message" else name.split("_")[0]


def write(beats: float, width: int) -> TLP:
    """Return a memory write of so many beats (or a fraction of one)."""
    dwords = max(1, int(beats * width / 32))
    return TLP(random_header(T.MEM_WRITE, dwords), random_dwords(dwords))


def read() -> TLP:
    """Return a memory read."""
    return TLP(random_header(T.MEM_READ, random.randint(1, 1024)))


def answer(dwords: int) -> TLP:
    """Return a completion."""
    kind = T.COMPLETION_DATA if dwords else T.COMPLETION
    return TLP(random_header(kind, dwords), random_dwords(dwords))


def data_credits(tlp: TLP) -> int:
    """Return the data credits of a TLP: units of 16 bytes of payload."""
    return -(-len(tlp.payload) // 4)


class Bench:
    """The arbiter with sources, a sink, and a log of who entered and left when."""

    def __init__(self, dut: Any, stall: float = 0.0, sink_stall: float = 0.0) -> None:
        self.dut = dut
        self.width = params().width
        self.sources = {name: StreamSource(dut, name, stall=stall) for name in INPUTS}
        self.sink = StreamSink(dut, "tlp", stall=sink_stall)
        self.queued: dict[str, deque[TLP]] = {name: deque() for name in INPUTS}
        self.first_in: dict[str, list[int]] = {name: [] for name in INPUTS}
        self.last_in: dict[str, list[int]] = {name: [] for name in INPUTS}
        self.out: list[tuple[int, str, bool]] = []  # cycle, input, first beat
        self.limits: Counter[str] = Counter()
        self.used: Counter[str] = Counter()
        self.left: Counter[str] = Counter()
        self.cycle = 0
        self.open = False
        self.expected: list[int] = []
        self.current = ""
        self.set_limits(FREE)
        self.free = dict(FREE)
        self.task = cocotb.start_soon(self.watch())

    def stop(self) -> None:
        """End all models."""
        for model in (*self.sources.values(), self.sink):
            model.stop()
        self.task.cancel()

    def set_limits(self, bits: dict[str, int]) -> None:
        """Drive the limits, and which classes are free of them."""
        self.free = {key: value for key, value in bits.items() if key.endswith("_infinite")}
        self.drive()

    def drive(self) -> None:
        """Drive the cumulative limits, modulo their width."""
        wrapped = {k: v % (4096 if k.endswith("data") else 256) for k, v in self.limits.items()}
        self.dut.limits.value = pack(FlowControlLimits, {**wrapped, **self.free})

    def grant(self, name: str, count: int) -> None:
        """Hand out more credits."""
        self.limits[name] += count
        self.drive()

    def queue(self, name: str, tlps: list[TLP]) -> None:
        """Queue TLPs at an input."""
        for tlp in tlps:
            self.queued[name].append(tlp)
            self.sources[name].queue(tlp.beats(self.width))

    def order(self) -> list[str]:
        """Return the inputs that the TLPs came from, in the order in which they left."""
        return [name for _, name, first in self.out if first]

    async def until_sent(self, count: int) -> None:
        """Wait until so many TLPs have left whole."""
        while sum(self.left.values()) < count:
            await RisingEdge(self.dut.clk)

    async def watch(self) -> None:
        """Check every beat that leaves, and log."""
        dut, layout = self.dut, tlp_beat(self.width)
        pins = [(name, *(getattr(dut, f"{name}__{pin}") for pin in ("valid", "ready", "payload")))
                for name in INPUTS]  # fmt: skip
        while True:
            await RisingEdge(dut.clk)
            self.cycle += 1
            for name, valid, ready, payload in pins:
                if int(valid.value) and int(ready.value):
                    beat = int(payload.value) >> self.width + TLPHeader.as_shape().size
                    if beat & 1:
                        self.first_in[name].append(self.cycle)
                    if beat & 2:
                        self.last_in[name].append(self.cycle)
            while (beat := self.sink.now()) is not None:
                self.check(unpack(layout, beat))

    def check(self, beat: Any) -> None:
        """Check one beat against what was queued, the order rule and the credits."""
        if not self.open:
            assert beat.first, "a TLP starts with its first beat"
            header = pack(TLPHeader, beat.header)
            heads = [n for n in INPUTS if self.queued[n]
                     and pack(TLPHeader, self.queued[n][0].header) == header]  # fmt: skip
            assert len(heads) == 1, f"the TLP is nobody's next: {beat.header}"
            self.current = heads[0]
            tlp = self.queued[self.current].popleft()
            self.expected = list(tlp.payload)
            self.check_order()
            self.check_credits(tlp)
        else:
            assert not beat.first, "a TLP is sent in one piece"
        lanes = self.width // 32
        now, self.expected = self.expected[:lanes], self.expected[lanes:]
        assert [beat.data >> 32 * lane & 0xFFFFFFFF for lane in range(len(now))] == now
        assert beat.last == (not self.expected)
        self.out.append((self.cycle, self.current, bool(beat.first)))
        self.open = not beat.last
        self.left[self.current] += int(beat.last)

    def check_order(self) -> None:
        """Nothing but posted TLPs leaves ahead of a posted TLP that had entered before."""
        entered = self.first_in[self.current][self.left[self.current]]
        for name in {"posted", "message"} - {self.current}:
            before = sum(cycle < entered for cycle in self.last_in[name])
            assert self.left[name] >= before, "overtook a posted TLP"

    def check_credits(self, tlp: TLP) -> None:
        """No more than the limits allow, counted without wrapping."""
        kind = class_of(self.current)
        if self.free.get(f"{kind}_infinite"):
            return
        self.used[f"{kind}_header"] += 1
        assert self.used[f"{kind}_header"] <= self.limits[f"{kind}_header"]
        if kind != "nonposted":
            self.used[f"{kind}_data"] += data_credits(tlp)
            assert self.used[f"{kind}_data"] <= self.limits[f"{kind}_data"]
