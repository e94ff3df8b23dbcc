"""Does the driver want an interrupt? Hop 8."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..lib.stream import StreamFIFO
from ..lib.sweep import ResetSweep
from ..types.dma import ReadRequest
from ..types.packet import packet_stream
from ..types.virtqueue import InterruptRequest, QueueLookup
from .suppression import EventFlags

__all__ = ["EventCheck"]


class _Check(data.Struct):
    busy: 1
    again: 1


class EventCheck(wiring.Component):
    """Reads the driver event suppression structure after used descriptors were written.

    The read follows the used write on the posted path, so it cannot miss a driver that enabled
    interrupts before it looked at the ring for the last time. At most one read per virtqueue is
    in flight: what is written meanwhile is covered by one more read, so that a flood costs one
    read per round trip and interrupts coalesce. [virtio 1.4 §2.8.9]

    Parameters
    ----------
    width
        Bits of a packet beat.
    queues
        Virtqueues.

    Ports
    -----
    written : stream of 16 bits
    lookup : ``QueueLookup``
    request, packet : client of the read engine
    interrupt : stream of ``InterruptRequest``
    failed : 1
        The read failed on the bus; no interrupt is sent.

    One virtqueue written, one read and one answer a cycle, an answer and a written virtqueue in
    turn. Latency from ``written`` to ``request`` one cycle, from ``packet`` to ``interrupt`` one.
    """

    def __init__(self, width: int, queues: int):
        self.width = width
        self.queues = queues
        super().__init__(
            {
                "written": In(stream.Signature(unsigned(16))),
                "lookup": Out(QueueLookup()),
                "request": Out(stream.Signature(ReadRequest)),
                "packet": In(packet_stream(width)),
                "interrupt": Out(stream.Signature(InterruptRequest)),
                "failed": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.checks = checks = Memory(shape=_Check, depth=self.queues, init=[])
        m.submodules.sweep = sweep = ResetSweep(self.queues)
        m.submodules.todo = todo = StreamFIFO(unsigned(16), self.queues + 1)
        m.submodules.in_flight = in_flight = StreamFIFO(unsigned(16), 16)
        m.submodules.interrupts = interrupts = StreamFIFO(InterruptRequest, 4)
        wiring.connect(m, interrupts.output, wiring.flipped(self.interrupt))
        read = checks.read_port(domain="comb")
        write = checks.write_port()

        # An answer is turned into an interrupt at once; its virtqueue's state follows a cycle
        # later, so that nobody's `ready` depends on whether an answer comes.
        packet = self.packet.payload
        flags = EventFlags(packet.data[16:18])
        arrives = Signal()
        answered = Signal()
        answered_queue = Signal(16)
        m.d.comb += [
            self.packet.ready.eq(in_flight.output.valid & interrupts.input.ready & ~sweep.busy),
            arrives.eq(self.packet.valid & self.packet.ready & packet.last),
            in_flight.output.ready.eq(arrives),
            self.failed.eq(arrives & packet.error),
            interrupts.input.payload.queue.eq(in_flight.output.payload),
            # Modes that were not negotiated count as "interrupts wanted".
            interrupts.input.valid.eq(arrives & (flags != EventFlags.DISABLE) & ~packet.error),
        ]
        m.d.sync += [answered.eq(arrives), answered_queue.eq(in_flight.output.payload)]

        queue = Signal(16)
        start = Signal()
        m.d.comb += [
            self.written.ready.eq(~answered & ~sweep.busy),
            queue.eq(Mux(answered, answered_queue, self.written.payload)),
            read.addr.eq(queue),
            write.addr.eq(queue),
        ]
        with m.If(sweep.busy):
            m.d.comb += [write.addr.eq(sweep.address), write.en.eq(1)]
        with m.Elif(answered):
            m.d.comb += [
                write.en.eq(1),
                write.data.busy.eq(read.data.again),
                start.eq(read.data.again),
            ]
        with m.Elif(self.written.valid):
            m.d.comb += [
                write.en.eq(1),
                write.data.busy.eq(1),
                write.data.again.eq(read.data.busy),
                start.eq(~read.data.busy),
            ]

        # The next read: one that waits, else what starts now.
        asking = Signal()
        asked_queue = Signal(16)
        next_queue = Signal(16)
        advance = Signal()
        m.d.comb += [
            self.request.valid.eq(asking & in_flight.input.ready),
            in_flight.input.valid.eq(asking & self.request.ready),
            in_flight.input.payload.eq(asked_queue),
            advance.eq(~asking | (self.request.valid & self.request.ready)),
            next_queue.eq(Mux(todo.output.valid, todo.output.payload, queue)),
            todo.output.ready.eq(advance),
            todo.input.payload.eq(queue),
            todo.input.valid.eq(start & ~(advance & ~todo.output.valid)),
            # A request that is not taken asks again, so that its address stays up.
            self.lookup.queue.eq(Mux(advance, next_queue, asked_queue)),
            self.request.payload.address.eq(self.lookup.config.driver_area),
            self.request.payload.length.eq(4),
            self.request.payload.last.eq(1),
        ]
        with m.If(advance):
            m.d.sync += [asking.eq(todo.output.valid | start), asked_queue.eq(next_queue)]
        return m
