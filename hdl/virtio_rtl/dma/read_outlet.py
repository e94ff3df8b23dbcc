"""What a client has not taken yet."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from virtio_rtl.dma.read_records import strobe
from virtio_rtl.types.packet import packet_beat, packet_stream

__all__ = ["ReadOutlet"]


class ReadOutlet(wiring.Component):
    """One client's packet FIFO: it lets a beat through at once, and counts the room for more.

    Parameters
    ----------
    width
        Data bits of a beat.
    depth
        Beats, at least 2.
    max_claim
        Most beats that are claimed at once.

    Ports
    -----
    claimed : In(strobe(range(max_claim + 1)))
        So many beats will come; there is room for them.
    room : Out(range(depth + 1))
        Room that is not claimed; a beat that left counts one cycle later.
    beat : In(strobe(packet_beat(width)))
    packet : Out(packet_stream(width))

    One beat per cycle; no latency when empty, else one cycle. ``packet.valid`` is one level of
    logic behind ``beat.valid``, its payload one multiplexer behind that of ``beat``.
    """

    def __init__(self, width: int, depth: int, max_claim: int):
        self.width = width
        self.depth = depth
        super().__init__(
            {
                "claimed": In(strobe(range(max_claim + 1))),
                "room": Out(range(depth + 1)),
                "beat": In(strobe(packet_beat(width))),
                "packet": Out(packet_stream(width)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        shape = packet_beat(self.width)
        m.submodules.beats = beats = memory.Memory(shape=shape, depth=self.depth, init=[])
        write, read = beats.write_port(), beats.read_port(domain="comb")
        write_index = Signal(range(self.depth))
        read_index = Signal(range(self.depth))
        level = Signal(range(self.depth + 1))
        holds = Signal()
        arrives, leaves = self.beat.valid, Signal()
        m.d.comb += [
            # Written even if it leaves at once, so that the write does not wait for the client.
            write.en.eq(arrives),
            write.addr.eq(write_index),
            write.data.eq(self.beat.payload),
            read.addr.eq(read_index),
            self.packet.valid.eq(holds | arrives),
            self.packet.payload.eq(Mux(holds, read.data, self.beat.payload)),
            leaves.eq(self.packet.valid & self.packet.ready),
        ]
        with m.If(arrives):
            m.d.sync += write_index.eq(Mux(write_index == self.depth - 1, 0, write_index + 1))
        with m.If(leaves):
            m.d.sync += read_index.eq(Mux(read_index == self.depth - 1, 0, read_index + 1))
        with m.If(arrives ^ leaves):
            m.d.sync += [
                level.eq(level + Mux(arrives, 1, -1)),
                holds.eq(arrives | (level != 1)),
            ]

        left = Signal()
        more_room = Signal.like(self.room)
        room = Signal(range(self.depth + 1), init=self.depth)
        m.d.comb += [self.room.eq(room), more_room.eq(room + left)]
        m.d.sync += [
            left.eq(leaves),
            room.eq(Mux(self.claimed.valid, more_room - self.claimed.payload, more_room)),
        ]
        return m
