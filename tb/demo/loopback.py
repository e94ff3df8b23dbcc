"""The demo's device under test: a virtio device whose port is looped back."""

from amaranth.hdl import Cat, Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from demo.hop_timer import HopTimer
from lib.wrap import pass_ports
from virtio_rtl.config import DeviceConfig
from virtio_rtl.lib.stream import StreamFIFO
from virtio_rtl.top import VirtioDevice
from virtio_rtl.types.events import HopEvents

__all__ = ["STROBES", "LoopbackDevice", "host_side", "pass_host_side"]

STROBES = (*(name for name, _ in data.Layout.cast(HopEvents)), "frame_out", "frame_in")
"""What the hop timer notes: the device's hops, and the last beat of a frame at each port."""

_HOST_SIDE = ("rx_tlp", "tx_tlp", "flow_control", "intx", "link_up")


def host_side(device: VirtioDevice) -> dict[str, wiring.Member]:
    """Return the members of a device's signature that face the host."""
    return {name: device.signature.members[name] for name in _HOST_SIDE}


def pass_host_side(m: Module, wrapper: wiring.Component, device: VirtioDevice) -> None:
    """Connect them one to one with those of a component that wraps the device."""
    pass_ports(m, wrapper, device, _HOST_SIDE)


class LoopbackDevice(wiring.Component):
    """A net device whose transmitted frames come back as received ones, through a FIFO.

    Parameters
    ----------
    config
        Of the device.

    Ports
    -----
    rx_tlp, tx_tlp, flow_control, intx, link_up
        As of ``VirtioDevice``.
    release : 1
        Frames leave the FIFO; while low, they gather in it, at least two of the longest.
    port_beat : 1, port_data, port_keep, port_last, port_error
        A beat that leaves the transmit port in this cycle.
    arm, now, seen, times
        Of a ``HopTimer`` over ``STROBES``.

    One beat a cycle; a beat takes two cycles from port to port.
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
                "release": In(1),
                "port_beat": Out(1),
                "port_data": Out(config.width),
                "port_keep": Out(config.width // 8),
                "port_last": Out(1),
                "port_error": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        width = self.config.width
        layout = data.StructLayout({"data": width, "keep": width // 8, "last": 1, "error": 1})
        beats = 2 * (self.config.max_frame // (width // 8) + 1)
        m.submodules.device = device = self.device
        m.submodules.timer = timer = self.timer
        m.submodules.fifo = fifo = StreamFIFO(layout, beats)
        pass_host_side(m, self, device)
        out, back = device.net_tx, device.net_rx
        m.d.comb += [
            fifo.input.payload.data.eq(out.tdata),
            fifo.input.payload.keep.eq(out.tkeep),
            fifo.input.payload.last.eq(out.tlast),
            fifo.input.payload.error.eq(out.tuser),
            fifo.input.valid.eq(out.tvalid),
            out.tready.eq(fifo.input.ready),
            back.tdata.eq(fifo.output.payload.data),
            back.tkeep.eq(fifo.output.payload.keep),
            back.tlast.eq(fifo.output.payload.last),
            back.tuser.eq(fifo.output.payload.error),
            back.tvalid.eq(fifo.output.valid & self.release),
            fifo.output.ready.eq(back.tready & self.release),
            self.port_beat.eq(out.tvalid & out.tready),
            self.port_data.eq(out.tdata),
            self.port_keep.eq(out.tkeep),
            self.port_last.eq(out.tlast),
            self.port_error.eq(out.tuser),
        ]
        frame_out = self.port_beat & out.tlast
        frame_in = back.tvalid & back.tready & back.tlast
        m.d.comb += [
            timer.strobes.eq(Cat(device.events.as_value(), frame_out, frame_in)),
            timer.arm.eq(self.arm),
            self.now.eq(timer.now),
            self.seen.eq(timer.seen),
            self.times.eq(timer.times),
        ]
        return m
