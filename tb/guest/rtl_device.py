"""The device that a guest gets in RTL, with a counter for the statistics."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from virtio_rtl.config import DeviceConfig
from virtio_rtl.top import VirtioDevice

__all__ = ["GuestDevice"]


class GuestDevice(wiring.Component):
    """`VirtioDevice(config)` with all its ports, and a counter in the place of its event strobes.

    Ports
    -----
    completed : 32
        Buffers that the device has given back; two in one cycle count once. Counting in the
        simulated hardware costs next to nothing, watching a strobe from Python does.
    """

    def __init__(self, config: DeviceConfig):
        self.config = config
        self.device = VirtioDevice(config)
        members = dict(self.device.signature.members)
        del members["events"]
        self._passed = tuple(members)
        super().__init__(members | {"completed": Out(32)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.device = device = self.device
        for name in self._passed:
            ours, theirs = getattr(self, name), getattr(device, name)
            member = device.signature.members[name]
            if member.is_signature:
                wiring.connect(m, wiring.flipped(ours), theirs)
            elif member.flow is In:
                m.d.comb += theirs.eq(ours)
            else:
                m.d.comb += ours.eq(theirs)
        m.d.sync += self.completed.eq(self.completed + device.events.completed)
        return m
