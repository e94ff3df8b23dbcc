"""TxArbiter: order, credits, fairness and a full output."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge
from tlp_helper import TLP, random_dwords, random_header
from tx_arbiter_rig import FREE, INPUTS, Bench, answer, read, write

from lib.sim import params, simulate
from lib.streams import cycles, reset, start_clock
from virtio_rtl.pcie.tx_arbiter import TxArbiter
from virtio_rtl.types.tlp import TLPType as T


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
