"""When the entropy device answers a request, and with how many bytes."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.stream import StreamFIFO
from ..types.virtqueue import Reply, Request

__all__ = ["TellReplies"]

_AHEAD = 16
"""Replies that may be told ahead of their bytes."""


class TellReplies(wiring.Component):
    """Tells each reply when all of its bytes are here, and keeps these for it.

    A reply that has been told therefore never waits for the source. One that has not may wait for
    it as long as the virtqueues may run. While they are to come to rest, it must not:

    - ``resetting``: a request gets what is here at once, even if that is nothing. All of them are
      of the virtqueue that is reset, whose driver looks at them no more. [virtio 1.4 §2.6.1]
    - ``suspending``: it gets what is here at once, but at least a byte; for that it waits. If no
      beat comes for ``patience`` cycles, the source is ``dry``, which is a failure: the device can
      neither answer nor enter suspend as it should. [virtio 1.4 §3.4, §5.4.6.2]
    - After a failure no request gets bytes any more, and none is answered but with nothing, in
      either of the two states.

    Parameters
    ----------
    width
        Data bits of a beat.
    longest
        Longest reply in bytes.
    held
        Beats that can wait at the source's queue, at least those of the longest reply.
    patience
        Cycles without a beat after which a source is ``dry``.

    Ports
    -----
    request : stream of ``Request``
    reply : stream of ``Reply``
        As at the door.
    length : stream of unsigned
        The lengths that are not 0, in bytes, in order.
    beat : 1
        Strobe: a beat has come, and waits from the next cycle on.
    resetting, suspending : 1
        Levels, see above.
    failed : 1
        Level, until a reset: the source has failed.
    dry : 1
        The same, found here. A register.

    One request a cycle; latency two cycles if the bytes are here. Beats that a reply does not need
    to its last byte are counted as used. All outgoing ``valid`` and ``ready`` are registers.
    """

    def __init__(self, width: int, longest: int, held: int, patience: int):
        if held * width < 8 * longest:
            raise ValueError(f"held = {held!r}: less than {longest} bytes")
        if patience < 1:
            raise ValueError(f"patience = {patience!r}: at least 1")
        self.width = width
        self.longest = longest
        self.held = held
        self.patience = patience
        super().__init__(
            {
                "request": In(stream.Signature(Request)),
                "reply": Out(stream.Signature(Reply)),
                "length": Out(stream.Signature(unsigned(longest.bit_length()))),
                "beat": In(1),
                "resetting": In(1),
                "suspending": In(1),
                "failed": In(1),
                "dry": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        lanes = self.width // 8
        bits = self.longest.bit_length()
        most = -(-self.longest // lanes)
        asked = data.StructLayout({"bytes": bits, "beats": range(most + 1)})
        m.submodules.asked = waiting = StreamFIFO(asked, 2)
        m.submodules.replies = replies = StreamFIFO(Reply, _AHEAD)
        m.submodules.lengths = lengths = StreamFIFO(unsigned(bits), _AHEAD)
        wiring.connect(m, replies.output, wiring.flipped(self.reply))
        wiring.connect(m, lengths.output, wiring.flipped(self.length))

        room = self.request.payload.writable
        least = Signal(bits)
        m.d.comb += [
            least.eq(Mux(room > self.longest, self.longest, room)),
            waiting.input.payload.bytes.eq(least),
            waiting.input.payload.beats.eq((least + (lanes - 1)) >> (lanes - 1).bit_length()),
            waiting.input.valid.eq(self.request.valid),
            self.request.ready.eq(waiting.input.ready),
        ]

        free = Signal(range(self.held + 1))  # beats that are here and belong to no reply
        wanted = waiting.output.payload
        usable, whole, now, told = Signal(), Signal(), Signal(), Signal()
        used = Signal.like(free)
        length = Signal(bits)
        broken = Signal()
        m.d.comb += [
            broken.eq(self.failed | self.dry),
            usable.eq(free.any() & ~broken),
            whole.eq((wanted.beats == 0) | (usable & (free >= wanted.beats))),
            now.eq(self.resetting | (self.suspending & (usable | broken))),
            used.eq(Mux(whole, wanted.beats, Mux(usable, free, 0))),
            length.eq(Mux(whole, wanted.bytes, Mux(usable, free * lanes, 0))),
            told.eq(
                waiting.output.valid & (whole | now) & replies.input.ready & lengths.input.ready
            ),
            waiting.output.ready.eq(told),
            replies.input.valid.eq(told),
            replies.input.payload.length.eq(length),
            lengths.input.valid.eq(told & used.any()),
            lengths.input.payload.eq(length),
        ]
        m.d.sync += free.eq(free + self.beat - Mux(told, used, 0))

        # Only a request that waits for a byte makes a suspend wait.
        still = Signal(range(self.patience))
        stuck = Signal()
        m.d.comb += stuck.eq(waiting.output.valid & self.suspending & ~whole & ~now)
        with m.If(~stuck):
            m.d.sync += still.eq(0)
        with m.Elif(still == self.patience - 1):
            m.d.sync += self.dry.eq(1)
        with m.Else():
            m.d.sync += still.eq(still + 1)
        return m
