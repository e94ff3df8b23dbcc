"""Notification structure: driver notifications become doorbells."""

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from virtio_rtl.lib.stream import SkidBuffer
from virtio_rtl.regs.target import RegisterTarget
from virtio_rtl.types.regbus import RegisterBus
from virtio_rtl.types.virtqueue import Doorbell

__all__ = ["Notify"]


class Notify(wiring.Component):
    """Turns a write of a virtqueue index into a doorbell. [virtio 1.4 §4.1.4.4, §4.1.5.2]

    Parameters
    ----------
    queues
        Number of virtqueues.

    Ports
    -----
    bus: In(RegisterBus)
    doorbell: Out(stream Doorbell)
    discard: In(1)
        Drop notifications: a reset is under way.
    bad_doorbell: Out(1)
        Strobe: a write was dropped because no such virtqueue exists, or because it does not
        cover the 16 bits of the index.

    16 and 32-bit writes count; the virtqueue is the low half of the value, wherever in the region
    it was written. Reads answer 0. One doorbell per cycle, one cycle after the write; only two
    untaken doorbells make the bus wait, in the order of the writes. ``doorbell.ready`` and the
    bus do not meet in logic.

    Limitation: no NOTIFICATION_DATA, so ``next_offset`` and ``next_wrap`` are 0.
    """

    def __init__(self, queues: int):
        self.queues = queues
        super().__init__(
            {
                "bus": In(RegisterBus()),
                "doorbell": Out(stream.Signature(Doorbell)),
                "discard": In(1),
                "bad_doorbell": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.target = target = RegisterTarget()
        wiring.connect(m, wiring.flipped(self.bus), target.bus)
        index = target.request.data[:16]
        good = target.request.byte_enable[:2].all() & (index < self.queues)
        m.submodules.buffer = buffer = SkidBuffer(Doorbell)
        wiring.connect(m, buffer.output, wiring.flipped(self.doorbell))
        m.d.comb += [
            target.hold.eq(~buffer.input.ready & target.request.write & ~self.discard),
            self.bad_doorbell.eq(
                target.write & ~self.discard & target.request.byte_enable.any() & ~good
            ),
            buffer.input.valid.eq(target.write & good & ~self.discard),
            buffer.input.payload.queue.eq(index),
        ]
        return m
