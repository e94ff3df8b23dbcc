"""Follows chains of the split virtqueue into the read-ahead store."""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.stream import StreamFIFO
from ..types.virtqueue import Descriptor
from .split_estimate import chain_class, next_estimate
from .split_records import WINDOWS, WindowEntry, loaded_ticket, resolve_state
from .split_states import SplitStates

__all__ = ["SplitResolve"]


class SplitResolve(wiring.Component):
    """Takes chain after chain out of the window, one descriptor a cycle. [virtio 1.4 §2.7.5]

    A chain that leaves the window goes on in the virtqueue's next one if its next descriptor is
    there. Else, or if the read-ahead store is full, the virtqueue is rewound: tickets in flight
    are thrown away, ``SplitIssue`` asks for the rest of the chain, and then for the heads behind.
    What belongs to a head was written before ``avail.idx`` told of it, and is read after that, so
    what is in the window is always fresh.

    Only whole chains are committed to the walker, unless a chain is about to fill the store. Rules
    checked: NEXT leads into the table; INDIRECT has no NEXT [virtio 1.4 §2.7.5.3]; a chain has no
    more descriptors than the table. A chain that breaks one is ended with an indirect descriptor
    without a table, an error to the walker, unless none of its descriptors is stored; the
    virtqueue is not read any more. A failed read throws the ticket away, and nothing is read again
    before a doorbell; a chain that is partly committed then breaks as well, so that the walker
    does not wait for its end.

    Parameters
    ----------
    queues
        Virtqueues.
    batch, depth
        Steps in which the walker tells of room, and descriptors per virtqueue in the store.

    Ports
    -----
    loaded, window, offset, entry, free : to and from ``SplitWindow``
    state_queue -> state : what is known of a virtqueue, one cycle latency
    rearm : stream of 16 bits, to the scheduler
    committed : stream of 16 bits
        A virtqueue got descriptors for its walker.
    write_en, write_queue, write_pointer, write_descriptor, commit_en, commit_pointer
        To the read-ahead store; registers.
    failed : 1
        Strobe: a read failed, or a chain broke a rule.
    forget, forget_queue
        Strobe: forget everything about one virtqueue, of which nothing is in flight.
    idle : 1
        No ticket is being taken.

    One descriptor a cycle and two cycles per ticket.
    """

    def __init__(self, queues: int, batch: int, depth: int):
        self.queues = queues
        self.batch = batch
        self.depth = depth
        self.pointer_bits = (2 * depth - 1).bit_length()
        super().__init__(
            {
                "loaded": In(stream.Signature(loaded_ticket(self.pointer_bits))),
                "window": Out(range(WINDOWS)),
                "offset": Out(4),
                "entry": In(WindowEntry),
                "free": Out(1),
                "state_queue": In(16),
                "state": Out(resolve_state(self.pointer_bits)),
                "rearm": Out(stream.Signature(unsigned(16))),
                "committed": Out(stream.Signature(unsigned(16))),
                "write_en": Out(1),
                "write_queue": Out(16),
                "write_pointer": Out(self.pointer_bits),
                "write_descriptor": Out(Descriptor),
                "commit_en": Out(1),
                "commit_pointer": Out(self.pointer_bits),
                "failed": Out(1),
                "forget": In(1),
                "forget_queue": In(16),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        layout = resolve_state(self.pointer_bits)
        m.submodules.states = states = SplitStates(layout, self.queues)
        m.submodules.rearms = rearms = StreamFIFO(unsigned(16), 4)
        m.submodules.commits = commits = StreamFIFO(unsigned(16), 4)
        wiring.connect(m, rearms.output, wiring.flipped(self.rearm))
        wiring.connect(m, commits.output, wiring.flipped(self.committed))

        incoming = self.loaded.payload.ticket
        ticket = Signal(incoming.shape())
        window = Signal.like(self.window)
        now = Signal(layout)
        cursor = Signal(4)
        heads_left = Signal(5)  # behind the one at the cursor
        room = Signal(self.pointer_bits)
        length = Signal(3)  # of the chain so far, saturated
        # What becomes of the ticket.
        rewinds, overflows, ended = Signal(), Signal(), Signal()
        longest = Signal(2)
        error = Signal()
        others = Cat(*(ticket.offsets[i] for i in range(1, 16)))  # behind the next one
        m.d.comb += [
            states.read_queue.eq(incoming.queue),
            states.see_queue.eq(self.state_queue),
            self.state.eq(states.see_data),
            self.window.eq(window),
            self.offset.eq(cursor),
            rearms.input.payload.eq(ticket.queue),
            commits.input.payload.eq(ticket.queue),
        ]

        entry = self.entry
        chain_id, head_index = Signal(16), Signal(16)
        longer, kind = Signal(3), Signal(2)
        full = room == 0
        faulty = (entry.next & (entry.indirect | entry.beyond)) | (
            now.open & (now.slots == ticket.size)
        )
        m.d.comb += [
            head_index.eq(Cat(cursor, ticket.block) - ticket.area),
            chain_id.eq(Mux(now.open, now.id, head_index)),
            longer.eq(Mux(length == 7, 7, length + 1)),
            kind.eq(chain_class(longer)),
        ]
        stored = self.write_descriptor
        m.d.sync += [
            self.write_en.eq(0),
            self.write_queue.eq(ticket.queue),
            self.write_pointer.eq(now.pointer),
            *(
                getattr(stored, name).eq(getattr(entry, name))
                for name in ("address", "length", "next", "write", "indirect")
            ),
            stored.id.eq(chain_id),
            self.commit_en.eq(0),
            self.failed.eq(0),
        ]

        def end_chain():
            m.d.sync += [
                now.open.eq(0),
                now.parted.eq(0),
                now.slots.eq(0),
                now.committed.eq(now.pointer + 1),
                length.eq(0),
                ended.eq(1),
            ]

        # The store is full with little but this chain: the walker must make room in its midst.
        crowded = Signal()
        most = min(self.batch.bit_length() - 1, 3)
        result = Signal(layout)
        m.d.comb += [
            crowded.eq(
                now.open
                & full
                & ~error
                & ((now.pointer - now.committed)[: self.pointer_bits] > self.depth - 2 * self.batch)
            ),
            result.eq(now),
            result.epoch.eq(now.epoch ^ rewinds),
            result.chained.eq(now.chained ^ (ticket.heads == 0)),
            result.estimate.eq(
                next_estimate(now.estimate, most, longest=longest, ended=ended, overflows=overflows)
            ),
        ]
        with m.If(crowded):
            m.d.comb += [result.committed.eq(now.pointer), result.parted.eq(1)]
        m.d.sync += self.commit_pointer.eq(result.committed)
        known = states.read_data
        at = known.place
        behind = (at[:4] - incoming.low)[:5]
        comes_in = (at[4:] == incoming.block) & (behind < incoming.count)
        with m.FSM(name="split_resolve") as fsm:
            with m.State("IDLE"):
                with m.If(self.loaded.valid & ~states.busy):
                    m.next = "LOAD"
            with m.State("LOAD"):
                m.d.comb += self.loaded.ready.eq(1)
                m.d.sync += [
                    ticket.eq(incoming),
                    window.eq(self.loaded.payload.window),
                    now.eq(known),
                    room.eq(incoming.limit - known.pointer),
                    length.eq(Mux(known.slots[3:].any(), 7, known.slots[:3])),
                    rewinds.eq(0),
                    overflows.eq(0),
                    ended.eq(0),
                    longest.eq(0),
                    error.eq(0),
                    heads_left.eq(incoming.heads),
                ]
                with m.If(known.open):
                    m.d.sync += cursor.eq(at[:4])
                with m.Else():
                    m.d.sync += [
                        cursor.eq(incoming.offsets[0]),
                        ticket.offsets.eq(Cat(*(incoming.offsets[i] for i in range(1, 16)))),
                        heads_left.eq(incoming.heads - 1),
                    ]
                m.next = "RUN"
                with m.If((incoming.epoch != known.epoch) | known.halted):
                    m.d.comb += self.free.eq(1)
                    m.next = "IDLE"
                with m.Elif(incoming.lost | self.loaded.payload.error):
                    m.d.sync += [rewinds.eq(1), error.eq(1)]
                    m.next = "SETTLE"
                    with m.If(known.parted):
                        m.next = "BREAK"
                with m.Elif(known.open & (incoming.bad | ~comes_in)):
                    m.d.sync += rewinds.eq(1)
                    m.next = "SETTLE"
                with m.Elif(incoming.bad):
                    m.next = "BREAK"
            with m.State("RUN"):
                with m.If(full):
                    m.d.sync += [
                        rewinds.eq(1),
                        overflows.eq(1),
                        now.place.eq(Cat(cursor, ticket.block)),
                    ]
                    m.next = "SETTLE"
                with m.Elif(faulty):
                    m.next = "BREAK"
                with m.Else():
                    m.d.sync += [
                        self.write_en.eq(1),
                        now.pointer.eq(now.pointer + 1),
                        room.eq(room - 1),
                        now.id.eq(chain_id),
                    ]
                    with m.If(kind > longest):
                        m.d.sync += longest.eq(kind)
                    with m.If(~now.open):
                        m.d.sync += now.position.eq(now.position + 1)
                    with m.If(entry.next):
                        m.d.sync += [
                            now.open.eq(1),
                            now.slots.eq(now.slots + 1),
                            length.eq(longer),
                            cursor.eq(entry.offset),
                            now.place.eq(Cat(entry.offset, entry.block)),
                        ]
                        with m.If(~entry.inside):
                            m.d.sync += rewinds.eq(heads_left != 0)
                            m.next = "SETTLE"
                    with m.Else():
                        end_chain()
                        m.d.sync += [
                            heads_left.eq(heads_left - 1),
                            cursor.eq(ticket.offsets[0]),
                            ticket.offsets.eq(others),
                        ]
                        with m.If(heads_left == 0):
                            m.next = "SETTLE"
            with m.State("BREAK"):
                with m.If(now.open):
                    m.d.sync += [
                        self.write_en.eq(1),
                        stored.eq(0),
                        stored.id.eq(now.id),
                        stored.indirect.eq(1),
                        now.pointer.eq(now.pointer + 1),
                    ]
                    end_chain()
                m.d.sync += [now.halted.eq(1), self.failed.eq(1)]
                m.next = "SETTLE"
            with m.State("SETTLE"):
                with m.If(rearms.input.ready & commits.input.ready):
                    m.d.comb += [
                        states.write_en.eq(1),
                        self.free.eq(1),
                        rearms.input.valid.eq(~error),
                        commits.input.valid.eq(ended | crowded),
                    ]
                    m.d.sync += [
                        self.commit_en.eq(ended | crowded),
                        self.failed.eq(error & ~now.halted),
                    ]
                    m.next = "IDLE"
                    with m.If(self.loaded.valid):
                        m.next = "LOAD"

        leaving = rearms.output.valid | commits.output.valid
        m.d.comb += [
            self.idle.eq(fsm.ongoing("IDLE") & ~(states.busy | self.loaded.valid | leaving)),
            states.queue.eq(ticket.queue),
            states.write_data.eq(result),
            states.forget.eq(self.forget),
            states.forget_queue.eq(self.forget_queue),
        ]
        return m
