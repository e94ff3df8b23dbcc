"""Which virtqueue's buffers to execute next, where the driver is the one who starts."""

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..lib.stream import StreamFIFO
from ..lib.sweep import ResetSweep

__all__ = ["BurstRequest", "BurstResult", "Service"]


class BurstRequest(data.Struct):
    """Walk up to ``buffers`` available buffers of a virtqueue."""

    queue: 16
    buffers: 6


class BurstResult(data.Struct):
    """The burst is over; ``exhausted``: it ended because no available buffer was left."""

    queue: 16
    exhausted: 1


class Service(wiring.Component):
    """Serves the virtqueues of a path in turn, a burst of buffers each.

    Parameters
    ----------
    queues
        Virtqueues of the device (the list is indexed by virtqueue).
    burst
        Buffers per turn, up to 32.

    Ports
    -----
    committed : stream of 16 bits
        Virtqueues that got descriptors.
    request : stream of ``BurstRequest``
    result : stream of ``BurstResult``

    A virtqueue stands on the list at most once, and leaves it before its burst starts, so that
    descriptors that are committed meanwhile put it back.
    """

    def __init__(self, queues: int, burst: int = 16):
        self.queues = queues
        self.burst = burst
        super().__init__(
            {
                "committed": In(stream.Signature(unsigned(16))),
                "request": Out(stream.Signature(BurstRequest)),
                "result": In(stream.Signature(BurstResult)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.listed = listed = Memory(shape=unsigned(1), depth=self.queues, init=[])
        m.submodules.order = order = StreamFIFO(unsigned(16), self.queues + 1)
        m.submodules.sweep = sweep = ResetSweep(self.queues)
        read = listed.read_port(domain="comb")
        write = listed.write_port()
        m.d.comb += [
            self.request.payload.queue.eq(order.output.payload),
            self.request.payload.buffers.eq(self.burst),
            self.request.valid.eq(order.output.valid & ~sweep.busy),
        ]
        push_queue = Signal(16)
        push = Signal()
        with m.If(sweep.busy):
            m.d.comb += [write.addr.eq(sweep.address), write.en.eq(1)]
        with m.Elif(self.request.valid & self.request.ready):
            m.d.comb += [
                order.output.ready.eq(1),
                write.addr.eq(order.output.payload),
                write.en.eq(1),
            ]
        with m.Elif(self.result.valid):
            m.d.comb += [
                self.result.ready.eq(1),
                push_queue.eq(self.result.payload.queue),
                push.eq(~self.result.payload.exhausted),
            ]
        with m.Elif(self.committed.valid):
            m.d.comb += [
                self.committed.ready.eq(1),
                push_queue.eq(self.committed.payload),
                push.eq(1),
            ]
        with m.If(push):
            m.d.comb += [
                read.addr.eq(push_queue),
                write.addr.eq(push_queue),
                write.data.eq(1),
                write.en.eq(1),
                order.input.payload.eq(push_queue),
                order.input.valid.eq(~read.data),
            ]
        return m
