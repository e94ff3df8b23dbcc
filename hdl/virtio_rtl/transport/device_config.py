"""Device configuration of any device type."""

from functools import reduce
from operator import or_

from amaranth.hdl import Const, Module, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from virtio_model.spec import features as spec
from virtio_model.spec.fields import by_name
from virtio_rtl.config import DeviceConfig
from virtio_rtl.device.kind import device_type
from virtio_rtl.regs.fields import dword_value, merged, touched
from virtio_rtl.regs.maps import DEVICE_CONFIG
from virtio_rtl.regs.target import RegisterTarget
from virtio_rtl.types.regbus import RegisterBus

__all__ = ["DeviceConfigRegion"]

_REGION_BITS = (DEVICE_CONFIG.end - DEVICE_CONFIG.start - 1).bit_length()


class DeviceConfigRegion(wiring.Component):
    """Device configuration structure of any type. [virtio 1.4 §2.5, §4.1.4.6]

    A field is constant, or live, when the device changes it, or writable, when the driver does.

    Parameters
    ----------
    config
        The device. Its type says which fields there are, and which of them are live or writable.

    Ports
    -----
    bus: In(RegisterBus)
    live: In(data.StructLayout({name: bits}))
        Live fields, synchronous; only if there are any.
    settings: Out(data.StructLayout({name: bits}))
        Writable fields; only if there are any.
    accepted: In(128)
        Features that the driver has accepted; 0 before FEATURES_OK.
    freeze: In(1)
        Show no change, tell of none, and drop writes: the device is suspended, or about to be.
        Changes show once this falls. [virtio 1.4 §3.4]
    clear: In(1)
        Strobe: writable fields return to their first value.
    config_read: Out(1)
        Strobe: the driver reads this structure.
    changed: Out(1)
        Strobe, one cycle before a field reads differently.
    notify: Out(1)
        Strobe: a change that the driver wants to hear of, which are those of live fields.

    One write per cycle, a read every second cycle. Bytes outside of all fields read 0; writes
    are dropped there and in fields that are not writable.
    """

    def __init__(self, config: DeviceConfig):
        self.config = config
        self.kind = kind = device_type(config.device)
        self.fields = by_name(kind.config_fields)
        ports = {
            "bus": In(RegisterBus()),
            "accepted": In(spec.FEATURE_BITS_END),
            "freeze": In(1),
            "clear": In(1),
            "config_read": Out(1),
            "changed": Out(1),
            "notify": Out(1),
        }
        if kind.config_live:
            ports["live"] = In(data.StructLayout(dict(kind.config_live)))
        if kind.config_writable:
            layout = {name: self.fields[name].bits for name in kind.config_writable}
            given = kind.values(config)
            first = {name: given.get(name, 0) for name in layout}
            ports["settings"] = Out(data.StructLayout(layout), init=first)
        super().__init__(ports)

    def elaborate(self, platform):
        m = Module()
        m.submodules.target = target = RegisterTarget()
        wiring.connect(m, wiring.flipped(self.bus), target.bus)
        values = {
            name: Const(value, self.fields[name].bits)
            for name, value in self.kind.values(self.config).items()
        }
        changes: list[Value] = []
        if self.kind.config_live:
            values |= self._live(m, changes)
        if self.kind.config_writable:
            values |= self._writable(m, target, changes)

        m.d.comb += [
            self.changed.eq(reduce(or_, changes, Const(0))),
            self.config_read.eq(target.read),
        ]
        with m.Switch(target.request.address[2:_REGION_BITS]):
            for dword in range(-(-self.kind.config_bytes // 4)):
                with m.Case(dword):
                    m.d.comb += target.read_data.eq(
                        dword_value(self.kind.config_fields, values, dword)
                    )
        return m

    def _allowed(self, name: str):
        """Whether the driver has accepted the feature of a field."""
        feature = self.kind.config_features.get(name)
        return Const(1) if feature is None else self.accepted[feature]

    def _live(self, m: Module, changes: list) -> dict:
        shown = Signal.like(self.live)
        with m.If(~self.freeze):
            m.d.sync += shown.eq(self.live)
        told = []
        for name in self.kind.config_live:
            differs = (self.live[name] != shown[name]) & ~self.freeze
            changes.append(differs)
            told.append(differs & self._allowed(name))
        m.d.comb += self.notify.eq(reduce(or_, told))
        return {name: shown[name] for name in self.kind.config_live}

    def _writable(self, m: Module, target, changes: list) -> dict:
        given = self.kind.values(self.config)
        for name in self.kind.config_writable:
            field, register = self.fields[name], self.settings[name]
            written = merged(field, target.request, register)
            writes = (
                target.write
                & touched(field, target.request, _REGION_BITS)
                & self._allowed(name)
                & ~self.freeze
            )
            following = Signal(field.bits, name=f"following_{name}")
            m.d.comb += following.eq(register)
            with m.If(self.clear):
                m.d.comb += following.eq(given.get(name, 0))
            with m.Elif(writes):
                m.d.comb += following.eq(written)
            m.d.sync += register.eq(following)
            changes.append(following != register)
        return {name: self.settings[name] for name in self.kind.config_writable}
