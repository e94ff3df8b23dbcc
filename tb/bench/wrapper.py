"""The benchmark's device under test: a device between a frame generator and a frame checker."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bench.pattern import FramePattern, LengthWrite
from demo.hop_timer import HopTimer
from demo.loopback import STROBES, host_side, pass_host_side
from virtio_rtl.config import DeviceConfig
from virtio_rtl.top import VirtioDevice
from virtio_rtl.types.axis import AXIStream

__all__ = ["BenchDevice", "FrameChecker", "FrameGenerator"]


def _port(width: int, pairs: int) -> AXIStream:
    return AXIStream(width, (pairs - 1).bit_length())


class FrameGenerator(wiring.Component):
    """Offers numbered frames without a pause, to the queue pairs in turn.

    Parameters
    ----------
    width
        Bits of a beat.
    pairs
        Queue pairs.

    Ports
    -----
    enable : 1
        Offer frames; falls only between simulations, for it may cut a frame.
    lengths : ``LengthWrite``
        Lengths of the frames; see ``FramePattern``.
    port : ``AXIStream`` out
        Frame ``k`` is for pair ``k mod pairs``.
    sent : 32
        Frames that have been taken.
    """

    def __init__(self, width: int, pairs: int = 1):
        self.width = width
        self.pairs = pairs
        super().__init__(
            {
                "enable": In(1),
                "lengths": In(LengthWrite),
                "port": Out(_port(width, pairs)),
                "sent": Out(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.pattern = pattern = FramePattern(self.width, self.pairs)
        pair = Signal.like(pattern.pair)
        m.d.comb += [
            pattern.lengths.eq(self.lengths),
            pattern.pair.eq(pair),
            pattern.advance.eq(self.port.tvalid & self.port.tready),
            self.port.tvalid.eq(self.enable),
            self.port.tdata.eq(pattern.data),
            self.port.tkeep.eq(pattern.keep),
            self.port.tlast.eq(pattern.last),
            self.sent.eq(pattern.frames),
        ]
        if self.pairs > 1:
            m.d.comb += self.port.tdest.eq(pair)
            with m.If(pattern.advance & pattern.last):
                m.d.sync += pair.eq(pair + 1)
                with m.If(pair == self.pairs - 1):
                    m.d.sync += pair.eq(0)
        return m


class FrameChecker(wiring.Component):
    """Always takes a beat, and compares it with what the pair's next numbered frame should be.

    Parameters
    ----------
    width
        Bits of a beat.
    pairs
        Queue pairs.

    Ports
    -----
    lengths : ``LengthWrite``
        Lengths of the frames; see ``FramePattern``.
    port : ``AXIStream`` in
        Frames of a pair in order; those of different pairs in any order.
    taken : 32
        Frames that have passed.
    errors : 32
        Beats whose data, keep, last or user differ from the expected.
    """

    def __init__(self, width: int, pairs: int = 1):
        self.width = width
        self.pairs = pairs
        super().__init__(
            {
                "lengths": In(LengthWrite),
                "port": In(_port(width, pairs)),
                "taken": Out(32),
                "errors": Out(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.pattern = pattern = FramePattern(self.width, self.pairs)
        port = self.port
        wrong_lanes = Signal(self.width // 8)
        good = Signal()
        m.d.comb += [
            port.tready.eq(1),
            pattern.lengths.eq(self.lengths),
            pattern.advance.eq(port.tvalid),
            self.taken.eq(pattern.frames),
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
        if self.pairs > 1:
            m.d.comb += pattern.pair.eq(port.tdest)
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
    lengths : ``LengthWrite``
        Lengths of the frames, both ways.
    generate : 1
        Offer received frames.
    generated, taken, errors : 32
        Of the generator and the checker.
    arm, now, seen, times
        Of a ``HopTimer`` over ``STROBES``.

    A port takes or gives a beat a cycle.
    """

    def __init__(self, config: DeviceConfig):
        self.config = config
        self.device = VirtioDevice(config)
        self.timer = HopTimer(len(STROBES))
        members = self.timer.signature.members
        super().__init__(
            host_side(self.device)
            | {name: members[name] for name in ("arm", "now", "seen", "times")}
            | {
                "lengths": In(LengthWrite),
                "generate": In(1),
                "generated": Out(32),
                "taken": Out(32),
                "errors": Out(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        width, pairs = self.config.width, self.config.queue_pairs
        m.submodules.device = device = self.device
        m.submodules.timer = timer = self.timer
        m.submodules.generator = generator = FrameGenerator(width, pairs)
        m.submodules.checker = checker = FrameChecker(width, pairs)
        pass_host_side(m, self, device)
        wiring.connect(m, generator.port, device.net_rx)
        wiring.connect(m, device.net_tx, checker.port)
        out, back = device.net_tx, device.net_rx
        m.d.comb += [
            generator.enable.eq(self.generate),
            generator.lengths.eq(self.lengths),
            checker.lengths.eq(self.lengths),
            self.generated.eq(generator.sent),
            self.taken.eq(checker.taken),
            self.errors.eq(checker.errors),
            timer.strobes.eq(
                Cat(
                    device.events.as_value(),
                    out.tvalid & out.tready & out.tlast,
                    back.tvalid & back.tready & back.tlast,
                )
            ),
            timer.arm.eq(self.arm),
            self.now.eq(timer.now),
            self.seen.eq(timer.seen),
            self.times.eq(timer.times),
        ]
        return m
