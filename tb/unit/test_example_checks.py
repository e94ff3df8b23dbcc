"""The testbench library tests itself: every check that it promises must be seen to fail."""

import enum
from dataclasses import replace
from pathlib import Path
from typing import Any

import cocotb
import pytest
from amaranth import Module, Mux, Signal, signed
from amaranth.hdl import Const
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from cocotb.triggers import RisingEdge

from lib import convert
from lib.convert import ForgottenOutput, Netlist, tied_outputs, to_rtlil, to_verilog
from lib.layout import Record, codec, pack, unpack
from lib.sim import SimulationFailed, simulate
from lib.streams import StreamSink, StreamSource, cycles, reset, start_clock
from virtio_rtl.config import DeviceConfig
from virtio_rtl.top import VirtioDevice


class Colour(enum.Enum):
    """An enumeration with a value that two bits can hold and no name."""

    RED = 0
    GREEN = 1
    BLUE = 2


class Inner(data.Struct):
    """A nested structure."""

    level: signed(5)
    flag: 1


INNER = data.StructLayout({"level": signed(5), "flag": 1})
OUTER = data.StructLayout(
    {
        "head": 7,
        "inner": INNER,
        "list": data.ArrayLayout(INNER, 3),
        "either": data.UnionLayout({"wide": 16, "narrow": 4}),
    }
)


TIMING = ["reads_before_and_writes_after_the_edge", "source_is_full_speed"]


class Broken(wiring.Component):
    """A stream source that breaks one stream rule, or none; and two odd outputs."""

    i: In(stream.Signature(8))
    o: Out(stream.Signature(8))
    count: Out(8)
    count_next: Out(8)
    forgotten: Out(4)

    def __init__(self, fault: str) -> None:
        self.fault = fault
        super().__init__()

    def elaborate(self, platform: Any) -> Module:
        """Pass the stream through, with the fault."""
        m = Module()
        phase = Signal(3)
        m.d.sync += [phase.eq(phase + 1), self.count.eq(self.count + 1)]
        m.d.comb += [
            self.count_next.eq(self.count + 1),
            self.i.ready.eq(self.o.ready),
            self.o.valid.eq(self.i.valid),
            self.o.payload.eq(self.i.payload),
        ]
        if self.fault == "valid":
            m.d.comb += self.o.valid.eq(self.i.valid & (phase != 0))
        if self.fault == "payload":
            m.d.comb += self.o.payload.eq(Mux(phase == 0, Const(0xA5, 8), self.i.payload))
        return m


@cocotb.test(timeout_time=100, timeout_unit="us")
async def passes_stream(dut: Any) -> None:
    """A pass-through is transparent; both models stall, the clock is sampled as documented."""
    start_clock(dut)
    source = StreamSource(dut, "i", stall=0.2)
    sink = StreamSink(dut, "o", stall=0.5)
    await reset(dut)
    source.queue(range(100))
    assert await sink.take(100) == list(range(100))


@cocotb.test(timeout_time=100, timeout_unit="us")
async def reads_before_and_writes_after_the_edge(dut: Any) -> None:
    """Registered and combinational values are those before the edge; writes act after it."""
    start_clock(dut)
    dut.i__valid.value = 0
    await reset(dut)
    assert (int(dut.count.value), int(dut.count_next.value)) == (0, 1)
    for expected in range(1, 20):
        await RisingEdge(dut.clk)
        assert (int(dut.count.value), int(dut.count_next.value)) == (expected, expected + 1)
        assert int(dut.o__valid.value) == (expected - 1) % 2
        dut.i__valid.value = expected % 2
        assert int(dut.o__valid.value) == (expected - 1) % 2


@cocotb.test(timeout_time=100, timeout_unit="us")
async def source_is_full_speed(dut: Any) -> None:
    """Without stalls, an item moves every cycle, and the idle ports cost no cycle either."""
    start_clock(dut)
    source, sink = StreamSource(dut, "i"), StreamSink(dut, "o")
    await reset(dut)
    for _ in range(3):
        before = sink.count
        source.queue(range(64))
        await cycles(dut, 66)
        assert sink.count - before == 64
        assert await sink.take(64) == list(range(64))


class Invert(wiring.Component):
    """A component without state."""

    i: In(stream.Signature(8))
    o: Out(stream.Signature(8))

    def elaborate(self, platform: Any) -> Module:
        """Invert the payload."""
        m = Module()
        m.d.comb += [
            self.i.ready.eq(self.o.ready),
            self.o.valid.eq(self.i.valid),
            self.o.payload.eq(~self.i.payload),
        ]
        return m


@cocotb.test(timeout_time=100, timeout_unit="us")
async def inverts(dut: Any) -> None:
    """A component without a clock of its own is tested like any other."""
    start_clock(dut)
    source, sink = StreamSource(dut, "i", stall=0.2), StreamSink(dut, "o", stall=0.2)
    await reset(dut)
    source.queue(range(100))
    assert await sink.take(100) == [0xFF - item for item in range(100)]


class PartlyConstant(wiring.Component):
    """A structure with a constant field beside one that is decided in an `If`."""

    enable: In(1)
    o: Out(INNER)

    def elaborate(self, platform: Any) -> Module:
        """Drive both fields."""
        m = Module()
        m.d.comb += self.o.level.eq(5)
        with m.If(self.enable):
            m.d.comb += self.o.flag.eq(1)
        return m


@cocotb.test(timeout_time=100, timeout_unit="us")
async def constant_fields_hold(dut: Any) -> None:
    """A constant field has its value in simulation (plain Verilog from Yosys would lose it)."""
    start_clock(dut)
    for flag in (0, 1, 0):
        dut.enable.value = flag
        await cycles(dut, 2)
        assert unpack(INNER, int(dut.o.value)) == {"level": 5, "flag": flag}


def test_constant_fields() -> None:
    """A constant field is not lost on the way to the simulator."""
    simulate(PartlyConstant(), module=__name__, name="constants", testcase="constant_fields_hold")


@cocotb.test()
async def never_ends(dut: Any) -> None:
    """Hang, in real time."""
    while True:
        pass


def test_combinational() -> None:
    """A component without state can be simulated."""
    simulate(Invert(), module=__name__, name="invert", testcase="inverts")


def test_hang() -> None:
    """A simulation that hangs is ended, and that is a failure."""
    with pytest.raises(SimulationFailed, match="return code: 124"):
        simulate(Invert(), module=__name__, name="hang", testcase="never_ends", limit_s=2)


@pytest.mark.parametrize("fault", ["valid", "payload", ""])
def test_stream_rules(fault: str) -> None:
    """A stream that breaks a rule fails the test; one that keeps them passes."""

    def run(testcase: list[str]) -> None:
        simulate(
            Broken(fault),
            module=__name__,
            name=f"broken_{fault or 'not'}",
            testcase=testcase,
            waive=["forgotten"],
        )

    if not fault:
        run(["passes_stream", *TIMING])
        return
    expected = {"valid": "valid fell before ready", "payload": "payload .* became"}[fault]
    with pytest.raises(SimulationFailed, match=expected):
        run(["passes_stream"])


def test_forgotten_output() -> None:
    """A constant output is found, whoever waives what."""
    assert tied_outputs(to_rtlil(Broken(""))) == {"forgotten": 0}
    with pytest.raises(ForgottenOutput, match="forgotten=0"):
        simulate(Broken(""), module=__name__, name="never")
    with pytest.raises(ForgottenOutput, match="not constant: count"):
        simulate(Broken(""), module=__name__, name="never", waive=["forgotten", "count"])


def test_netlist_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device is converted once; another configuration, waiver or source file is another."""
    made = []
    monkeypatch.setattr(convert, "BUILD", tmp_path)
    monkeypatch.setattr(convert, "_sources", lambda: "".join(sources))

    def make(component: Any, *given: Any) -> Netlist:
        component._MustUse__silence = True
        made.append(given)
        return Netlist(f"{given}", {"a": ("input", 1)})

    monkeypatch.setattr(convert, "_convert", make)
    sources = ["source"]
    config = DeviceConfig("some")
    first = to_verilog(VirtioDevice(config))
    assert to_verilog(VirtioDevice(config)) == first
    assert len(made) == 1
    to_verilog(VirtioDevice(replace(config, mtu=config.mtu - 1)))
    to_verilog(VirtioDevice(config), waive=["a"])
    sources.append("changed")
    to_verilog(VirtioDevice(config))
    assert len(made) == 4
    for _ in range(2):  # who has no configuration is converted each time: its key is its RTLIL
        to_verilog(Broken(""), waive=["forgotten"])
    assert len(made) == 6


def test_layouts() -> None:
    """Values survive packing, and the bits are where Amaranth has them."""
    value = {
        "head": 0x55,
        "inner": {"level": -3, "flag": 1},
        "list": [{"level": n, "flag": n & 1} for n in (-16, 15, 0)],
    }
    bits = pack(OUTER, value | {"either": {"wide": 0xBEEF}})
    assert bits == OUTER.const({**value, "either": {"wide": 0xBEEF}}).as_value().value
    back = unpack(OUTER, bits)
    assert back.head == 0x55
    assert back.inner == {"level": -3, "flag": 1}
    assert back.list[1].level == 15
    assert back.either == {"wide": 0xBEEF, "narrow": 0xF}
    assert codec(OUTER).width == OUTER.size
    assert unpack(Inner, pack(Inner, Record(level=-1))) == {"level": -1, "flag": 0}
    assert unpack(8, pack(8, 200)) == 200
    assert unpack(Colour, pack(Colour, Colour.BLUE)) is Colour.BLUE
    assert unpack(Colour, 3) == 3
    assert pack(Colour, "GREEN") == 1
    for shape, wrong in ((8, 256), (8, -1), (signed(4), 8), (OUTER, 1 << OUTER.size)):
        with pytest.raises(ValueError, match="not fit"):
            pack(shape, wrong)
    with pytest.raises(KeyError, match="no field"):
        pack(OUTER, {"hed": 1})
    with pytest.raises(ValueError, match="elements"):
        pack(OUTER, {"list": [0] * 4})
