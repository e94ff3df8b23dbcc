"""Where the next used buffer goes, in either ring format."""

from amaranth.hdl import Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["UsedPosition", "chosen"]

_SPLIT_LAP = 1 << 15


def chosen(rings: tuple[str, ...], packed):
    """The ring format in use: ``packed`` if both are built, else a constant."""
    return packed if len(rings) == 2 else Const("packed" in rings)


class UsedPosition(wiring.Component):
    """Moves a position in a used ring on. [virtio 1.4 §2.7.8, §2.8.1, §2.8.7]

    A packed ring has ``size`` slots, any number, and a wrap counter that toggles behind the last
    one. A split ring's index is a free-running number of 16 bits: its upper bit toggles every
    32768 positions, like the wrap counter of a packed ring of that size.

    Parameters
    ----------
    rings
        Ring formats that are built.

    Ports
    -----
    packed : 1
        The ring format in use.
    size : 16
        Virtqueue size, 1 to 32768.
    index : 15, wrapped : 1
        The position; ``wrapped`` is 0 in the first lap.
    slots : 16
        Positions to move on: at most ``size``.
    next_index : 15, next_wrapped : 1
        The position then.
    past_end : 1
        It is in the next lap.

    Combinational.
    """

    def __init__(self, rings: tuple[str, ...]):
        self.rings = rings
        super().__init__(
            {
                "packed": In(1),
                "size": In(16),
                "index": In(15),
                "wrapped": In(1),
                "slots": In(16),
                "next_index": Out(15),
                "next_wrapped": Out(1),
                "past_end": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        lap = Mux(chosen(self.rings, self.packed), self.size, _SPLIT_LAP)
        moved = Signal(17)
        beyond = Signal(signed(18))  # positions past the lap's end
        m.d.comb += [
            moved.eq(self.index + self.slots),
            # So that only one sum waits for the position.
            beyond.eq(self.index + (self.slots - lap)),
            self.past_end.eq(beyond >= 0),
            self.next_index.eq(Mux(self.past_end, beyond, moved)),
            self.next_wrapped.eq(self.wrapped ^ self.past_end),
        ]
        return m
