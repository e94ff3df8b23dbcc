"""What a split virtqueue's driver is told about available buffer notifications."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..lib.sweep import ResetSweep
from ..types.virtqueue import SuppressionUpdate

__all__ = ["SplitNotify"]


class SplitNotify(wiring.Component):
    """Keeps notifications quiet in a flood, and asks for them before a virtqueue goes idle.

    Without EVENT_IDX a flood sets NO_NOTIFY in ``used.flags``, once, and a dry virtqueue clears it
    again [virtio 1.4 §2.7.10]. With EVENT_IDX ``used.flags`` stays 0; a dry virtqueue gets the
    position of the next buffer as its ``avail_event``, and a flood nothing, for the position
    that was published long ago keeps the driver silent. Each time the virtqueue is looked at
    once more behind the write, for the driver may not have seen it.

    ``avail_event`` starts as 0, so that the first buffer notifies. After 65536 buffers without a
    dry moment the published position comes by again: one notification too many, and no harm.

    Parameters
    ----------
    queues
        Virtqueues.
    event_idx
        EVENT_IDX is built.

    Ports
    -----
    queue
        Presented one cycle before ``look``, and held until ``done``.
    look : 1
        Strobe: a look begins.
    quiet : 1
        The virtqueue is in a flood, and ``avail.idx`` is polled. From the cycle after ``look``.
    position
        The next position that would be asked for. From the cycle after ``look``.
    decide : 1
        Strobe, two cycles after ``look`` or later; with it ``flood``, ``dry``, ``event_idx`` (it
        was negotiated), ``device_area`` and ``size`` count. ``flood``: many buffers are known and
        more were found each time. ``dry``: none is known, and no one is asking.
    done : 1
        What was decided is on its way; from the cycle after ``decide``.
    suppression : stream of ``SuppressionUpdate``
        From registers, one cycle after ``decide``.
    forget, forget_queue
        Strobe: forget everything about one virtqueue.
    """

    def __init__(self, queues: int, *, event_idx: bool = True):
        self.queues = queues
        self.with_event_idx = event_idx
        super().__init__(
            {
                "queue": In(16),
                "look": In(1),
                "quiet": Out(1),
                "position": In(16),
                "decide": In(1),
                "flood": In(1),
                "dry": In(1),
                "event_idx": In(1),
                "device_area": In(64),
                "size": In(16),
                "done": Out(1),
                "suppression": Out(stream.Signature(SuppressionUpdate)),
                "forget": In(1),
                "forget_queue": In(16),
            }
        )

    def elaborate(self, platform):
        m = Module()
        layout = data.StructLayout({"quiet": 1} | ({"event": 16} if self.with_event_idx else {}))
        m.submodules.states = states = Memory(shape=layout, depth=self.queues, init=[])
        m.submodules.sweep = sweep = ResetSweep(self.queues)
        read, write = states.read_port(), states.write_port()
        was = Signal(layout)
        then = Signal(layout)
        stores = Signal()
        update = self.suppression
        goes_quiet = self.flood & ~self.dry & ~was.quiet
        m.d.comb += [
            read.addr.eq(self.queue),
            self.quiet.eq(was.quiet),
            self.done.eq(~update.valid | update.ready),
            write.addr.eq(Mux(sweep.busy, sweep.address, self.queue)),
            write.data.eq(Mux(sweep.busy, 0, then)),
            write.en.eq(stores | sweep.busy),
            sweep.clear.eq(self.forget),
            sweep.row.eq(self.forget_queue),
        ]
        with m.If(self.look):
            m.d.sync += was.eq(read.data)
        with m.If(update.ready):
            m.d.sync += update.valid.eq(0)
        m.d.sync += stores.eq(0)
        with m.If(self.decide):
            m.d.sync += [
                stores.eq(1),
                then.eq(was),
                then.quiet.eq((was.quiet | self.flood) & ~self.dry),
                update.valid.eq(goes_quiet | (self.dry & was.quiet)),
                update.payload.queue.eq(self.queue),
                update.payload.address.eq(self.device_area),
                update.payload.data.eq(goes_quiet),
                update.payload.length.eq(2),
                update.payload.recheck.eq(~goes_quiet),
            ]
        if self.with_event_idx:
            current = Signal()
            m.d.sync += current.eq(was.event == self.position)
            with m.If(self.decide & self.event_idx):
                m.d.sync += [
                    update.valid.eq(self.dry & ~current),
                    update.payload.address.eq(self.device_area + 4 + (self.size << 3)),
                    update.payload.data.eq(self.position),
                    update.payload.recheck.eq(1),
                ]
                with m.If(self.dry):
                    m.d.sync += then.event.eq(self.position)
        return m
