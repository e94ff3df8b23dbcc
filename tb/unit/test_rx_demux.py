"""RxDemux: every TLP reaches the room that answers or consumes it."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge
from tlp_helper import TLP, random_dwords, random_header

from lib.sim import params, simulate
from lib.streams import StreamSink, StreamSource, cycles, reset, start_clock
from virtio_rtl.pcie.rx_demux import RxDemux
from virtio_rtl.types.tlp import TLPType as T

COMPLETIONS = [T.COMPLETION, T.COMPLETION_DATA]
REQUESTS = [
    *(T.MEM_READ, T.MEM_WRITE, T.IO_READ, T.IO_WRITE),
    *(T.CONFIG_READ1, T.CONFIG_WRITE1, T.OTHER_NONPOSTED),
]
CONFIG = [T.CONFIG_READ0, T.CONFIG_WRITE0]
DROPPED = [T.MESSAGE, T.MESSAGE_DATA, T.OTHER, 12, 13]  # 12 and 13 have no meaning
LONG = {T.MEM_WRITE, T.COMPLETION_DATA, T.MESSAGE_DATA, T.OTHER_NONPOSTED, T.OTHER}
SHORT = {T.IO_WRITE, T.CONFIG_WRITE0, T.CONFIG_WRITE1}
OUTPUTS = {"completions": COMPLETIONS, "requests": REQUESTS, "config": CONFIG}


def random_tlp(kind: Any) -> TLP:
    """Return a TLP of that type with a payload that suits it."""
    count = random.choice([1, 2, 16, 17, 32, 33]) if kind in LONG else int(kind in SHORT)
    return TLP(random_header(kind, count), random_dwords(count))


async def count_high(clock: Any, signal: Any, seen: list[int]) -> None:
    """Count the cycles in which a strobe is high."""
    while True:
        await RisingEdge(clock)
        seen[0] += int(signal.value)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def every_type_goes_its_way(dut: Any) -> None:
    """Bit for bit and in order at the right output, or counted as dropped."""
    width = params().width
    start_clock(dut)
    dropped = [0]
    cocotb.start_soon(count_high(dut.clk, dut.dropped, dropped))
    for source_stall, sink_stall in ((0.0, 0.0), (0.3, 0.3), (0.0, 0.6), (0.6, 0.0)):
        source = StreamSource(dut, "tlp", stall=source_stall)
        sinks = {name: StreamSink(dut, name, stall=sink_stall) for name in OUTPUTS}
        await reset(dut)
        dropped[0] = 0
        kinds = [*COMPLETIONS, *REQUESTS, *CONFIG, *DROPPED] * 8
        random.shuffle(kinds)
        expected: dict[str, list[int]] = {name: [] for name in OUTPUTS}
        for kind in kinds:
            beats = random_tlp(kind).beats(width)
            source.queue(beats)
            for name, members in OUTPUTS.items():
                if kind in members:
                    expected[name] += beats
        for name, beats in expected.items():
            assert await sinks[name].take(len(beats)) == beats, name
        await source.idle()
        await cycles(dut, 10)
        assert not any(len(sink) for sink in sinks.values()), "nothing is made up or doubled"
        assert dropped[0] == 8 * len(DROPPED)
        for model in (source, *sinks.values()):
            model.stop()


@cocotb.test(timeout_time=100, timeout_unit="us")
async def completions_pass_a_slow_bar(dut: Any) -> None:
    """A BAR target that takes nothing holds up nobody until its FIFO is full."""
    width, depth = params().width, params().request_depth
    start_clock(dut)
    source = StreamSource(dut, "tlp")
    completions = StreamSink(dut, "completions")
    requests = StreamSink(dut, "requests", stall=1.0)
    StreamSink(dut, "config", stall=1.0)
    await reset(dut)
    writes = [TLP(random_header(T.MEM_WRITE, 1), random_dwords(1)).beats(width)[0]
              for _ in range(depth + 1)]  # fmt: skip
    reads = [TLP(random_header(T.COMPLETION, 0)).beats(width)[0] for _ in range(2)]
    source.queue([*writes[:depth], reads[0], writes[depth], reads[1]])
    assert await completions.receive() == reads[0]
    await cycles(dut, 20)
    assert completions.now() is None, "the FIFO is full: the last write waits at the door"
    requests.stall = 0.0
    assert await requests.take(depth + 1) == writes
    assert await completions.receive() == reads[1]


@cocotb.test(timeout_time=100, timeout_unit="us")
async def one_beat_per_cycle(dut: Any) -> None:
    """No bubble between TLPs of whatever type; the latency is as documented."""
    width = params().width
    start_clock(dut)
    source = StreamSource(dut, "tlp")
    for name in OUTPUTS:
        StreamSink(dut, name)
    await reset(dut)
    for name, kind, latency in (
        ("completions", T.COMPLETION, 0),
        ("config", T.CONFIG_READ0, 1),
        ("requests", T.MEM_READ, 1),
    ):
        await cycles(dut, 5)
        source.queue(TLP(random_header(kind, 1)).beats(width))
        seen: dict[str, int] = {}
        for cycle in range(10):
            await RisingEdge(dut.clk)
            for port in ("tlp", name):
                if int(getattr(dut, f"{port}__valid").value):
                    seen.setdefault(port, cycle)
        assert seen[name] - seen["tlp"] == latency, name
    await cycles(dut, 5)
    kinds = [*COMPLETIONS, *REQUESTS, *CONFIG, *DROPPED] * 10
    random.shuffle(kinds)
    beats = [beat for kind in kinds for beat in random_tlp(kind).beats(width)]
    waited, offered = 0, [0]
    cocotb.start_soon(count_high(dut.clk, dut.tlp__valid, offered))
    source.queue(beats)
    while source.count < len(beats) + 3:
        await RisingEdge(dut.clk)
        waited += int(dut.tlp__valid.value) and not int(dut.tlp__ready.value)
    await cycles(dut, 3)
    assert waited == 0, "no beat had to wait"
    assert offered[0] == len(beats), "as many cycles as beats"


@pytest.mark.parametrize("width", [64, 128, 256, 512])
def test_rx_demux(width: int) -> None:
    """All of the above at every width."""
    context = {"width": width, "request_depth": 8 if width == 128 else 32}
    simulate(RxDemux(**context), module=__name__, name=f"rx_demux_{width}", params=context)
