"""FIFOs: what goes in comes out, once and in order, and nothing else."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Assert, Cover, Module

from formal.fifo_state import FIFOState
from formal.harness import (
    Tracked,
    implies,
    inside,
    plain,
    sink,
    source,
    steady,
    taken,
)
from formal.proof import Mutant, proof
from virtio_rtl.dma.read_chunk_buffer import ChunkBuffer
from virtio_rtl.lib import stream
from virtio_rtl.lib.bypass import BypassFIFO
from virtio_rtl.lib.stream import SkidBuffer, StreamFIFO

_BITS = 3
_STREAM = "lib/stream.py"


def watch(m: Module, dut: Any, capacity: int, *, through: bool = False) -> Tracked:
    """Use a queue's streams in any way; assert that the tracked element comes out as it went in.

    `through`: an element may pass an empty queue in the same cycle.
    """
    source(m, dut.input)
    sink(m, dut.output)
    steady(m, dut.output)
    push, pop = taken(dut.input), taken(dut.output)
    tracked = Tracked(m, push, dut.input.payload, pop, capacity)
    tracked.follow(m)
    with m.If(tracked.leaves):
        m.d.comb += Assert(plain(dut.output.payload) == tracked.value, "another one comes out")
        m.d.comb += Cover(tracked.value[:3] == 5)
    there = tracked.count != 0
    if through:
        there = there | dut.input.valid
        with m.If(tracked.passes):
            same = plain(dut.output.payload) == plain(dut.input.payload)
            m.d.comb += [Assert(same, "another one passes"), Cover(tracked.count == 0)]
    m.d.comb += [
        Assert(dut.output.valid == there, "one too many, or one that is not offered"),
        Assert(tracked.count <= capacity),
        Cover(tracked.count == capacity),
    ]
    return tracked


@proof(
    "StreamFIFO: order, no loss, no duplicate, level",
    depth=3,
    cover=14,
    mutant_depth=12,
    sizes="1, 2, 5, 6 entries of 3 bits",
    variants=[{"depth": 5}, {"depth": 1}, {"depth": 2}, {"depth": 6}],
    mutants=[
        Mutant(_STREAM, "room.eq(count != depth - 1)]", "room.eq(1)]"),
        Mutant(_STREAM, "head.eq(Mux(some, read.data, incoming))", "head.eq(incoming)"),
        Mutant(_STREAM, "with m.If(~full):", "with m.If(1):", variant=1),
    ],
)
def stream_fifo(m: Module, depth: int) -> None:
    """Every entry comes out once, in order; `level` counts them."""
    m.submodules.dut = dut = StreamFIFO(_BITS, depth)
    tracked = watch(m, dut, depth)
    state = FIFOState(m, dut)
    m.d.comb += [
        Assert(dut.level == tracked.count),
        Assert(implies(tracked.inside, state.entry(tracked.ahead) == tracked.value)),
    ]


@proof(
    "StreamFIFO in block RAM: order, no loss, no duplicate, level",
    depth=3,
    cover=14,
    mutant_depth=12,
    sizes="4, 5 entries of 3 bits (in use: more than 65)",
    variants=[{"depth": 5}, {"depth": 4}],
    mutants=[
        Mutant(_STREAM, "read.addr.eq(Mux(pop, second, first))", "read.addr.eq(second)"),
        Mutant(_STREAM, "read_port(transparent_for=[write])", "read_port()"),
    ],
)
def stream_fifo_deep(m: Module, depth: int) -> None:
    """The same for the deep kind, which is chosen here for a few entries."""
    limit = stream._SHALLOW
    stream._SHALLOW = 2
    try:
        m.submodules.dut = dut = StreamFIFO(_BITS, depth)
        state = FIFOState(m, dut)
    finally:
        stream._SHALLOW = limit
    tracked = watch(m, dut, depth)
    m.d.comb += [
        Assert(dut.level == tracked.count),
        Assert(implies(tracked.inside, state.entry(tracked.ahead) == tracked.value)),
    ]


@proof(
    "SkidBuffer: order, no loss, no duplicate",
    depth=3,
    cover=10,
    mutant_depth=10,
    sizes="3 bits",
    mutants=[
        Mutant(
            _STREAM,
            "[spare.eq(Value.cast(self.input.payload)), spare_valid.eq(1)]",
            "spare_valid.eq(1)",
        ),
        Mutant(_STREAM, "self.input.ready.eq(~spare_valid)", "self.input.ready.eq(1)"),
    ],
)
def skid_buffer(m: Module) -> None:
    """Two entries at most, in order."""
    m.submodules.dut = dut = SkidBuffer(_BITS)
    rooms = inside(dut)
    tracked = watch(m, dut, 2)
    m.d.comb += Assert(tracked.count == rooms["head_valid"] + rooms["spare_valid"])
    with m.If(tracked.inside):
        with m.If(tracked.ahead == 0):
            m.d.comb += Assert(rooms["head"] == tracked.value)
        with m.Else():
            m.d.comb += Assert(rooms["spare"] == tracked.value)


@proof(
    "BypassFIFO: order, no loss, no duplicate, also past it",
    depth=3,
    cover=10,
    mutant_depth=10,
    sizes="2, 4 entries of 3 bits",
    variants=[{"depth": 4}, {"depth": 2}],
    mutants=[
        Mutant(
            "lib/bypass.py",
            "self.input.valid & (waiting.valid | ~self.output.ready)",
            "self.input.valid & ~self.output.ready",
        ),
        Mutant(
            "lib/bypass.py",
            "Mux(waiting.valid, waiting.payload, self.input.payload)",
            "Mux(self.input.valid, self.input.payload, waiting.payload)",
        ),
    ],
)
def bypass_fifo(m: Module, depth: int) -> None:
    """An element may pass, but never another one."""
    m.submodules.dut = dut = BypassFIFO(_BITS, depth)
    fifo = inside(dut)["fifo"]
    tracked = watch(m, dut, depth, through=True)
    state = FIFOState(m, fifo)
    m.d.comb += [
        Assert(state.level == tracked.count),
        Assert(implies(tracked.inside, state.entry(tracked.ahead) == tracked.value)),
    ]


@proof(
    "ChunkBuffer: order, no loss, no duplicate, also past it",
    depth=3,
    cover=8,
    mutant_depth=8,
    sizes="64-bit datapath",
    mutants=[
        Mutant("dma/read_chunk_buffer.py", "with m.If(~full):", "with m.If(1):"),
        Mutant("dma/read_chunk_buffer.py", "self.input.ready.eq(~full)", "self.input.ready.eq(1)"),
    ],
)
def chunk_buffer(m: Module) -> None:
    """One chunk at most is kept."""
    m.submodules.dut = dut = ChunkBuffer(64)
    rooms = inside(dut)
    tracked = watch(m, dut, 1, through=True)
    m.d.comb += [
        Assert(tracked.count == rooms["full"]),
        Assert(implies(tracked.inside, plain(rooms["kept"]) == tracked.value)),
    ]
