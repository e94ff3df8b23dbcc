"""Which virtqueue's buffers to execute next, where the driver is the one who starts."""

from amaranth.hdl import Module, Mux, Signal, unsigned
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
    descriptors that are committed meanwhile put it back. With an empty list ``committed`` passes
    to ``request`` in the same cycle; through the list it takes one cycle.
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
        # A virtqueue that got descriptors while nothing waits is served in the same cycle. It
        # cannot be on the list.
        requeues = Signal()
        direct = Signal()
        popped = Signal()
        push = Signal()
        push_queue = Signal(16)
        waiting = order.output
        m.d.comb += [
            requeues.eq(self.result.valid & ~self.result.payload.exhausted),
            direct.eq(~waiting.valid & ~requeues & ~sweep.busy),
            popped.eq(waiting.valid & self.request.ready & ~sweep.busy),
            self.request.payload.queue.eq(
                Mux(waiting.valid, waiting.payload, self.committed.payload)
            ),
            self.request.payload.buffers.eq(self.burst),
            self.request.valid.eq((waiting.valid & ~sweep.busy) | (direct & self.committed.valid)),
            waiting.ready.eq(popped),
            self.result.ready.eq(~requeues | ~(popped | sweep.busy)),
            self.committed.ready.eq(~(popped | requeues | sweep.busy)),
            push_queue.eq(Mux(requeues, self.result.payload.queue, self.committed.payload)),
            push.eq(
                ~(popped | sweep.busy)
                & (requeues | (self.committed.valid & ~(direct & self.request.ready)))
            ),
            read.addr.eq(push_queue),
            order.input.payload.eq(push_queue),
            order.input.valid.eq(push & ~read.data),
            write.en.eq(sweep.busy | popped | push),
            write.data.eq(push),
            write.addr.eq(Mux(sweep.busy, sweep.address, Mux(popped, waiting.payload, push_queue))),
        ]
        return m
