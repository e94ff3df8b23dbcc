"""Device configuration of the network device."""

from amaranth.hdl import Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from virtio_model.spec import features as spec
from virtio_model.spec import net
from virtio_rtl.config import DeviceConfig
from virtio_rtl.regs.fields import dword_value
from virtio_rtl.regs.maps import DEVICE_CONFIG
from virtio_rtl.regs.target import RegisterTarget
from virtio_rtl.types.regbus import RegisterBus

__all__ = ["NetConfig"]

_REGION_BITS = (DEVICE_CONFIG.end - DEVICE_CONFIG.start - 1).bit_length()
_UNSUPPORTED = (
    net.NetFeature.SPEED_DUPLEX,
    net.NetFeature.RSS,
    net.NetFeature.HASH_REPORT,
    net.NetFeature.HASH_TUNNEL,
)


class NetConfig(wiring.Component):
    """Device configuration structure of the network device. [virtio 1.4 §5.1.4, §4.1.4.6]

    Parameters
    ----------
    config
        The device; gives ``mac``, ``mtu`` and ``queue_pairs``.
    offered
        Feature set offered; fields of features that are not offered read 0.

    Ports
    -----
    bus: In(RegisterBus)
    link_up: In(1)
        Link state, synchronous.
    status_negotiated: In(1)
        The driver has accepted VIRTIO_NET_F_STATUS.
    freeze: In(1)
        Show no change, and tell of none: the device is suspended, or about to be. Changes show
        once this falls. [virtio 1.4 §3.4]
    config_read: Out(1)
        Strobe: the driver reads this structure.
    changed: Out(1)
        Strobe, one cycle before the status field reads differently.
    notify: Out(1)
        Strobe: a change that the driver wants to hear of.

    Read-only; writes are dropped. One write per cycle, a read every second cycle.

    Limitations: no speed, duplex, receive-side scaling nor hash fields; ANNOUNCE is never set.
    """

    def __init__(self, config: DeviceConfig, offered: int):
        for feature in _UNSUPPORTED:
            if spec.has(offered, feature):
                raise ValueError(f"offered features: {feature.name} has no configuration here")
        self.config = config
        self.offered = offered
        super().__init__(
            {
                "bus": In(RegisterBus()),
                "link_up": In(1),
                "status_negotiated": In(1),
                "freeze": In(1),
                "config_read": Out(1),
                "changed": Out(1),
                "notify": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.target = target = RegisterTarget()
        wiring.connect(m, wiring.flipped(self.bus), target.bus)
        offers = {feature: spec.has(self.offered, feature) for feature in net.NetFeature}

        link_shown = Signal()
        with m.If(~self.freeze):
            m.d.sync += link_shown.eq(self.link_up)
        values = {}
        if offers[net.NetFeature.MAC]:
            values["mac"] = Const(int.from_bytes(self.config.mac_bytes, "little"), 48)
        if offers[net.NetFeature.STATUS]:
            values["status"] = link_shown  # LINK_UP is bit 0
            m.d.comb += [
                self.changed.eq((self.link_up ^ link_shown) & ~self.freeze),
                self.notify.eq(self.changed & self.status_negotiated),
            ]
        if offers[net.NetFeature.MQ]:
            values["max_virtqueue_pairs"] = Const(self.config.queue_pairs, 16)
        if offers[net.NetFeature.MTU]:
            values["mtu"] = Const(self.config.mtu, 16)

        m.d.comb += self.config_read.eq(target.read)
        with m.Switch(target.request.address[2:_REGION_BITS]):
            for dword in range(net.CONFIG_SIZE // 4):
                with m.Case(dword):
                    m.d.comb += target.read_data.eq(dword_value(net.CONFIG, values, dword))
        return m
