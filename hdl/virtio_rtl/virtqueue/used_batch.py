"""What a completion does to the open batch of its virtqueue, and when a batch is closed."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..types.virtqueue import Completion
from .used_patience import AGE_BITS, is_young
from .used_position import UsedPosition, chosen
from .used_write import UsedBatch

__all__ = ["UsedBatching", "used_state"]


def used_state(rings: tuple[str, ...], in_order: bool) -> data.StructLayout:
    """A virtqueue's position in the used ring, and its open batch; 0 after a reset."""
    return data.StructLayout(
        {
            "index": 15,
            # Inverted wrap counter, so that 0 is its reset value.
            "wrapped": 1,
            # Buffers of the open batch, the positions that they take, and since when it is open.
            "count": 4,
            "span": 16 if in_order and "packed" in rings else 0,
            "since": AGE_BITS,
            # IN_ORDER: one entry stands for the whole open batch.
            "skips": 1 if in_order else 0,
            "bank": 2,
            # It stands in the list of those that wait.
            "listed": 1,
        }
    )


class UsedBatching(wiring.Component):
    """Adds a buffer to the open batch, or closes it because it has waited long enough.

    Parameters
    ----------
    batch, rings, in_order
        As in ``Used``.

    Ports
    -----
    packed : 1
        The ring format in use.
    state : ``used_state``, size : 16
        Of the virtqueue.
    appends, flushes : 1
        What is to be done: add ``completion``, or look at the time.
    completion : ``Completion``, skippable : 1
        A buffer; one that IN_ORDER may skip.
    busy : 1
        Buffers are still inside the device.
    now, young_from : 14
        See ``UsedPatience``.
    next_state : ``used_state``, changes : 1
        The state then, if it changes.
    slot : 4
        Of ``completion`` among the batch's entries.
    batch : ``UsedBatch``, closes : 1
        The batch, if it is closed now.
    lists : 1, since : 14
        To be looked at again, and from when on the wait counts.

    Combinational.
    """

    def __init__(self, batch: int, rings: tuple[str, ...], in_order: bool):
        self.batch_size = batch
        self.rings = rings
        self.in_order = in_order
        state = used_state(rings, in_order)
        super().__init__(
            {
                "packed": In(1),
                "state": In(state),
                "size": In(16),
                "appends": In(1),
                "flushes": In(1),
                "completion": In(Completion),
                "skippable": In(1),
                "busy": In(1),
                "now": In(AGE_BITS),
                "young_from": In(AGE_BITS),
                "next_state": Out(state),
                "changes": Out(1),
                "slot": Out(4),
                "batch": Out(UsedBatch),
                "closes": Out(1),
                "lists": Out(1),
                "since": Out(AGE_BITS),
            }
        )

    def elaborate(self, platform):
        m = Module()
        packed = chosen(self.rings, self.packed)
        state, completion, batch = self.state, self.completion, self.batch
        m.submodules.position = position = UsedPosition(self.rings)
        slots = Signal(16)
        m.d.comb += [
            slots.eq(Mux(packed, completion.slots, 1)),
            position.packed.eq(packed),
            position.size.eq(self.size),
            position.index.eq(state.index),
            position.wrapped.eq(state.wrapped),
            position.slots.eq(slots),
        ]

        # If one entry stands for several buffers it is the last one's, in the batch's first
        # place. So a buffer that must be written for itself may end such a batch.
        skips = state.skips if self.in_order else Const(0)
        span = state.span if len(state.span) else state.count
        extends = Signal()
        aligned = Signal()
        ends = Signal()
        some = Signal()
        low_bits = (self.batch_size - 1).bit_length()
        moved = Signal(low_bits)
        # Split: the ring's end is at a multiple of the batch, or the ring is smaller than that.
        mask = Mux(packed, self.batch_size - 1, self.size - 1)[:low_bits]
        m.d.comb += [
            some.eq(state.count != 0),
            extends.eq(self.skippable & (skips | ~some)),
            moved.eq(state.index + slots),
            aligned.eq((moved & mask) == 0),
            ends.eq(
                position.past_end
                | (state.count == self.batch_size - 1)
                | (~extends & (aligned | (slots != 1) | skips))
                # A lone buffer is given back at once.
                | ~self.busy
            ),
            self.slot.eq(Mux(skips, 0, state.count)),
            self.next_state.eq(state),
            self.since.eq(self.now),
            batch.queue.eq(completion.queue),
            batch.bank.eq(state.bank),
            batch.wrap.eq(~state.wrapped),
            batch.index.eq(state.index - span),
            batch.end.eq(Cat(self.next_state.index, self.next_state.wrapped ^ packed)),
        ]
        with m.If(self.appends):
            m.d.comb += [
                self.changes.eq(1),
                self.closes.eq(ends),
                self.next_state.index.eq(position.next_index),
                self.next_state.wrapped.eq(position.next_wrapped),
                self.next_state.count.eq(state.count + 1),
                self.next_state.span.eq(batch.moved),
                self.next_state.skips.eq(extends),
                batch.count.eq(Mux(skips, 1, state.count + 1)),
                batch.moved.eq(span + slots),
            ]
            with m.If(~ends):
                m.d.comb += [self.next_state.listed.eq(1), self.lists.eq(~state.listed)]
                with m.If(~some):
                    m.d.comb += self.next_state.since.eq(self.now)
        with m.Elif(self.flushes):
            m.d.comb += [
                batch.count.eq(Mux(skips, 1, state.count)),
                batch.moved.eq(span),
            ]
            with m.If(self.busy & some & is_young(state.since, self.young_from)):
                # The batch that was listed is gone; the one that is open now began later.
                m.d.comb += [self.lists.eq(1), self.since.eq(state.since)]
            with m.Else():
                m.d.comb += [
                    self.changes.eq(1),
                    self.closes.eq(some),
                    self.next_state.listed.eq(0),
                ]
        with m.If(self.closes):
            m.d.comb += [
                self.next_state.count.eq(0),
                self.next_state.span.eq(0),
                self.next_state.skips.eq(0),
                self.next_state.bank.eq(state.bank + 1),
            ]
        return m
