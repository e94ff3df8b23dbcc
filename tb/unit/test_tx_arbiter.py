"""TxArbiter: order, credits, fairness and a full output."""

from __future__ import annotations

import random
from collections import Counter, deque
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge
from tlp_helper import TLP, random_dwords, random_header

from lib.sim import params, simulate
from lib.streams import StreamSink, StreamSource, cycles, pack, reset, start_clock, unpack
from virtio_rtl.pcie.tx_arbiter import TxArbiter
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


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def random_traffic_keeps_all_rules(dut: Any) -> None:
    """Order, credits and contents under random stalls and late credits, past the counters' end."""
    start_clock(dut)
    for stall, sink_stall in ((0.0, 0.0), (0.4, 0.0), (0.0, 0.4), (0.3, 0.3)):
        bench = Bench(dut, stall, sink_stall)
        bench.set_limits({})
        await reset(dut)
        count = 300
        bench.queue("posted", [write(random.choice([0.1, 1, 1, 2, 2.5, 5]), bench.width)
                               for _ in range(count)])  # fmt: skip
        bench.queue("message", [write(0.01, bench.width) for _ in range(count)])
        bench.queue("nonposted", [read() for _ in range(count)])
        for name in ("completion_bar", "completion_config"):
            bench.queue(name, [answer(random.choice([0, 1, 3, 32])) for _ in range(count // 2)])
        while sum(bench.left.values()) < 4 * count:
            for kind in ("posted", "nonposted", "completion"):
                if random.random() < 0.3:  # never more ahead than half the range
                    for part, most in (("header", 100), ("data", 2000)):
                        ahead = bench.limits[f"{kind}_{part}"] - bench.used[f"{kind}_{part}"]
                        if kind != "nonposted" or part == "header":
                            bench.grant(f"{kind}_{part}", random.randint(0, min(40, most - ahead)))
            await cycles(dut, random.randint(1, 20))
        await cycles(dut, 10)
        assert not int(dut.busy.value)
        bench.stop()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def output_is_always_full(dut: Any) -> None:
    """While the inputs have data, every cycle carries a beat."""
    start_clock(dut)
    width = params().width
    mixes: list[dict[str, Any]] = [
        {"posted": lambda: write(3, width), "nonposted": read},
        {"posted": lambda: write(1, width), "nonposted": read},
        {"posted": lambda: write(1, width)},
        {"posted": lambda: write(2, width)},
        {"posted": lambda: write(1, width), "message": lambda: write(0.01, width)},
        {"nonposted": read},
        {"completion_bar": lambda: answer(1), "completion_config": lambda: answer(0)},
        {"completion_config": lambda: answer(0)},
        {"posted": lambda: write(1, width), "completion_bar": lambda: answer(32)},
        {"nonposted": read, "completion_bar": lambda: answer(0)},
        {"posted": lambda: write(random.choice([1, 2, 4]), width), "nonposted": read,
         "completion_bar": lambda: answer(2), "completion_config": lambda: answer(1)},
    ]  # fmt: skip
    for mix in mixes:
        bench = Bench(dut)
        await reset(dut)
        for name, make in mix.items():
            bench.queue(name, [make() for _ in range(150)])
        await bench.until_sent(120)
        full = [cycle for cycle, *_ in bench.out]
        start = 30  # the buffers are filled
        assert full[-1] - full[start] == len(full) - 1 - start, f"bubbles with {list(mix)}"
        await bench.until_sent(150 * len(mix))
        bench.stop()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def shares_are_fair(dut: Any) -> None:
    """At saturation every class gets its turn, and both inputs of completions do."""
    start_clock(dut)
    for beats in (1, 4):
        bench = Bench(dut)
        await reset(dut)
        bench.queue("posted", [write(beats, bench.width) for _ in range(200)])
        bench.queue("nonposted", [read() for _ in range(200)])
        for name in ("completion_bar", "completion_config"):
            bench.queue(name, [answer(1) for _ in range(100)])
        await bench.until_sent(330)
        share = Counter(bench.order()[30:330])
        assert all(96 <= share[name] <= 104 for name in INPUTS[:2]), share
        assert all(46 <= share[name] <= 54 for name in INPUTS[2:4]), share
        await bench.until_sent(600)
        bench.stop()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_read_waits_only_for_what_is_ahead(dut: Any) -> None:
    """Posted writes that come later do not delay a read or a completion."""
    start_clock(dut)
    for beats in (1, 3):
        for name, tlp in (("nonposted", read()), ("completion_bar", answer(3)),
                          ("completion_config", answer(0))):  # fmt: skip
            bench = Bench(dut)
            await reset(dut)
            bench.queue("posted", [write(beats, bench.width) for _ in range(60)])
            await bench.until_sent(20)
            bench.queue(name, [tlp])
            await bench.until_sent(61)
            entered = bench.first_in[name][0]
            ahead = sum(cycle < entered for cycle in bench.last_in["posted"])
            assert bench.order().index(name) - ahead <= 4, "at most what left meanwhile"
            bench.stop()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def credits_are_counted_exactly(dut: Any) -> None:
    """As many TLPs leave as there are credits, class by class; and what may pass does."""
    start_clock(dut)
    bench = Bench(dut)
    bench.set_limits({})
    await reset(dut)

    async def moved(**expected: int) -> None:
        await cycles(dut, 200)
        assert {name: bench.left[name] for name in expected} == expected

    # Nothing leaves without credits; the read and the completions entered before the write.
    bench.queue("nonposted", [read() for _ in range(6)])
    bench.queue("completion_bar", [answer(n) for n in (0, 0, 5, 32)])
    await moved(nonposted=0, completion_bar=0)
    four = [TLP(random_header(T.MEM_WRITE, 13), random_dwords(13)) for _ in range(5)]
    bench.queue("posted", four)
    await moved(posted=0)
    bench.grant("posted_header", 3)
    await moved(posted=0)
    bench.grant("posted_data", 9)
    await moved(posted=2, nonposted=0, completion_bar=0)  # 4 units each, 1 left
    bench.grant("posted_data", 2)
    await moved(posted=2)
    bench.grant("posted_data", 1)
    await moved(posted=3)
    bench.grant("posted_data", 100)
    await moved(posted=3)  # no header credit
    # What entered before the writes needs nothing from them.
    bench.grant("nonposted_header", 2)
    await moved(posted=3, nonposted=2, completion_bar=0)
    bench.grant("completion_header", 2)
    await moved(completion_bar=2)  # no data, no data credits
    bench.grant("completion_header", 2)
    await moved(completion_bar=2)
    bench.grant("completion_data", 1)
    await moved(completion_bar=2)
    bench.grant("completion_data", 1)
    await moved(completion_bar=3)  # five dwords: two units
    bench.grant("completion_data", 8)
    await moved(completion_bar=4)
    # A read and a completion behind the blocked writes wait, with all credits of their own.
    bench.queue("nonposted", [read()])
    bench.queue("completion_config", [answer(1)])
    bench.grant("nonposted_header", 50)
    bench.grant("completion_header", 50)
    bench.grant("completion_data", 50)
    await moved(posted=3, nonposted=6, completion_config=0)
    bench.grant("posted_header", 2)
    await moved(posted=5, nonposted=7, completion_config=1)
    assert not int(dut.busy.value)
    # Single-beat TLPs side by side in the buffer: the first ones take the credits from the others.
    for kind in ("posted", "completion"):
        bench.limits[f"{kind}_data"] = bench.used[f"{kind}_data"]  # none left, for the test's sake
        bench.grant(f"{kind}_header", 50)
    short = [TLP(random_header(T.MEM_WRITE, 1), random_dwords(1)) for _ in range(6)]
    bench.queue("posted", short)
    bench.queue("completion_bar", [answer(2) for _ in range(6)])
    await moved(posted=5, completion_bar=4)
    bench.grant("posted_data", 3)
    await moved(posted=8, completion_bar=4)
    bench.grant("posted_data", 3)
    bench.grant("completion_data", 4)
    await moved(posted=11, completion_bar=8)
    bench.grant("completion_data", 2)
    await moved(completion_bar=10)
    # A class without limits needs none.
    bench.set_limits({"posted_infinite": 1})
    bench.queue("posted", [write(2, bench.width) for _ in range(300)])
    await bench.until_sent(11 + 7 + 11 + 300)
    bench.stop()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def long_blocked_reads_are_not_forgotten(dut: Any) -> None:
    """Posted TLPs pass reads and completions without credits, any number of times."""
    start_clock(dut)
    for passing in (63, 64, 100, 127, 128, 200, 256):
        bench = Bench(dut)
        await reset(dut)
        bench.set_limits({"posted_infinite": 1})
        bench.queue("posted", [write(1, bench.width) for _ in range(5)])
        bench.queue("nonposted", [read() for _ in range(20)])
        bench.queue("completion_bar", [answer(1) for _ in range(6)])
        await cycles(dut, 20)
        bench.queue("posted", [write(1, bench.width) for _ in range(passing)])
        await bench.until_sent(5 + passing)
        assert set(bench.order()) == {"posted"}
        bench.set_limits(FREE)
        await cycles(dut, 60)
        assert len(bench.order()) == 5 + passing + 26
        bench.stop()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def latency_and_busy(dut: Any) -> None:
    """Two cycles to the output, three for completions; busy while there is something."""
    start_clock(dut)
    width = params().width
    tlps = (write(1, width), read(), answer(1), answer(0), write(0.01, width))
    for name, tlp in zip(INPUTS, tlps, strict=True):
        latency = 3 if name.startswith("completion") else 2
        bench = Bench(dut, sink_stall=1.0)
        await reset(dut)
        assert not int(dut.busy.value)
        bench.queue(name, [tlp])
        await RisingEdge(getattr(dut, f"{name}__valid"))
        await RisingEdge(dut.clk)  # taken here
        for step in range(latency):
            assert not int(dut.tlp__valid.value), step
            await RisingEdge(dut.clk)
            assert int(dut.busy.value), step
        assert int(dut.tlp__valid.value), name
        await cycles(dut, 10)
        assert int(dut.busy.value), "held up at the output"
        bench.sink.stall = 0.0
        await bench.until_sent(1)
        await cycles(dut, 2)
        assert not int(dut.busy.value)
        bench.stop()
    # The middle of a TLP: nothing inside, and yet not idle.
    bench = Bench(dut)
    await reset(dut)
    tlp = write(2, width)
    bench.queued["posted"].append(tlp)
    for beat in tlp.beats(width):
        bench.sources["posted"].queue([beat])
        await cycles(dut, 20)
        assert int(dut.busy.value) == int(not bench.left["posted"])
    bench.stop()


@pytest.mark.parametrize("width", [64, 128, 256, 512])
def test_tx_arbiter(width: int) -> None:
    """All of the above at every width."""
    context = {"width": width}
    simulate(TxArbiter(**context), module=__name__, name=f"tx_arbiter_{width}", params=context)
