"""Notification structure: driver notifications become doorbells."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from virtio_rtl.lib.stream import SkidBuffer
from virtio_rtl.regs.maps import NOTIF_CONFIG_DATA
from virtio_rtl.regs.target import RegisterTarget
from virtio_rtl.types.regbus import RegisterBus
from virtio_rtl.types.virtqueue import Doorbell

__all__ = ["Notify"]


class Notify(wiring.Component):
    """Turns a driver's write into the doorbell of a virtqueue. [virtio 1.4 §4.1.4.4, §4.1.5.2]

    Parameters
    ----------
    queues
        Number of virtqueues.
    notification_data, notif_config_data
        Which of the two features are offered.

    Ports
    -----
    bus: In(RegisterBus)
    doorbell: Out(stream Doorbell)
    use_data, use_config_data: In(1)
        The driver has accepted NOTIFICATION_DATA, NOTIF_CONFIG_DATA.
    discard: In(1)
        Drop notifications: a reset is under way.
    bad_doorbell: Out(1)
        Strobe: a write was dropped because no such virtqueue exists, or because it does not
        cover what it has to.

    16 and 32-bit writes count, with NOTIFICATION_DATA accepted only the latter. The virtqueue is
    the low half of the value, wherever in the region it was written: its index, or with
    NOTIF_CONFIG_DATA accepted its ``queue_notif_config_data``, bit 15 set above the index. The
    high half is ``next_offset`` and ``next_wrap`` of the doorbell; without NOTIFICATION_DATA they
    are 0.

    Reads answer 0. One doorbell per cycle, one cycle after the write; only two untaken doorbells
    make the bus wait, in the order of the writes. ``doorbell.ready`` and the bus do not meet in
    logic.
    """

    def __init__(
        self, queues: int, *, notification_data: bool = False, notif_config_data: bool = False
    ):
        if notif_config_data and queues > NOTIF_CONFIG_DATA:
            raise ValueError(f"queues = {queues!r}: at most {NOTIF_CONFIG_DATA}")
        self.queues = queues
        self.notification_data = notification_data
        self.notif_config_data = notif_config_data
        super().__init__(
            {
                "bus": In(RegisterBus()),
                "doorbell": Out(stream.Signature(Doorbell)),
                "use_data": In(1),
                "use_config_data": In(1),
                "discard": In(1),
                "bad_doorbell": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.target = target = RegisterTarget()
        wiring.connect(m, wiring.flipped(self.bus), target.bus)
        index = Signal(16)
        m.d.comb += index.eq(target.request.data[:16])
        if self.notif_config_data:
            base = Mux(self.use_config_data, NOTIF_CONFIG_DATA, 0)
            m.d.comb += index.eq(target.request.data[:16] ^ base)
        enables = target.request.byte_enable
        covered = enables[:2].all()
        if self.notification_data:
            covered &= enables[2:].all() | ~self.use_data
        good = covered & (index < self.queues)
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
        if self.notification_data:
            with m.If(self.use_data):
                m.d.comb += [
                    buffer.input.payload.next_offset.eq(target.request.data[16:31]),
                    buffer.input.payload.next_wrap.eq(target.request.data[31]),
                ]
        return m
