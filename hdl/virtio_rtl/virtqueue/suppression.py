"""Publishes the device's own event suppression state: hop 10."""

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import enum, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.stream import SkidBuffer, StreamFIFO
from ..types.dma import WriteRequest
from ..types.packet import packet_stream
from ..types.virtqueue import SuppressionUpdate

__all__ = ["EventFlags", "Suppression"]


class EventFlags(enum.Enum, shape=unsigned(2)):
    """Flags of the packed event suppression structures. [virtio 1.4 §2.8.14]"""

    ENABLE = 0
    DISABLE = 1
    DESCRIPTOR = 2
    RESERVED = 3


class Suppression(wiring.Component):
    """Writes the device's event suppression fields, and asks for a second look behind the write.

    With packed virtqueues that is the device event suppression structure [virtio 1.4 §2.8.14],
    with split ones ``used.flags`` or ``avail_event`` [virtio 1.4 §2.7.10].

    The second look starts when the write has been accepted by the posted path: the read that it
    causes stays behind the write, so a driver that did not notify before it saw what was written
    has made its buffers available before that read.

    Parameters
    ----------
    width
        Bits of a packet beat.

    Ports
    -----
    update : stream of ``SuppressionUpdate``
    request, packet, done : client of the write engine
    recheck : stream of 16 bits
        Virtqueues to look at again, to the scheduler.

    idle : 1
        No write and no second look is on its way.

    One update every two cycles; up to 4 in flight. A write is offered one cycle after its update
    was taken, a second look one cycle after its write was accepted.
    """

    def __init__(self, width: int):
        self.width = width
        super().__init__(
            {
                "update": In(stream.Signature(SuppressionUpdate)),
                "request": Out(stream.Signature(WriteRequest)),
                "packet": Out(packet_stream(width)),
                "done": In(stream.Signature(unsigned(1))),
                "recheck": Out(stream.Signature(unsigned(16))),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.waiting = waiting = StreamFIFO(SuppressionUpdate, 4)
        # Nobody waits for the writes or the second looks: registers at both doors.
        m.submodules.updates = updates = SkidBuffer(SuppressionUpdate)
        m.submodules.rechecks = rechecks = StreamFIFO(unsigned(16), 2)
        wiring.connect(m, wiring.flipped(self.update), updates.input)
        wiring.connect(m, rechecks.output, wiring.flipped(self.recheck))
        update = updates.output.payload
        request_sent = Signal()
        m.d.comb += [
            self.request.payload.address.eq(update.address),
            self.request.payload.length.eq(update.length),
            self.request.payload.last.eq(1),
            self.packet.payload.data.eq(update.data),
            self.packet.payload.count.eq(update.length),
            self.packet.payload.last.eq(1),
            waiting.input.payload.eq(update),
        ]
        with m.If(~request_sent):
            m.d.comb += self.request.valid.eq(updates.output.valid & waiting.input.ready)
            with m.If(self.request.valid & self.request.ready):
                m.d.comb += waiting.input.valid.eq(1)
                m.d.sync += request_sent.eq(1)
        # The write engine takes a request only beside its data, so both are offered at once.
        packet_sent = Signal()
        m.d.comb += self.packet.valid.eq(
            updates.output.valid & (waiting.input.ready | request_sent) & ~packet_sent
        )
        with m.If(self.packet.valid & self.packet.ready):
            m.d.sync += packet_sent.eq(1)
        with m.If(request_sent & packet_sent):
            m.d.comb += updates.output.ready.eq(1)
            m.d.sync += [request_sent.eq(0), packet_sent.eq(0)]

        again = waiting.output.payload.recheck
        m.d.comb += [
            self.idle.eq(~(updates.output.valid | waiting.output.valid | rechecks.output.valid)),
            rechecks.input.payload.eq(waiting.output.payload.queue),
            rechecks.input.valid.eq(waiting.output.valid & self.done.valid & again),
            waiting.output.ready.eq(self.done.valid & (rechecks.input.ready | ~again)),
            self.done.ready.eq(waiting.output.valid & (rechecks.input.ready | ~again)),
        ]
        return m
