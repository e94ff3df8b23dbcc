"""How long to wait for a buffer, where other virtqueues wait behind."""

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..lib.sweep import ResetSweep

__all__ = ["WalkWait"]


class WalkWait(wiring.Component):
    """Ends the waiting of a pull path for a virtqueue without a buffer.

    The first request that finds none waits ``cycles``, long enough for a doorbell and a fetch.
    From then on the virtqueue is known to be dry, and requests end at once, until a buffer is
    found again: a virtqueue that its driver neglects costs the others one wait. A virtqueue that
    is not enabled is never waited for.

    Parameters
    ----------
    queues
        Virtqueues of the path.
    cycles
        Longest wait, at least 1.

    Ports
    -----
    queue
        Presented one cycle before the others count for it.
    waiting, found : 1
        There is no buffer now; there is one.
    enabled : 1
        The virtqueue is enabled.
    give_up : 1
        Wait no longer. Combinational from ``waiting`` and ``enabled``.
    forget, forget_queue
        Strobe: the virtqueue is not known to be dry, from the cycle after the next one on. In both
        cycles nobody waits and nothing is found. Left alone, it costs nothing.
    """

    def __init__(self, queues: int, cycles: int):
        self.queues = queues
        self.cycles = cycles
        super().__init__(
            {
                "queue": In(range(max(queues, 2))),
                "waiting": In(1),
                "found": In(1),
                "enabled": In(1),
                "give_up": Out(1),
                "forget": In(1),
                "forget_queue": In(range(max(queues, 2))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.dry = dry = Memory(shape=unsigned(1), depth=self.queues, init=[])
        m.submodules.sweep = sweep = ResetSweep(self.queues)
        write = dry.write_port()
        read = dry.read_port(transparent_for=[write])
        queue = Signal.like(self.queue)
        waited = Signal(range(self.cycles + 1))
        expired = Signal()
        m.d.sync += queue.eq(self.queue)
        m.d.comb += [
            read.addr.eq(self.queue),
            expired.eq(waited == self.cycles),
            sweep.clear.eq(self.forget),
            sweep.row.eq(self.forget_queue),
            self.give_up.eq(self.waiting & (read.data | expired | ~self.enabled)),
        ]
        with m.If(~self.waiting | ~self.enabled):
            m.d.sync += waited.eq(0)
        with m.Elif(~expired):
            m.d.sync += waited.eq(waited + 1)
        with m.If(sweep.busy):
            m.d.comb += [write.addr.eq(sweep.address), write.en.eq(1)]
        with m.Else():
            m.d.comb += [
                write.addr.eq(queue),
                write.data.eq(self.waiting),
                write.en.eq(self.found | (self.waiting & expired)),
            ]
        return m
