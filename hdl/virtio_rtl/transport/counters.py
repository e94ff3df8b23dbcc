"""Event counters that the host can read."""

from collections.abc import Sequence

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In

from virtio_rtl.regs.maps import COUNTERS, Counter
from virtio_rtl.regs.target import RegisterTarget
from virtio_rtl.types.regbus import RegisterBus

__all__ = ["Counters"]

_REGION_BITS = (COUNTERS.end - COUNTERS.start - 1).bit_length()
_TURN_MIN = 4  # a counter's turn comes again only after its last sum was written


class Counters(wiring.Component):
    """Event counters that stop at their maximum, in one memory.

    Parameters
    ----------
    counters
        Name and description of each; register n lies at byte 4 * n of the region.
    bits
        Width of each counter, 1 to 32.

    Ports
    -----
    bus: In(RegisterBus)
    events: In(data.StructLayout({name: 1}))
        Strobes, each may be set in every cycle.
    clear: In(1)
        Strobe: all counters to 0 (function reset; a device reset leaves them alone).

    Events gather in small counters that are added to the memory in turn, so that one adder serves
    all: an event shows in reads that begin ``max(len(counters), 4) + 4`` cycles later. After
    ``rst`` and ``clear`` all start from 0; for one turn and three cycles reads wait and events
    are not counted. Reads take two cycles; past the last counter they answer 0; writes are
    dropped.
    """

    def __init__(self, counters: Sequence[Counter], bits: int = 32):
        self.counters = tuple(counters)
        self.bits = bits
        if not 1 <= 4 * len(self.counters) <= COUNTERS.end - COUNTERS.start:
            raise ValueError(f"{len(self.counters)} counters do not fit their region")
        if not 1 <= bits <= 32:
            raise ValueError(f"bits = {bits!r}: 1 to 32")
        super().__init__(
            {
                "bus": In(RegisterBus()),
                "events": In(data.StructLayout({c.name: 1 for c in self.counters})),
                "clear": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.target = target = RegisterTarget()
        wiring.connect(m, wiring.flipped(self.bus), target.bus)
        turn = max(len(self.counters), _TURN_MIN)
        m.submodules.memory = memory = Memory(shape=self.bits, depth=turn, init=[])
        add_port = memory.read_port()
        bus_port = memory.read_port()
        write_port = memory.write_port()

        # A clear is a turn in which every sum is 0, whatever the memory held.
        slot = Signal(range(turn))
        clearing = Signal(range(turn + 4), init=turn + 3)
        m.d.sync += slot.eq(Mux(slot == turn - 1, 0, slot + 1))
        with m.If(clearing != 0):
            m.d.sync += clearing.eq(clearing - 1)
        with m.If(self.clear):
            m.d.sync += clearing.eq(turn + 3)

        # Strobes come at the end of long logic; what they do here starts from a register.
        events = Signal.like(self.events)
        counting = Signal()
        m.d.sync += [events.eq(self.events), counting.eq(clearing == 0)]

        gathered = [Signal(range(turn + 1), name=f"gathered_{c.name}") for c in self.counters]
        amount = Signal.like(gathered[0])
        slot_read = Signal.like(slot)
        m.d.sync += [amount.eq(0), slot_read.eq(slot)]
        with m.Switch(slot):
            for number, pending in enumerate(gathered):
                with m.Case(number):
                    m.d.sync += amount.eq(pending)
        for number, pending in enumerate(gathered):
            kept = Mux(slot == number, 0, pending)
            m.d.sync += pending.eq(Mux(counting, kept + events[self.counters[number].name], 0))

        total = Signal(max(self.bits, len(amount)) + 1)
        full = Signal()
        m.d.comb += [
            add_port.addr.eq(slot),
            total.eq(add_port.data + amount),
            full.eq(total[self.bits :].any()),
        ]
        m.d.sync += [
            write_port.en.eq(1),
            write_port.addr.eq(slot_read),
            write_port.data.eq(
                Mux(clearing != 0, 0, total[: self.bits] | full.replicate(self.bits))
            ),
        ]

        # The memory answers one cycle after the address, which the waiting access holds still.
        number = target.request.address[2:_REGION_BITS]
        answered = Signal()
        m.d.sync += answered.eq(target.waiting & ~target.read & ~target.write)
        m.d.comb += [
            bus_port.addr.eq(number),
            target.hold.eq(~answered | (clearing != 0)),
        ]
        with m.If(number < len(self.counters)):
            m.d.comb += target.read_data.eq(bus_port.data)
        return m
