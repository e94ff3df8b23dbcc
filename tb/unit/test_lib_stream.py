"""Stream plumbing: FIFO, skid buffer, arbiter, sweep."""

from __future__ import annotations

import itertools
import random
from typing import Any

import cocotb
import pytest
from amaranth.hdl import Module, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from virtqueue_helper import Moves, nothing_more, spread

from lib.port import reader
from lib.sim import simulate
from lib.streams import StreamSink, StreamSource, cycles, reset, start_clock
from virtio_rtl.lib.bypass import BypassFIFO
from virtio_rtl.lib.stream import SkidBuffer, StreamArbiter, StreamFIFO
from virtio_rtl.lib.sweep import ResetSweep

DEPTHS = (1, 2, 3, 8, 17, 65, 66, 100)
BYPASS = 5
SWEEPS = (1, 2, 5, 64)
BEAT = data.StructLayout({"source": 4, "number": 20, "last": 1})


class Queues(wiring.Component):
    """FIFOs of several depths, two kinds of buffer and sweeps side by side."""

    def __init__(self) -> None:
        signature = stream.Signature(unsigned(24))
        names = queue_names()
        super().__init__(
            {f"{name}_i": In(signature) for name in names}
            | {f"{name}_o": Out(signature) for name in names}
            | {f"level_{depth}": Out(range(depth + 1)) for depth in DEPTHS}
            | {f"sweep_{depth}": Out(8) for depth in SWEEPS}
            | {f"busy_{depth}": Out(1) for depth in SWEEPS}
            | {f"clear_{depth}": In(1) for depth in SWEEPS}
            | {"row": In(8)}
        )

    def elaborate(self, platform: Any) -> Module:
        """Wire them to the ports."""
        m = Module()
        parts: dict[str, Any] = {
            "skid": SkidBuffer(unsigned(24)),
            "bypass": BypassFIFO(unsigned(24), BYPASS),
        }
        for depth in DEPTHS:
            parts[f"fifo_{depth}"] = fifo = StreamFIFO(unsigned(24), depth)
            m.d.comb += getattr(self, f"level_{depth}").eq(fifo.level)
        for name, part in parts.items():
            m.submodules[name] = part
            wiring.connect(m, wiring.flipped(getattr(self, f"{name}_i")), part.input)
            wiring.connect(m, part.output, wiring.flipped(getattr(self, f"{name}_o")))
        for depth in SWEEPS:
            m.submodules[f"sweep_{depth}"] = sweep = ResetSweep(depth)
            m.d.comb += getattr(self, f"sweep_{depth}").eq(sweep.address)
            m.d.comb += getattr(self, f"busy_{depth}").eq(sweep.busy)
            m.d.comb += [
                sweep.clear.eq(getattr(self, f"clear_{depth}")),
                sweep.row.eq(self.row),
            ]
        return m


class Arbiters(wiring.Component):
    """Arbiters of 1, 3 and 4 inputs, with and without packets."""

    KINDS = ((1, False), (3, False), (4, False), (1, True), (3, True), (4, True))

    def __init__(self) -> None:
        members: dict[str, Any] = {}
        for count, packets in self.KINDS:
            name = f"{'p' if packets else 'w'}{count}"
            for index in range(count):
                members[f"{name}_{index}"] = In(stream.Signature(BEAT))
            members[f"{name}_o"] = Out(stream.Signature(BEAT))
            members[f"{name}_grant"] = Out(2)
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        """Wire them to the ports."""
        m = Module()
        for count, packets in self.KINDS:
            name = f"{'p' if packets else 'w'}{count}"
            m.submodules[name] = arbiter = StreamArbiter(BEAT, count, packets=packets)
            for index in range(count):
                wiring.connect(
                    m,
                    wiring.flipped(getattr(self, f"{name}_{index}")),
                    getattr(arbiter, f"input_{index}"),
                )
            wiring.connect(m, arbiter.output, wiring.flipped(getattr(self, f"{name}_o")))
            m.d.comb += getattr(self, f"{name}_grant").eq(arbiter.grant)
        return m


def queue_names() -> list[str]:
    return [*(f"fifo_{depth}" for depth in DEPTHS), "skid", "bypass"]


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def queues_keep_order_under_stalls(dut: Any) -> None:
    """All that goes in comes out, in order, whoever stalls."""
    start_clock(dut)
    for name in queue_names():
        for stalls in ((0.0, 0.5), (0.5, 0.0), (0.4, 0.4)):
            source = StreamSource(dut, f"{name}_i", stall=stalls[0])
            sink = StreamSink(dut, f"{name}_o", stall=stalls[1])
            await reset(dut)
            sent = [random.getrandbits(24) for _ in range(100)]
            source.queue(sent)
            assert await sink.take(100) == sent, name
            await nothing_more(dut, sink, wait=5)
            source.stop()
            sink.stop()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def queues_hold_what_they_say(dut: Any) -> None:
    """Blocked, a FIFO takes `depth` entries and its level says so; a skid buffer takes two."""
    others = {"skid": 2, "bypass": BYPASS}
    start_clock(dut)
    for name in queue_names():
        source = StreamSource(dut, f"{name}_i")
        sink = StreamSink(dut, f"{name}_o", stall=1.0)
        await reset(dut)
        source.queue(range(140))
        await cycles(dut, 160)
        depth = others.get(name) or int(name.split("_")[1])
        assert source.count == depth, name
        if name not in others:
            assert int(getattr(dut, f"level_{depth}").value) == depth
        sink.stall = 0.0
        assert await sink.take(140) == list(range(140))
        await cycles(dut, 3)
        if name not in others:
            assert int(getattr(dut, f"level_{depth}").value) == 0
        source.stop()
        sink.stop()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def queues_pass_an_entry_a_cycle(dut: Any) -> None:
    """Full rate from depth 2 on; an empty queue is passed in one cycle, or bypassed in none.

    Neither changes after a stall.
    """
    start_clock(dut)
    for name in queue_names():
        source, sink = StreamSource(dut, f"{name}_i"), StreamSink(dut, f"{name}_o")
        came, left = Moves(dut, f"{name}_i"), Moves(dut, f"{name}_o")
        await reset(dut)
        slow = 2 if name == "fifo_1" else 1
        latency = 0 if name == "bypass" else 1
        for stalled in (0, 1, 20):
            source.queue(range(50))
            await cycles(dut, 10)
            sink.stall = 1.0
            await cycles(dut, stalled)
            sink.stall = 0.0
            await sink.take(50)
            await cycles(dut, 2)
            assert left.cycles[0] - came.cycles[0] == latency, name
            assert spread(came.cycles) <= slow * 50 + stalled, name
            assert spread(left.cycles) <= slow * 50 + stalled, name
            came.cycles.clear()
            left.cycles.clear()
        source.stop()
        sink.stop()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def sweeps_once_after_every_reset(dut: Any) -> None:
    """Every address once while busy, then quiet; the next reset starts over."""
    start_clock(dut)
    for _ in range(2):
        dut.rst.value = 1
        await cycles(dut, 3)
        dut.rst.value = 0
        seen: dict[int, list[int]] = {depth: [] for depth in SWEEPS}
        ports = {
            d: (reader(getattr(dut, f"sweep_{d}")), reader(getattr(dut, f"busy_{d}")))
            for d in SWEEPS
        }
        for _ in range(80):
            await cycles(dut)
            for depth, (address, busy) in ports.items():
                if busy():
                    seen[depth].append(address())
        assert seen == {depth: list(range(depth)) for depth in SWEEPS}


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def sweeps_one_row_on_demand(dut: Any) -> None:
    """The row that was named, for one cycle, and no other."""
    start_clock(dut)
    await reset(dut)
    await cycles(dut, max(SWEEPS) + 2)
    for depth in SWEEPS:
        address = reader(getattr(dut, f"sweep_{depth}"))
        busy = reader(getattr(dut, f"busy_{depth}"))
        for _ in range(4):
            row = random.randrange(depth)
            dut.row.value = row
            getattr(dut, f"clear_{depth}").value = 1
            await cycles(dut)
            getattr(dut, f"clear_{depth}").value = 0
            seen = []
            for _ in range(depth + 3):
                await cycles(dut)
                if busy():
                    seen.append(address())
            assert seen == [row]


def arbiter_names() -> list[tuple[str, int, bool]]:
    return [(f"{'p' if p else 'w'}{count}", count, p) for count, p in Arbiters.KINDS]


def random_beats(source: int, packets: int) -> list[dict[str, int]]:
    sizes = [random.choice([1, 1, 2, 5]) for _ in range(packets)]
    lasts = [int(k == size - 1) for size in sizes for k in range(size)]
    return [{"source": source, "number": n, "last": last} for n, last in enumerate(lasts)]


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def arbiter_keeps_streams_and_packets_whole(dut: Any) -> None:
    """Each input's beats in order and none lost; with packets, no other beat in between."""
    start_clock(dut)
    for name, count, packets in arbiter_names():
        for stalls in ((0.3, 0.0), (0.3, 0.5), (0.0, 0.5)):
            sources = [
                StreamSource(dut, f"{name}_{i}", BEAT, stall=stalls[0]) for i in range(count)
            ]
            sink = StreamSink(dut, f"{name}_o", BEAT, stall=stalls[1])
            await reset(dut)
            sent = [random_beats(i, 30) for i in range(count)]
            for source, beats in zip(sources, sent, strict=True):
                source.queue(beats)
            got = await sink.take(sum(map(len, sent)))
            assert [[b for b in got if b.source == i] for i in range(count)] == sent
            if packets:
                for before, after in itertools.pairwise(got):
                    assert before.last or after.source == before.source
            await nothing_more(dut, sink, wait=5)
            for model in (*sources, sink):
                model.stop()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def arbiter_is_fair_and_never_idle(dut: Any) -> None:
    """Busy inputs take turns, beat by beat or packet by packet, without a lost cycle."""
    start_clock(dut)
    for name, count, packets in arbiter_names():
        sources = [StreamSource(dut, f"{name}_{i}", BEAT) for i in range(count)]
        sink = StreamSink(dut, f"{name}_o", BEAT)
        moves = Moves(dut, f"{name}_o")
        await reset(dut)
        beats = [{"number": n, "last": n % 3 == 2} for n in range(60)]
        for index, source in enumerate(sources):
            source.queue([beat | {"source": index} for beat in beats])
        got = await sink.take(60 * count)
        turn = 3 if packets else 1
        order = [beat.source for beat in got[::turn]]
        assert all((before + 1) % count == after for before, after in itertools.pairwise(order))
        await cycles(dut, 2)
        assert spread(moves.cycles) == 60 * count
        for model in (*sources, sink):
            model.stop()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def grant_names_the_input(dut: Any) -> None:
    """`grant` is the index of the beat that stands at the output."""
    start_clock(dut)
    sources = [StreamSource(dut, f"p4_{i}", BEAT, stall=0.5) for i in range(4)]
    sink = StreamSink(dut, "p4_o", BEAT, stall=0.3)
    await reset(dut)
    for index, source in enumerate(sources):
        source.queue(random_beats(index, 40))
    valid, grant, payload = reader(dut.p4_o__valid), reader(dut.p4_grant), reader(dut.p4_o__payload)
    seen = 0
    for _ in range(400):
        await cycles(dut)
        if valid():
            assert grant() == payload() & 15
            seen += 1
    assert seen > 100
    assert sink.count > 100


TESTS = {
    "queues": [
        "queues_keep_order_under_stalls", "queues_hold_what_they_say",
        "queues_pass_an_entry_a_cycle", "sweeps_once_after_every_reset", "sweeps_one_row_on_demand",
    ],
    "arbiters": [
        "arbiter_keeps_streams_and_packets_whole", "arbiter_is_fair_and_never_idle",
        "grant_names_the_input",
    ],
}  # fmt: skip


@pytest.mark.parametrize("what", ["queues", "arbiters"])
def test_stream(what: str) -> None:
    component = Queues() if what == "queues" else Arbiters()
    simulate(
        component, module=__name__, name=f"lib_{what}", testcase=TESTS[what],
        params={"what": what},
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        StreamFIFO(8, 0)
    with pytest.raises(ValueError, match="at least 2"):
        BypassFIFO(8, 1)
    with pytest.raises(ValueError, match="at least 1"):
        StreamArbiter(8, 0)
