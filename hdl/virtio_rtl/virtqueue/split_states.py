"""State of all virtqueues, kept by one stage and seen by another."""

from amaranth.hdl import Module, Mux, ShapeLike
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..lib.sweep import ResetSweep

__all__ = ["SplitStates"]


class SplitStates(wiring.Component):
    """One row per virtqueue, all 0 after a reset.

    Parameters
    ----------
    shape
        A row.
    queues
        Virtqueues.

    Ports
    -----
    write_en, queue, write_data
        The stage that keeps the state writes a row.
    read_queue -> read_data, see_queue -> see_data
        For that stage and for the other one, one cycle latency; a row that is being written is
        seen as written.
    forget, forget_queue
        Strobe: clear one row, while nobody writes.
    busy : 1
        Rows are being cleared; nothing is to be written.
    """

    def __init__(self, shape: ShapeLike, queues: int):
        self.shape = shape
        self.queues = queues
        super().__init__(
            {
                "write_en": In(1),
                "queue": In(16),
                "write_data": In(shape),
                "read_queue": In(16),
                "read_data": Out(shape),
                "see_queue": In(16),
                "see_data": Out(shape),
                "forget": In(1),
                "forget_queue": In(16),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.rows = rows = Memory(shape=self.shape, depth=self.queues, init=[])
        m.submodules.sweep = sweep = ResetSweep(self.queues)
        write = rows.write_port()
        read = rows.read_port(transparent_for=[write])
        see = rows.read_port(transparent_for=[write])
        m.d.comb += [
            read.addr.eq(self.read_queue),
            self.read_data.eq(read.data),
            see.addr.eq(self.see_queue),
            self.see_data.eq(see.data),
            write.en.eq(self.write_en | sweep.busy),
            write.addr.eq(Mux(sweep.busy, sweep.address, self.queue)),
            write.data.eq(Mux(sweep.busy, 0, self.write_data)),
            sweep.clear.eq(self.forget),
            sweep.row.eq(self.forget_queue),
            self.busy.eq(sweep.busy),
        ]
        return m
