"""The benchmark's device under test: a device between a frame generator and a frame checker."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bench.pattern import FramePattern
from demo.loopback import host_side, pass_host_side
from virtio_rtl.config import DeviceConfig
from virtio_rtl.top import VirtioDevice
from virtio_rtl.types.axis import AXIStream

__all__ = ["BenchDevice", "FrameChecker", "FrameGenerator"]


class FrameGenerator(wiring.Component):
    """Offers numbered frames without a pause.

    Parameters
    ----------
    width
        Bits of a beat.

    Ports
    -----
    enable : 1
        Offer frames; falls only between simulations, for it may cut a frame.
    frame_bytes : 16
        Length of every frame without FCS.
    port : ``AXIStream`` out
    sent : 32
        Frames that have been taken.
    """

    def __init__(self, width: int):
        self.width = width
        super().__init__(
            {
                "enable": In(1),
                "frame_bytes": In(16),
                "port": Out(AXIStream(width)),
                "sent": Out(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.pattern = pattern = FramePattern(self.width)
        m.d.comb += [
            pattern.frame_bytes.eq(self.frame_bytes),
            pattern.advance.eq(self.port.tvalid & self.port.tready),
            self.port.tvalid.eq(self.enable),
            self.port.tdata.eq(pattern.data),
            self.port.tkeep.eq(pattern.keep),
            self.port.tlast.eq(pattern.last),
            self.sent.eq(pattern.number),
        ]
        return m


class FrameChecker(wiring.Component):
    """Always takes a beat, and compares it with what the next numbered frame should be.

    Parameters
    ----------
    width
        Bits of a beat.

    Ports
    -----
    frame_bytes : 16
    port : ``AXIStream`` in
    taken : 32
        Frames that have passed.
    errors : 32
        Beats whose data, keep, last or user differ from the expected.
    """

    def __init__(self, width: int):
        self.width = width
        super().__init__(
            {
                "frame_bytes": In(16),
                "port": In(AXIStream(width)),
                "taken": Out(32),
                "errors": Out(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.pattern = pattern = FramePattern(self.width)
        port = self.port
        wrong_lanes = Signal(self.width // 8)
        good = Signal()
        m.d.comb += [
            port.tready.eq(1),
            pattern.frame_bytes.eq(self.frame_bytes),
            pattern.advance.eq(port.tvalid),
            self.taken.eq(pattern.number),
            wrong_lanes.eq(
                Cat(
                    pattern.keep[lane]
                    & (port.tdata.word_select(lane, 8) != pattern.data.word_select(lane, 8))
                    for lane in range(self.width // 8)
                )
            ),
            good.eq(
                (wrong_lanes == 0)
                & (port.tkeep == pattern.keep)
                & (port.tlast == pattern.last)
                & ~port.tuser
            ),
        ]
        with m.If(port.tvalid & ~good):
            m.d.sync += self.errors.eq(self.errors + 1)
        return m


class BenchDevice(wiring.Component):
    """A net device that is fed with frames, and whose frames are checked, at full speed.

    Parameters
    ----------
    config
        Of the device.

    Ports
    -----
    rx_tlp, tx_tlp, flow_control, intx, link_up
        As of ``VirtioDevice``.
    frame_bytes : 16
        Length without FCS of all frames, both ways.
    generate : 1
        Offer received frames.
    generated, taken, errors : 32
        Of the generator and the checker.

    A port takes or gives a beat a cycle.
    """

    def __init__(self, config: DeviceConfig):
        self.config = config
        self.device = VirtioDevice(config)
        super().__init__(
            host_side(self.device)
            | {
                "frame_bytes": In(16),
                "generate": In(1),
                "generated": Out(32),
                "taken": Out(32),
                "errors": Out(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.device = device = self.device
        m.submodules.generator = generator = FrameGenerator(self.config.width)
        m.submodules.checker = checker = FrameChecker(self.config.width)
        pass_host_side(m, self, device)
        wiring.connect(m, generator.port, device.net_rx)
        wiring.connect(m, device.net_tx, checker.port)
        m.d.comb += [
            generator.enable.eq(self.generate),
            generator.frame_bytes.eq(self.frame_bytes),
            checker.frame_bytes.eq(self.frame_bytes),
            self.generated.eq(generator.sent),
            self.taken.eq(checker.taken),
            self.errors.eq(checker.errors),
        ]
        return m
