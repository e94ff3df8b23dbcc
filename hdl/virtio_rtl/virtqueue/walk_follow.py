"""Follows chains through indirect tables."""

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .descriptor_stream import DescriptorBeat
from .ring_item import RingItem
from .walk_landing import TableEntry, split_links

__all__ = ["WalkFollow"]


class WalkFollow(wiring.Component):
    """Puts the descriptors of indirect tables where the ring pointed at them.

    A packed table is one chain from its first entry to its last; only WRITE counts in it
    [virtio 1.4 §2.8.19]. In a split one the chain begins at entry 0 and goes where ``next`` says
    [virtio 1.4 §2.7.5.3]: to the entry behind, at full rate; further on, past entries that are
    skipped as they come; or back, or behind what was asked for ahead, by single reads. What is
    left of a table when its chain ends is thrown away.

    Errors of a split table, besides a chunk or a descriptor that cannot be read: an indirect
    descriptor inside; a link to an entry that the table does not have; a chain of more descriptors
    than the table or the virtqueue has [virtio 1.4 §2.7.5.3.1], which also ends a loop. Such a
    chain ends in a segment of no length.

    Parameters
    ----------
    rings
        Ring formats of the device. Without "split" this is nothing but a multiplexer.

    Ports
    -----
    packed : 1
        The rings are packed. Ignored where only one format is built.
    item : stream of ``RingItem``; entry : stream of ``TableEntry``
        A chunk's item keeps the address and length of its table.
    output : stream of ``RingItem``, none of them a chunk; combinational from ``item``
    freed : 1
        An entry was used or thrown away.
    jump_request : stream of 64 bits; jump_answer : stream of ``DescriptorBeat``
        Read one descriptor of a split table. One at a time.

    One descriptor a cycle; a skipped entry costs a cycle, the first of them one more; a single
    read costs its round trip and four cycles.
    """

    def __init__(self, rings: tuple[str, ...] = ("packed",)):
        self.rings = rings
        members = {
            "packed": In(1),
            "item": In(stream.Signature(RingItem)),
            "entry": In(stream.Signature(TableEntry)),
            "output": Out(stream.Signature(RingItem)),
            "freed": Out(1),
        }
        if "split" in rings:
            members |= {
                "jump_request": Out(stream.Signature(unsigned(64))),
                "jump_answer": In(stream.Signature(DescriptorBeat)),
            }
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        item, entry, output = self.item.payload, self.entry.payload, self.output.payload
        m.d.comb += [
            output.eq(item),
            output.table.eq(0),
            output.last.eq(item.last & (~item.table | entry.last)),
            output.error.eq(item.error | (item.table & entry.error)),
            self.output.valid.eq(self.item.valid & (~item.table | self.entry.valid)),
            self.item.ready.eq(self.output.ready & (~item.table | (self.entry.valid & entry.last))),
            self.entry.ready.eq(self.item.valid & item.table & self.output.ready),
            self.freed.eq(self.entry.valid & self.entry.ready),
        ]
        with m.If(item.table):
            m.d.comb += [
                output.address.eq(entry.address),
                output.length.eq(entry.length),
                output.writable.eq(entry.writable),
            ]
        if "split" in self.rings:
            self._follow(m)
        return m

    def _follow(self, m: Module) -> None:
        """The links of split tables; overrides the plain case where they lead elsewhere."""
        item, entry, output = self.item.payload, self.entry.payload, self.output.payload
        linked = item.table if "packed" not in self.rings else item.table & ~self.packed
        # What was asked for ahead ends with this entry. It stays at the front while the chain is
        # followed by single reads, and keeps its item.
        final = item.last & entry.last
        moves = self.output.valid & self.output.ready

        front = Signal(16)  # number of the entry at the front
        behind = Signal(16, init=1)  # front + 1
        walked = Signal(16)  # descriptors of the chain that were given so far
        target = Signal(16)
        held = Signal()  # the chain has used the final entry, and goes on
        ahead = Signal()  # the target may still come
        jumped = Signal(DescriptorBeat)
        chained, writable, indirect, following = split_links(jumped.descriptor)
        bad = jumped.error | indirect
        address = Signal(64)
        m.d.comb += self.jump_request.payload.eq(address)

        def drop():
            """Throw the entry at the front away."""
            m.d.comb += [
                self.entry.ready.eq(self.item.valid),
                self.item.ready.eq(self.entry.valid & entry.last),
            ]

        def only(valid):
            """Nothing of the plain case happens, but the output has something else to give."""
            m.d.comb += [
                self.output.valid.eq(valid),
                self.entry.ready.eq(0),
                self.item.ready.eq(0),
            ]

        with m.If(linked & moves):
            m.d.sync += walked.eq(walked + 1)
        with m.If(linked & self.freed):
            m.d.sync += [front.eq(behind), behind.eq(behind + 1)]
            with m.If(final):
                m.d.sync += [front.eq(0), behind.eq(1), walked.eq(0)]

        with m.FSM(name="walk_follow"):
            with m.State("STREAM"):
                with m.If(linked):
                    m.d.comb += [
                        output.last.eq(~entry.chained),
                        output.error.eq(item.error | entry.error | entry.indirect),
                    ]
                    with m.If(final & entry.chained):
                        m.d.comb += [self.entry.ready.eq(0), self.item.ready.eq(0)]
                with m.If(linked & moves):
                    m.d.sync += [target.eq(entry.next), held.eq(final)]
                    with m.If(~entry.chained):
                        with m.If(~final):
                            m.next = "FINISH"
                    with m.Elif(entry.error | entry.indirect):
                        m.next = "FAIL"
                    with m.Elif((entry.next != behind) | final):
                        m.next = "DECIDE"
            with m.State("DECIDE"):
                only(0)
                m.d.sync += ahead.eq(~held & (target >= front))
                m.next = "SKIP"
            with m.State("SKIP"):
                only(0)
                with m.If(self.item.valid & self.entry.valid):
                    with m.If(ahead & (target == front)):
                        m.next = "STREAM"
                    with m.Elif(final):
                        m.next = "AIM"
                    with m.Else():
                        drop()
            with m.State("AIM"):
                only(0)
                m.d.sync += address.eq(item.address + (target << 4))
                m.next = "ASK"
                # A chain of as many descriptors as there are ahead is as long as it may be.
                with m.If((target >= item.length[4:]) | (walked > front)):
                    m.next = "FAIL"
            with m.State("ASK"):
                only(0)
                m.d.comb += self.jump_request.valid.eq(1)
                with m.If(self.jump_request.ready):
                    m.next = "ANSWER"
            with m.State("ANSWER"):
                only(0)
                m.d.comb += self.jump_answer.ready.eq(1)
                m.d.sync += jumped.eq(self.jump_answer.payload)
                with m.If(self.jump_answer.valid):
                    m.next = "JUMPED"
            with m.State("JUMPED"):
                only(1)
                m.d.comb += [
                    output.address.eq(jumped.descriptor.address),
                    output.length.eq(jumped.descriptor.length),
                    output.writable.eq(writable),
                    output.last.eq(~chained),
                    output.error.eq(item.error | bad),
                ]
                with m.If(self.output.ready):
                    m.d.sync += target.eq(following)
                    with m.If(~chained):
                        m.next = "FINISH"
                    with m.Elif(bad):
                        m.next = "FAIL"
                    with m.Else():
                        m.next = "AIM"
            with m.State("FAIL"):
                only(self.item.valid)
                m.d.comb += [
                    output.address.eq(0),
                    output.length.eq(0),
                    output.writable.eq(0),
                    output.last.eq(1),
                    output.error.eq(1),
                ]
                with m.If(self.output.valid & self.output.ready):
                    m.next = "FINISH"
            with m.State("FINISH"):
                only(0)
                drop()
                with m.If(self.freed & final):
                    m.next = "STREAM"
