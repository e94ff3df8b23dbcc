"""Has an event position been passed?"""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .used_position import chosen

__all__ = ["EventPassed"]


class EventPassed(wiring.Component):
    """Is the event position one of the last ``count`` positions before ``index``?

    Split [virtio 1.4 §2.7.7.2, §2.7.10]: positions are free-running numbers of 16 bits, and the
    answer is ``(u16)(index - event - 1) < (u16)(index - old)`` with ``old = index - count``.

    Packed [virtio 1.4 §2.8.10, §2.8.14]: positions are ring slots, with a wrap counter in bit 15.
    The same formula holds for slots counted from the beginning of the lap that ``index`` is in:
    ``size`` is subtracted from an event of the other lap.

    Parameters
    ----------
    rings
        Ring formats that are built.

    Ports
    -----
    packed : 1
        The ring format in use.
    size : 16
        Slots of a packed virtqueue, 1 to 32768, any number.
    index : 16
        The position behind what was moved on, as in ``UsedProgress``.
    count : 16
        Positions moved on since the last decision; 65535 if there are more.
    event : 16
        The position that the other side asks for.
    passed : 1

    Combinational. Limitation: a packed event that is not a slot of the ring gives any answer.
    """

    def __init__(self, rings: tuple[str, ...]):
        self.rings = rings
        super().__init__(
            {
                "packed": In(1),
                "size": In(16),
                "index": In(16),
                "count": In(16),
                "event": In(16),
                "passed": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        packed = chosen(self.rings, self.packed)
        other_lap = Signal()
        index, event, since = Signal(16), Signal(16), Signal(16)
        m.d.comb += [
            other_lap.eq(packed & (self.index[15] ^ self.event[15])),
            index.eq(Cat(self.index[:15], self.index[15] & ~packed)),
            event.eq(Cat(self.event[:15], self.event[15] & ~packed)),
            # Positions behind the event's own; the event comes last, so its sum does.
            since.eq(index + Mux(other_lap, self.size, 0) + ~event),
            self.passed.eq(since < self.count),
        ]
        return m
