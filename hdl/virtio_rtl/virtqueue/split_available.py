"""Takes what was read of available rings."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.stream import SkidBuffer, StreamFIFO
from ..types.packet import packet_stream
from ..types.virtqueue import QueueLookup
from .entry_stream import EntryStream
from .split_records import RingReadKind, available_state, ring_read, split_entry
from .split_states import SplitStates

__all__ = ["SplitAvailable"]

_MANY = 8
"""As many new buffers since the last look are a flood."""


class SplitAvailable(wiring.Component):
    """Notes each ``avail.idx``, and hands heads on one by one. [virtio 1.4 §2.7.6]

    A piece of the available ring lies in one aligned piece of 32 bytes, so that it is one read on
    the bus, and each of its beats tells of an error. A failed read of ``avail.idx`` changes
    nothing; a failed piece is handed on as one ``lost`` entry, a head that is not in the
    descriptor table as a ``bad`` one.

    Parameters
    ----------
    width
        Bits of a packet beat.
    queues
        Virtqueues.
    depth
        Descriptors per virtqueue in the read-ahead store.

    Ports
    -----
    read : stream of ``ring_read``, in the order of the packets
    packet : packet_stream(width)
    lookup : ``QueueLookup``
    state_queue -> state : what is known of a virtqueue, one cycle latency
    entry : stream of ``split_entry``, from registers
    rearm : stream of 16 bits
        Virtqueues whose ``avail.idx`` has come; to the scheduler.
    failed : 1
        Strobe: a read of ``avail.idx`` has failed.
    forget, forget_queue
        Strobe: forget everything about one virtqueue, of which nothing is in flight.
    idle : 1
        Nothing is being taken.

    One head a cycle, and one cycle per read. An index comes to ``rearm`` two cycles after its
    packet, a head to ``entry`` as well.
    """

    def __init__(self, width: int, queues: int, depth: int):
        self.width = width
        self.queues = queues
        self.pointer_bits = (2 * depth - 1).bit_length()
        super().__init__(
            {
                "read": In(stream.Signature(ring_read(self.pointer_bits))),
                "packet": In(packet_stream(width)),
                "lookup": Out(QueueLookup()),
                "state_queue": In(16),
                "state": Out(available_state()),
                "entry": Out(stream.Signature(split_entry(self.pointer_bits))),
                "rearm": Out(stream.Signature(unsigned(16))),
                "failed": Out(1),
                "forget": In(1),
                "forget_queue": In(16),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        layout = available_state()
        m.submodules.states = states = SplitStates(layout, self.queues)
        m.submodules.entries = entries = EntryStream(self.width)
        m.submodules.rearms = rearms = StreamFIFO(unsigned(16), 4)
        wiring.connect(m, wiring.flipped(self.packet), entries.packet)
        wiring.connect(m, rearms.output, wiring.flipped(self.rearm))
        read = self.read.payload
        config = self.lookup.config
        known = states.read_data
        m.d.comb += [
            states.read_queue.eq(read.queue),
            self.lookup.queue.eq(read.queue),
            states.see_queue.eq(self.state_queue),
            self.state.eq(states.see_data),
            rearms.input.payload.eq(read.queue),
        ]
        source = entries.output
        value = source.payload.value
        news = Signal(16)
        m.d.comb += [
            news.eq(value - known.known),
            states.queue.eq(read.queue),
            states.write_data.answered.eq(~known.answered),
            states.write_data.found.eq(news.any() & ~source.payload.error),
            states.write_data.known.eq(Mux(source.payload.error, known.known, value)),
        ]
        with m.If(news >= _MANY):
            m.d.comb += states.write_data.streak.eq(known.streak + (known.streak != 3))
        with m.Else():
            m.d.comb += states.write_data.streak.eq(known.streak >> 1)

        m.submodules.leaving = leaving = SkidBuffer(self.entry.payload.shape())
        wiring.connect(m, leaving.output, wiring.flipped(self.entry))
        entry = leaving.input.payload
        free = leaving.input.ready

        def hand_on(*, place, chain, bad, lost, last):
            m.d.comb += [
                leaving.input.valid.eq(1),
                entry.queue.eq(read.queue),
                entry.epoch.eq(read.epoch),
                entry.limit.eq(read.limit),
                entry.estimate.eq(read.estimate),
                entry.size.eq(config.size),
                entry.descriptor_area.eq(config.descriptor_area),
                entry.place.eq(place),
                entry.chain.eq(chain),
                entry.bad.eq(bad),
                entry.lost.eq(lost),
                entry.last.eq(last),
            ]

        m.d.sync += self.failed.eq(0)
        with m.FSM(name="split_available") as fsm:
            with m.State("LOOK"):
                with m.If(self.read.valid & ~states.busy):
                    m.next = "SERVE"
            with m.State("SERVE"):
                with m.Switch(read.kind):
                    with m.Case(RingReadKind.INDEX):
                        with m.If(source.valid & rearms.input.ready):
                            m.d.comb += [
                                source.ready.eq(1),
                                self.read.ready.eq(1),
                                states.write_en.eq(1),
                                rearms.input.valid.eq(~source.payload.error),
                            ]
                            m.d.sync += self.failed.eq(source.payload.error)
                            m.next = "LOOK"
                    with m.Case(RingReadKind.HEADS):
                        with m.If(source.valid & free):
                            m.d.comb += [
                                source.ready.eq(1),
                                self.read.ready.eq(source.payload.last),
                            ]
                            hand_on(
                                place=value + config.descriptor_area[4:8],
                                chain=0,
                                bad=(value >= config.size) & ~source.payload.error,
                                lost=source.payload.error,
                                last=source.payload.last | source.payload.error,
                            )
                            with m.If(source.payload.last):
                                m.next = "LOOK"
                            with m.Elif(source.payload.error):
                                m.next = "SKIP"
                    with m.Case(RingReadKind.CHAIN):
                        with m.If(free):
                            m.d.comb += self.read.ready.eq(1)
                            hand_on(place=read.place, chain=1, bad=0, lost=0, last=1)
                            m.next = "LOOK"
            with m.State("SKIP"):
                m.d.comb += source.ready.eq(1)
                with m.If(source.valid & source.payload.last):
                    m.d.comb += self.read.ready.eq(1)
                    m.next = "LOOK"

        m.d.comb += [
            self.idle.eq(
                fsm.ongoing("LOOK") & ~states.busy & ~self.entry.valid & ~rearms.output.valid
            ),
            states.forget.eq(self.forget),
            states.forget_queue.eq(self.forget_queue),
        ]
        return m
