"""What the driver's answer means: an interrupt, or none."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .event_idx import EventPassed
from .suppression import EventFlags
from .used_position import chosen

__all__ = ["EventAsked", "EventWanted"]


class EventAsked(data.StructLayout):
    """A read in flight: of which virtqueue, and (with EVENT_IDX) what it is to decide on."""

    def __init__(self, event_idx: bool):
        position = {"index": 16, "count": 16, "size": 16} if event_idx else {}
        super().__init__({"queue": 16} | position)


class EventWanted(wiring.Component):
    """Decides on an interrupt.

    Packed [virtio 1.4 §2.8.14]: flags DISABLE wants none; DESCRIPTOR, if EVENT_IDX was accepted,
    one when the slot has been passed. Everything else counts as "interrupts wanted". Split without
    EVENT_IDX [virtio 1.4 §2.7.7]: bit 0 of the flags wants none; with it, whether ``used_event``
    has been passed, and nothing else.

    Parameters
    ----------
    rings
        Ring formats that are built.
    event_idx
        Event positions are built.

    Ports
    -----
    packed, event_idx : 1
        What was negotiated.
    asked : ``EventAsked``
    answer : 32
        What was read: 4 bytes (packed) or 2.
    wanted : 1

    Combinational.
    """

    def __init__(self, rings: tuple[str, ...], event_idx: bool):
        self.rings = rings
        self.with_event_idx = event_idx
        super().__init__(
            {
                "packed": In(1),
                "event_idx": In(1),
                "asked": In(EventAsked(event_idx)),
                "answer": In(32),
                "wanted": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        packed = chosen(self.rings, self.packed)
        flags = EventFlags(self.answer[16:18])
        passed = Signal(init=1)
        if self.with_event_idx:
            m.submodules.arithmetic = arithmetic = EventPassed(self.rings)
            m.d.comb += [
                arithmetic.packed.eq(packed),
                arithmetic.size.eq(self.asked.size),
                arithmetic.index.eq(self.asked.index),
                arithmetic.count.eq(self.asked.count),
                arithmetic.event.eq(self.answer[:16]),
                passed.eq(arithmetic.passed | ~self.event_idx),
            ]
        with m.If(packed):
            m.d.comb += self.wanted.eq(
                (flags != EventFlags.DISABLE) & ((flags != EventFlags.DESCRIPTOR) | passed)
            )
        with m.Else():
            m.d.comb += self.wanted.eq(passed & (self.event_idx | ~self.answer[0]))
        return m
