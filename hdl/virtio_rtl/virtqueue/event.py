"""Does the driver want an interrupt? Hop 8."""

from amaranth.hdl import Module, Signal, unsigned
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

    One check every two cycles.
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
        packet = self.packet.payload

        queue = Signal(16)
        start = Signal()
        flags = EventFlags(packet.data[16:18])
        m.d.comb += [
            read.addr.eq(queue),
            write.addr.eq(queue),
            todo.input.payload.eq(queue),
            todo.input.valid.eq(start),
            interrupts.input.payload.queue.eq(queue),
        ]
        with m.If(sweep.busy):
            m.d.comb += [write.addr.eq(sweep.address), write.en.eq(1)]
        with m.Elif(self.packet.valid & ~packet.last):
            m.d.comb += self.packet.ready.eq(1)
        with m.Elif(self.packet.valid & in_flight.output.valid & interrupts.input.ready):
            m.d.comb += [
                self.packet.ready.eq(1),
                in_flight.output.ready.eq(1),
                queue.eq(in_flight.output.payload),
                write.en.eq(1),
                write.data.busy.eq(read.data.again),
                start.eq(read.data.again),
                self.failed.eq(packet.error),
                # Modes that were not negotiated count as "interrupts wanted".
                interrupts.input.valid.eq((flags != EventFlags.DISABLE) & ~packet.error),
            ]
        with m.Elif(self.written.valid):
            m.d.comb += [
                self.written.ready.eq(1),
                queue.eq(self.written.payload),
                write.en.eq(1),
                write.data.busy.eq(1),
                write.data.again.eq(read.data.busy),
                start.eq(~read.data.busy),
            ]

        m.d.comb += [
            self.lookup.queue.eq(todo.output.payload),
            self.request.payload.address.eq(self.lookup.config.driver_area),
            self.request.payload.length.eq(4),
            self.request.payload.last.eq(1),
            in_flight.input.payload.eq(todo.output.payload),
        ]
        with m.FSM(name="event"):
            with m.State("IDLE"):
                with m.If(todo.output.valid & in_flight.input.ready):
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += self.request.valid.eq(1)
                with m.If(self.request.ready):
                    m.d.comb += [todo.output.ready.eq(1), in_flight.input.valid.eq(1)]
                    m.next = "IDLE"
        return m
