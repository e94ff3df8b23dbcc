"""Does the driver want an interrupt? Hop 8."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..lib.stream import StreamFIFO
from ..lib.sweep import ResetSweep
from ..types.dma import ReadRequest
from ..types.packet import packet_stream
from ..types.virtqueue import InterruptRequest, QueueLookup, RingFeatures, UsedProgress
from .event_wanted import EventAsked, EventWanted
from .used_position import chosen

__all__ = ["EventCheck"]


class EventCheck(wiring.Component):
    """Reads what the driver says of used buffer notifications, after used buffers were written.

    Packed: the driver event suppression structure [virtio 1.4 §2.8.10, §2.8.14]. Split: the flags
    of the available ring [virtio 1.4 §2.7.7], or with EVENT_IDX ``used_event`` alone
    [virtio 1.4 §2.7.7.2].

    The read follows the used write on the posted path, so it cannot miss a driver that enabled
    interrupts before it looked at the ring for the last time. At most one read per virtqueue is
    in flight: what is written meanwhile is covered by one more read, so that a flood costs one
    read per round trip and interrupts coalesce.

    Each read decides on what was written from the start of the read before it to its own start,
    so that every used position is decided on once. Nothing is kept of a virtqueue that has been
    decided on: a reset of it needs no more than to wait for that.

    Parameters
    ----------
    width
        Bits of a packet beat.
    queues
        Virtqueues.
    rings
        Ring formats that are built, ``"split"`` and ``"packed"`` or one of them.
    event_idx
        Event positions are built.

    Ports
    -----
    features : ``RingFeatures``
    written : stream of ``UsedProgress``
    lookup : ``QueueLookup``
    request, packet : client of the read engine
    interrupt : stream of ``InterruptRequest``
    failed : 1
        The read failed on the bus; no interrupt is sent.
    idle : 1
        Nothing is offered at ``written``, no read is wanted or in flight, no interrupt waits.
        A register.

    One virtqueue written, one read and one answer a cycle, an answer and a written virtqueue in
    turn. Latency from ``written`` to ``request`` one cycle, from ``packet`` to ``interrupt`` one.

    Limitation: the size of a split virtqueue has to be a power of two.
    """

    def __init__(
        self,
        width: int,
        queues: int,
        *,
        rings: tuple[str, ...] = ("split", "packed"),
        event_idx: bool = True,
    ):
        self.width = width
        self.queues = queues
        self.rings = rings
        self.event_idx = event_idx
        super().__init__(
            {
                "features": In(RingFeatures),
                "written": In(stream.Signature(UsedProgress)),
                "lookup": Out(QueueLookup()),
                "request": Out(stream.Signature(ReadRequest)),
                "packet": In(packet_stream(width)),
                "interrupt": Out(stream.Signature(InterruptRequest)),
                "failed": Out(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        packed = chosen(self.rings, self.features.packed)
        event_idx = self.features.event_idx if self.event_idx else Const(0)
        # Without event positions nobody asks where a virtqueue is.
        bits = 16 if self.event_idx else 0
        progress_shape = data.StructLayout({"index": bits, "count": bits})
        job_shape = data.StructLayout({"queue": 16, "progress": progress_shape})
        # `busy`: a read is wanted or in flight. `again`: there is progress that it does not cover.
        check_shape = data.StructLayout({"busy": 1, "again": 1, "progress": progress_shape})
        m.submodules.checks = checks = Memory(shape=check_shape, depth=self.queues, init=[])
        m.submodules.sweep = sweep = ResetSweep(self.queues)
        m.submodules.todo = todo = StreamFIFO(job_shape, self.queues + 1)
        m.submodules.in_flight = in_flight = StreamFIFO(EventAsked(self.event_idx), 16)
        m.submodules.interrupts = interrupts = StreamFIFO(InterruptRequest, 4)
        m.submodules.wanted = wanted = EventWanted(self.rings, self.event_idx)
        wiring.connect(m, interrupts.output, wiring.flipped(self.interrupt))
        read = checks.read_port(domain="comb")
        write = checks.write_port()

        # An answer is turned into an interrupt at once; its virtqueue's state follows a cycle
        # later, so that nobody's `ready` depends on whether an answer comes.
        packet = self.packet.payload
        arrives = Signal()
        answered = Signal()
        answered_queue = Signal(16)
        m.d.comb += [
            self.packet.ready.eq(in_flight.output.valid & interrupts.input.ready & ~sweep.busy),
            arrives.eq(self.packet.valid & self.packet.ready & packet.last),
            in_flight.output.ready.eq(arrives),
            self.failed.eq(arrives & packet.error),
            wanted.packed.eq(packed),
            wanted.event_idx.eq(event_idx),
            wanted.asked.eq(in_flight.output.payload),
            wanted.answer.eq(packet.data),
            interrupts.input.payload.queue.eq(in_flight.output.payload.queue),
            interrupts.input.valid.eq(arrives & wanted.wanted & ~packet.error),
        ]
        m.d.sync += [answered.eq(arrives), answered_queue.eq(in_flight.output.payload.queue)]

        news = self.written.payload
        queue = Signal(16)
        start = Signal()
        started = Signal(progress_shape)
        total = Signal(17)
        state = read.data
        m.d.comb += [
            self.written.ready.eq(~answered & ~sweep.busy),
            queue.eq(Mux(answered, answered_queue, news.queue)),
            read.addr.eq(queue),
            write.addr.eq(queue),
            total.eq(state.progress.count + news.count),
            write.data.progress.index.eq(news.index),
        ]
        with m.If(sweep.busy):
            m.d.comb += [write.addr.eq(sweep.address), write.data.eq(0), write.en.eq(1)]
        with m.Elif(answered):
            m.d.comb += [
                write.en.eq(1),
                write.data.busy.eq(state.again),
                start.eq(state.again),
                started.eq(state.progress),
            ]
        with m.Elif(self.written.valid):
            m.d.comb += [
                write.en.eq(1),
                write.data.busy.eq(1),
                write.data.again.eq(state.busy),
                start.eq(~state.busy),
                started.index.eq(news.index),
                started.count.eq(news.count),
            ]
            with m.If(state.busy):
                m.d.comb += write.data.progress.count.eq(total[:16] | total[16].replicate(16))

        # The next read: one that waits, else what starts now.
        asking = Signal()
        asked, job = Signal(job_shape), Signal(job_shape)
        advance = Signal()
        config = self.lookup.config
        # Behind the available ring, at 4 + 2 * size. A size of a split virtqueue is a power of two,
        # so that size + 2 needs no sum.
        size = config.size
        used_event = Cat(Const(0, 1), size[0], ~size[1], size[1] | size[2], size[3:])
        m.d.comb += [
            self.request.valid.eq(asking & in_flight.input.ready),
            in_flight.input.valid.eq(asking & self.request.ready),
            in_flight.input.payload.queue.eq(asked.queue),
            advance.eq(~asking | (self.request.valid & self.request.ready)),
            job.eq(todo.output.payload),
            todo.output.ready.eq(advance),
            todo.input.payload.queue.eq(queue),
            todo.input.payload.progress.eq(started),
            todo.input.valid.eq(start & ~(advance & ~todo.output.valid)),
            # A request that is not taken asks again, so that its address stays up.
            self.lookup.queue.eq(Mux(advance, job.queue, asked.queue)),
            self.request.payload.address.eq(
                config.driver_area + (used_event & (~packed & event_idx).replicate(17))
            ),
            self.request.payload.length.eq(Mux(packed, 4, 2)),
            self.request.payload.last.eq(1),
        ]
        if self.event_idx:
            m.d.comb += [
                in_flight.input.payload.index.eq(asked.progress.index),
                in_flight.input.payload.count.eq(asked.progress.count),
                in_flight.input.payload.size.eq(config.size),
            ]
        with m.If(~todo.output.valid):
            m.d.comb += job.eq(todo.input.payload)
        with m.If(advance):
            m.d.sync += [asking.eq(todo.output.valid | start), asked.eq(job)]

        waits = self.written.valid | answered | asking | todo.output.valid
        m.d.sync += self.idle.eq(~(waits | in_flight.output.valid | interrupts.output.valid))
        return m
