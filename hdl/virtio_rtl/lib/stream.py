"""Stream plumbing: FIFO, skid buffer, arbiter."""

from amaranth.hdl import Const, Module, Mux, Shape, ShapeLike, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

__all__ = ["SkidBuffer", "StreamArbiter", "StreamFIFO"]

_SHALLOW = 65
"""Deepest queue in LUT memory: an output register and 64 entries."""


class StreamFIFO(wiring.Component):
    """First-in first-out queue between two streams.

    Parameters
    ----------
    shape
        Payload shape.
    depth
        Entries, at least 1.

    Ports
    -----
    input, output
        Streams of ``shape``.
    level
        Entries held, the one at the output included.

    One entry per cycle in and out (one every two cycles if ``depth`` is 1); latency one cycle when
    empty; order is kept. ``input.ready`` and ``output.valid`` are registers. ``output.payload`` is
    a register up to 65 entries; a deeper queue lies in block RAM, whose output it is, with the
    multiplexer that shows an entry in the cycle after it was written.
    """

    def __init__(self, shape: ShapeLike, depth: int):
        if depth < 1:
            raise ValueError(f"depth = {depth!r}: at least 1")
        self.shape = shape
        self.depth = depth
        super().__init__(
            {
                "input": In(stream.Signature(shape)),
                "output": Out(stream.Signature(shape)),
                "level": Out(range(depth + 1)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        if self.depth == 1:
            self._single(m)
        elif self.depth <= _SHALLOW:
            self._shallow(m)
        else:
            self._deep(m)
        return m

    def _single(self, m: Module) -> None:
        full = Signal()
        entry = Signal.like(Value.cast(self.input.payload))
        m.d.comb += [
            self.input.ready.eq(~full),
            self.output.valid.eq(full),
            Value.cast(self.output.payload).eq(entry),
            self.level.eq(full),
        ]
        with m.If(~full):
            m.d.sync += [entry.eq(Value.cast(self.input.payload)), full.eq(self.input.valid)]
        with m.Elif(self.output.ready):
            m.d.sync += full.eq(0)

    def _shallow(self, m: Module) -> None:
        """A register at the output, and memory for what has to wait behind it."""
        width = Shape.cast(self.shape).width
        push, pop, some = Signal(), Signal(), Signal()
        count = self._count(m, push, pop, some, self.depth - 1)
        memory = Memory(shape=width, depth=self.depth - 1, init=[])
        m.submodules.memory = memory
        write, read = memory.write_port(), memory.read_port(domain="comb")
        head = Signal(width)
        head_valid = Signal()
        load = Signal()
        incoming = Value.cast(self.input.payload)
        m.d.comb += [
            load.eq(~head_valid | self.output.ready),
            push.eq(self.input.valid & self.input.ready & (~load | some)),
            pop.eq(load & some),
            write.en.eq(push),
            write.data.eq(incoming),
            Value.cast(self.output.payload).eq(head),
            self.output.valid.eq(head_valid),
            self.level.eq(count + head_valid),
        ]
        with m.If(push):
            m.d.sync += write.addr.eq(_after(write.addr, self.depth - 1))
        with m.If(pop):
            m.d.sync += read.addr.eq(_after(read.addr, self.depth - 1))
        with m.If(load):
            m.d.sync += [
                head.eq(Mux(some, read.data, incoming)),
                head_valid.eq(some | self.input.valid),
            ]

    def _deep(self, m: Module) -> None:
        """All in memory, which is read ahead of the output."""
        width = Shape.cast(self.shape).width
        push, pop, some = Signal(), Signal(), Signal()
        count = self._count(m, push, pop, some, self.depth)
        memory = Memory(shape=width, depth=self.depth, init=[])
        m.submodules.memory = memory
        write = memory.write_port()
        read = memory.read_port(transparent_for=[write])
        first = Signal.like(read.addr)
        second = Signal.like(read.addr, init=1)
        m.d.comb += [
            push.eq(self.input.valid & self.input.ready),
            pop.eq(self.output.ready & some),
            write.en.eq(push),
            write.data.eq(Value.cast(self.input.payload)),
            read.addr.eq(Mux(pop, second, first)),
            Value.cast(self.output.payload).eq(read.data),
            self.output.valid.eq(some),
            self.level.eq(count),
        ]
        with m.If(push):
            m.d.sync += write.addr.eq(_after(write.addr, self.depth))
        with m.If(pop):
            m.d.sync += [first.eq(second), second.eq(_after(second, self.depth))]

    def _count(self, m: Module, push: Signal, pop: Signal, some: Signal, depth: int) -> Signal:
        """Count what memory holds; ``input.ready`` and ``some`` are registers beside the count."""
        count = Signal(range(depth + 1))
        room = Signal(init=1)
        m.d.comb += self.input.ready.eq(room)
        with m.If(push & ~pop):
            m.d.sync += [count.eq(count + 1), some.eq(1), room.eq(count != depth - 1)]
        with m.Elif(pop & ~push):
            m.d.sync += [count.eq(count - 1), some.eq(count != 1), room.eq(1)]
        return count


def _after(address: Signal, depth: int) -> Value:
    """Return the next address of a circular memory."""
    if depth == 1:
        return Const(0)
    if depth.bit_count() == 1:
        return address + 1
    return Mux(address == depth - 1, 0, address + 1)


class SkidBuffer(wiring.Component):
    """Two-entry buffer that registers payload, valid and ready: cuts every combinational path.

    Parameters
    ----------
    shape
        Payload shape.

    Ports
    -----
    input, output
        Streams of ``shape``.

    One entry per cycle; latency one cycle; order is kept.
    """

    def __init__(self, shape: ShapeLike):
        self.shape = shape
        super().__init__(
            {
                "input": In(stream.Signature(shape)),
                "output": Out(stream.Signature(shape)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        width = Shape.cast(self.shape).width
        head = Signal(width)
        head_valid = Signal()
        spare = Signal(width)
        spare_valid = Signal()
        m.d.comb += [
            self.input.ready.eq(~spare_valid),
            Value.cast(self.output.payload).eq(head),
            self.output.valid.eq(head_valid),
        ]
        with m.If(self.output.ready | ~head_valid):
            with m.If(spare_valid):
                m.d.sync += [head.eq(spare), head_valid.eq(1), spare_valid.eq(0)]
            with m.Else():
                m.d.sync += [
                    head.eq(Value.cast(self.input.payload)),
                    head_valid.eq(self.input.valid),
                ]
        with m.Elif(self.input.valid & self.input.ready):
            m.d.sync += [spare.eq(Value.cast(self.input.payload)), spare_valid.eq(1)]
        return m


class StreamArbiter(wiring.Component):
    """Round-robin arbiter of ``count`` streams onto one.

    Parameters
    ----------
    shape
        Payload shape; with ``packets`` it has a field ``last``.
    count
        Number of inputs, at least 1.
    packets
        Hold the grant from a packet's first beat to the beat whose ``last`` is set.

    Ports
    -----
    input_0 ... input_{count-1}, output
        Streams of ``shape``.
    grant
        Index of the input that stands at the output.

    Combinational from input to output, one entry per cycle, no bubble when the grant moves. A
    grant that was offered and not taken stays, so that an offered payload never changes.
    """

    def __init__(self, shape: ShapeLike, count: int, *, packets: bool = False):
        if count < 1:
            raise ValueError(f"count = {count!r}: at least 1")
        self.shape = shape
        self.count = count
        self.packets = packets
        super().__init__(
            {f"input_{i}": In(stream.Signature(shape)) for i in range(count)}
            | {"output": Out(stream.Signature(shape)), "grant": Out(range(max(count, 2)))}
        )

    def elaborate(self, platform):
        m = Module()
        inputs = [getattr(self, f"input_{i}") for i in range(self.count)]
        last_granted = Signal(range(max(self.count, 2)))
        held = Signal()
        choice = Signal.like(last_granted)
        with m.Switch(last_granted):
            for current in range(self.count):
                with m.Case(current):
                    # Written from the lowest to the highest priority: the last match wins.
                    m.d.comb += choice.eq(current)
                    for step in reversed(range(1, self.count + 1)):
                        candidate = (current + step) % self.count
                        with m.If(inputs[candidate].valid):
                            m.d.comb += choice.eq(candidate)
        m.d.comb += self.grant.eq(Mux(held, last_granted, choice))
        for index, source in enumerate(inputs):
            with m.If(self.grant == index):
                m.d.comb += [
                    self.output.payload.eq(source.payload),
                    self.output.valid.eq(source.valid),
                    source.ready.eq(self.output.ready),
                ]
        with m.If(self.output.valid):
            taken = self.output.ready
            release = taken & self.output.payload.last if self.packets else taken
            m.d.sync += [last_granted.eq(self.grant), held.eq(~release)]
        return m
