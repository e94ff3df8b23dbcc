"""Descriptors that were fetched before they are needed, a circular store per virtqueue."""

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..lib.sweep import ResetSweep
from ..types.virtqueue import Descriptor

__all__ = ["ReadAhead"]


class ReadAhead(wiring.Component):
    """Read-ahead store of one path (receive, transmit).

    Three pointers per virtqueue, free running: the receiver of fetches *writes* descriptors past
    the committed pointer, then moves *committed*; the walker reads up to it and moves *taken*.

    Parameters
    ----------
    queues
        Virtqueues of this path.
    depth
        Descriptors per virtqueue, a power of two.

    Ports
    -----
    write_en, write_queue, write_pointer, write_descriptor
        Store one descriptor.
    commit_en, commit_queue, commit_pointer
        Give all descriptors before ``commit_pointer`` to the walker.
    take_en, take_queue, take_pointer
        Give the room of all descriptors before ``take_pointer`` back.
    read_queue, read_pointer -> read_descriptor
        One cycle latency; follows the address every cycle.
    walk_queue -> walk_committed, walk_taken
        Pointers for the walker, one cycle latency.
    issue_queue -> issue_taken
        Pointer for the fetch, one cycle latency.
    forget, forget_queue
        Strobe: the virtqueue's pointers are cleared in the next cycle, and what it holds is
        forgotten. In both cycles nothing is written, committed or taken. Left alone, it costs
        nothing.
    busy
        Pointers are being cleared, after a reset or ``forget``.
    """

    def __init__(self, queues: int, depth: int):
        self.queues = queues
        self.depth = depth
        pointer = range(2 * depth)
        index = range(max(queues, 2))
        super().__init__(
            {
                "write_en": In(1),
                "write_queue": In(index),
                "write_pointer": In(pointer),
                "write_descriptor": In(Descriptor),
                "commit_en": In(1),
                "commit_queue": In(index),
                "commit_pointer": In(pointer),
                "take_en": In(1),
                "take_queue": In(index),
                "take_pointer": In(pointer),
                "read_queue": In(index),
                "read_pointer": In(pointer),
                "read_descriptor": Out(Descriptor),
                "walk_queue": In(index),
                "walk_committed": Out(pointer),
                "walk_taken": Out(pointer),
                "issue_queue": In(index),
                "issue_taken": Out(pointer),
                "forget": In(1),
                "forget_queue": In(index),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        pointer_shape = self.walk_taken.shape()
        m.submodules.store = store = Memory(
            shape=Descriptor, depth=self.queues * self.depth, init=[]
        )
        m.submodules.committed = committed = Memory(shape=pointer_shape, depth=self.queues, init=[])
        m.submodules.taken = taken = Memory(shape=pointer_shape, depth=self.queues, init=[])

        slot_bits = (self.depth - 1).bit_length()

        def store_address(queue, pointer):
            return Cat(pointer[:slot_bits], queue) if self.queues > 1 else pointer[:slot_bits]

        store_write = store.write_port()
        store_read = store.read_port()
        commit_write = committed.write_port()
        commit_read = committed.read_port(transparent_for=[commit_write])
        take_write = taken.write_port()
        take_walk = taken.read_port(transparent_for=[take_write])
        take_issue = taken.read_port(transparent_for=[take_write])

        m.d.comb += [
            store_write.addr.eq(store_address(self.write_queue, self.write_pointer)),
            store_write.data.eq(self.write_descriptor),
            store_write.en.eq(self.write_en),
            store_read.addr.eq(store_address(self.read_queue, self.read_pointer)),
            self.read_descriptor.eq(store_read.data),
            commit_read.addr.eq(self.walk_queue),
            self.walk_committed.eq(commit_read.data),
            take_walk.addr.eq(self.walk_queue),
            self.walk_taken.eq(take_walk.data),
            take_issue.addr.eq(self.issue_queue),
            self.issue_taken.eq(take_issue.data),
        ]
        m.submodules.sweep = sweep = ResetSweep(self.queues)
        m.d.comb += [
            self.busy.eq(sweep.busy),
            sweep.clear.eq(self.forget),
            sweep.row.eq(self.forget_queue),
        ]
        with m.If(sweep.busy):
            m.d.comb += [
                commit_write.addr.eq(sweep.address),
                commit_write.en.eq(1),
                take_write.addr.eq(sweep.address),
                take_write.en.eq(1),
            ]
        with m.Else():
            m.d.comb += [
                commit_write.addr.eq(self.commit_queue),
                commit_write.data.eq(self.commit_pointer),
                commit_write.en.eq(self.commit_en),
                take_write.addr.eq(self.take_queue),
                take_write.data.eq(self.take_pointer),
                take_write.en.eq(self.take_en),
            ]
        return m
