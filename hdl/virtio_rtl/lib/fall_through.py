"""A queue that costs a lone entry one cycle."""

from amaranth.hdl import Module, Mux, Shape, ShapeLike, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

__all__ = ["FallThroughFIFO"]


class FallThroughFIFO(wiring.Component):
    """First-in first-out queue whose output register is loaded from the input while it is empty.

    Parameters
    ----------
    shape
        Payload shape.
    depth
        Entries, at least 2, the one at the output included. They lie in LUT RAM: for some tens.

    Ports
    -----
    input, output
        Streams of ``shape``.
    level
        Entries behind the one at the output.

    One entry per cycle in and out; latency one cycle when empty; order is kept. ``input.ready``,
    ``output.valid`` and ``output.payload`` are registers.
    """

    def __init__(self, shape: ShapeLike, depth: int):
        if depth < 2:
            raise ValueError(f"depth = {depth!r}: at least 2")
        self.shape = shape
        self.depth = depth
        super().__init__(
            {
                "input": In(stream.Signature(shape)),
                "output": Out(stream.Signature(shape)),
                "level": Out(range(depth)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        width = Shape.cast(self.shape).width
        behind = self.depth - 1
        # A power of two, so that the pointers wrap by themselves.
        rows = 1 << (behind - 1).bit_length()
        m.submodules.memory = memory = Memory(shape=width, depth=rows, init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        write_row = Signal(range(max(rows, 2)))
        read_row = Signal(range(max(rows, 2)))
        head, head_valid = Signal(width), Signal()
        empty, full = Signal(init=1), Signal()  # of the memory
        level = self.level
        taken, loads, stores, unloads = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            self.input.ready.eq(~full),
            Value.cast(self.output.payload).eq(head),
            self.output.valid.eq(head_valid),
            taken.eq(self.input.valid & ~full),
            loads.eq(self.output.ready | ~head_valid),
            stores.eq(taken & ~(loads & empty)),
            unloads.eq(loads & ~empty),
            write.addr.eq(write_row),
            write.data.eq(Value.cast(self.input.payload)),
            write.en.eq(stores),
            read.addr.eq(read_row),
        ]
        with m.If(loads):
            m.d.sync += [
                head.eq(Mux(empty, Value.cast(self.input.payload), read.data)),
                head_valid.eq(taken | ~empty),
            ]
        # Steps behind enables: the strobes come late, the sums do not wait for them.
        with m.If(stores):
            m.d.sync += write_row.eq(write_row + 1)
        with m.If(unloads):
            m.d.sync += read_row.eq(read_row + 1)
        with m.If(stores != unloads):
            m.d.sync += level.eq(Mux(stores, level + 1, level - 1))
        m.d.sync += [
            # Both looked up one step ahead: who is next to the boundary may reach it.
            empty.eq(~stores & (empty | ((level == 1) & unloads))),
            full.eq(~unloads & (full | ((level == behind - 1) & stores))),
        ]
        return m
