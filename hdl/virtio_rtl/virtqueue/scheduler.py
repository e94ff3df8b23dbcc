"""Which virtqueue to look at next: hop 2."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..lib.stream import StreamFIFO
from ..types.virtqueue import WorkItem

__all__ = ["Scheduler"]


class _Listing(data.Struct):
    listed: 1
    doorbell: 1


class Scheduler(wiring.Component):
    """Round-robin list of virtqueues that may have work.

    A virtqueue stands on the list at most once, so doorbells coalesce. Its pending bits are
    cleared when it leaves the list, before anything is fetched: a doorbell that arrives during
    the fetch puts it on the list again and cannot be lost.

    Parameters
    ----------
    queues
        Number of virtqueues.
    doorbells, rearms
        Number of inputs of either kind.

    Ports
    -----
    doorbell_0 ... : stream of 16 bits
        Virtqueues in which the driver may have added buffers.
    rearm_0 ... : stream of 16 bits
        Virtqueues whose state has changed (a fetch came back, room in the read-ahead store).
    work : stream of ``WorkItem``
    enable : 1
        DRIVER_OK. Doorbells that come earlier are kept; when it rises, every virtqueue is
        looked at once, so that none of them needs a doorbell after DRIVER_OK.
        [virtio 1.4 §3.1.1]
    hold : 1
        While it is high, nothing new is offered, and all reasons are kept.

    One list operation a cycle. One cycle from a doorbell to ``work`` if nothing else is to be
    done, else at least five.
    """

    def __init__(self, queues: int, doorbells: int, rearms: int):
        self.queues = queues
        self.doorbells = doorbells
        self.rearms = rearms
        super().__init__(
            {f"doorbell_{i}": In(stream.Signature(unsigned(16))) for i in range(doorbells)}
            | {f"rearm_{i}": In(stream.Signature(unsigned(16))) for i in range(rearms)}
            | {"work": Out(stream.Signature(WorkItem)), "enable": In(1), "hold": In(1)}
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.listings = listings = Memory(shape=_Listing, depth=self.queues, init=[])
        m.submodules.order = order = StreamFIFO(unsigned(16), self.queues + 1)
        read = listings.read_port(domain="comb")
        write = listings.write_port()

        sweep = Signal(range(self.queues + 1))
        # The next virtqueue to put on the list.
        entry = Signal(WorkItem)
        entry_valid = Signal()
        entry_ready = Signal()
        pop = Signal()
        pop_turn = Signal()
        was_enabled = Signal()

        sources = [(getattr(self, f"doorbell_{i}"), 1) for i in range(self.doorbells)]
        sources += [(getattr(self, f"rearm_{i}"), 0) for i in range(self.rearms)]
        wanted = Signal(len(sources))
        first = Signal(range(len(sources)))
        m.d.comb += wanted.eq(sum((s.valid << i) for i, (s, _) in enumerate(sources)))
        choice = Signal.like(first)
        with m.Switch(first):
            for current in range(len(sources)):
                with m.Case(current):
                    for step in reversed(range(len(sources))):
                        candidate = (current + step) % len(sources)
                        with m.If(wanted[candidate]):
                            m.d.comb += choice.eq(candidate)

        chosen = Signal(WorkItem)
        accept = Signal()
        for index, (source, is_doorbell) in enumerate(sources):
            with m.If(choice == index):
                m.d.comb += [
                    source.ready.eq(accept),
                    chosen.queue.eq(source.payload),
                    chosen.doorbell.eq(is_doorbell),
                ]
        # With nothing on the list and nothing on its way there, a virtqueue need not go through it.
        room = Signal()
        direct = Signal()
        offers = Signal()
        new = Signal()
        m.d.comb += [
            room.eq(~self.work.valid | self.work.ready),
            offers.eq(self.enable & ~self.hold),
            direct.eq(~entry_valid & ~new & (order.level == 0) & room & offers),
        ]
        with m.If(room):
            m.d.sync += self.work.valid.eq(0)
        with m.If(entry_ready):
            m.d.sync += entry_valid.eq(0)

        with m.FSM(name="scheduler"):
            with m.State("CLEAR"):
                m.d.comb += [write.en.eq(1), write.addr.eq(sweep)]
                m.d.sync += sweep.eq(sweep + 1)
                with m.If(sweep == self.queues - 1):
                    m.d.sync += sweep.eq(0)
                    m.next = "RUN"
            with m.State("START"):
                with m.If(~entry_valid | entry_ready):
                    m.d.sync += [
                        entry.queue.eq(sweep),
                        entry.doorbell.eq(1),
                        entry_valid.eq(1),
                        sweep.eq(sweep + 1),
                    ]
                    with m.If(sweep == self.queues - 1):
                        m.d.sync += sweep.eq(0)
                        m.next = "RUN"
            with m.State("RUN"):
                m.d.sync += was_enabled.eq(self.enable)
                with m.If(self.enable & ~was_enabled):
                    m.next = "START"
                with m.Else():
                    m.d.comb += accept.eq(wanted.any() & (~entry_valid | entry_ready))
                with m.If(accept):
                    m.d.sync += first.eq(Mux(choice == len(sources) - 1, 0, choice + 1))
                    with m.If(direct):
                        m.d.sync += [self.work.payload.eq(chosen), self.work.valid.eq(1)]
                    with m.Else():
                        m.d.sync += [entry.eq(chosen), entry_valid.eq(1)]

        # The list takes one in, or lets one go: both, if they are the same.
        absorbed = Signal()
        m.d.comb += [
            pop.eq(offers & order.output.valid & room & (pop_turn | ~entry_valid)),
            absorbed.eq(pop & entry_valid & (entry.queue == order.output.payload)),
            entry_ready.eq(entry_valid & (~pop | absorbed)),
            order.input.valid.eq(new),
        ]
        # The list itself follows a cycle later; it has room for all.
        m.d.sync += [pop_turn.eq(~pop), new.eq(0), order.input.payload.eq(entry.queue)]
        with m.If(pop):
            m.d.comb += [
                read.addr.eq(order.output.payload),
                write.addr.eq(order.output.payload),
                write.en.eq(1),
                order.output.ready.eq(1),
            ]
            m.d.sync += [
                self.work.payload.queue.eq(order.output.payload),
                self.work.payload.doorbell.eq(read.data.doorbell | (absorbed & entry.doorbell)),
                self.work.valid.eq(1),
            ]
        with m.Elif(entry_valid):
            m.d.comb += [
                read.addr.eq(entry.queue),
                write.addr.eq(entry.queue),
                write.data.listed.eq(1),
                write.data.doorbell.eq(read.data.doorbell | entry.doorbell),
                write.en.eq(1),
            ]
            m.d.sync += new.eq(~read.data.listed)
        return m
