"""The common configuration structure of virtio-pci."""

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from virtio_model.spec import features, pci
from virtio_model.spec.fields import by_name
from virtio_rtl.config import DeviceConfig
from virtio_rtl.regs.fields import dword_value, merged, touched
from virtio_rtl.regs.maps import COMMON_CONFIG
from virtio_rtl.regs.target import RegisterTarget
from virtio_rtl.transport.features import FeatureNegotiation, dependencies
from virtio_rtl.transport.queue_table import QueueRegisters
from virtio_rtl.transport.status import StatusRegister
from virtio_rtl.types.regbus import RegisterBus
from virtio_rtl.types.virtqueue import InterruptRequest

__all__ = ["CommonConfig"]

_FIELDS = by_name(pci.COMMON_CFG)
_REGION_BITS = (COMMON_CONFIG.end - 1).bit_length()
_DWORDS = pci.COMMON_CFG_SIZE // 4


class CommonConfig(wiring.Component):
    """Common configuration structure, exact to the byte. [virtio 1.4 §4.1.4.3]

    Parameters
    ----------
    config
        The device.
    offered, required
        Feature sets; see ``FeatureNegotiation``.

    Ports
    -----
    bus: In(RegisterBus)
    queues: Out(QueueRegisters)
        To the ``QueueTable``.
    queues_busy: In(1)
        The table sweeps; the bus waits.
    driver_features: Out(128)
        Accepted features; final once ``features_ok``.
    features_ok, driver_ok, reset_request: Out(1); device_error, reset_done, function_reset: In(1)
        As in ``StatusRegister``. ``reset_done`` must follow ``reset_request`` in finite time.
    suspend_request, suspended: Out(1); suspend_done: In(1)
        As in ``StatusRegister``, if SUSPEND is offered. While suspended only writes of
        ``device_status`` count.
    clear: Out(1)
        Strobe: everything returns to its reset value.
    config_vector: Out(16)
        MSI-X vector of configuration changes, 0xFFFF for none.
    config_changed: In(1)
        Strobe, in or before the first cycle in which the device configuration reads differently.
    config_read: In(1)
        Strobe: the driver reads the device configuration.
    config_notify: In(1)
        Strobe: tell the driver about a change, if DRIVER_OK.
    interrupt: Out(stream InterruptRequest)
        Configuration change notifications. Those not yet taken melt into one.
    interrupt_idle: Out(1)
        None is there, nor may be in the next cycle but for ``config_notify``.
    queue_enabled: Out(stream unsigned(16))
        Virtqueues enabled while DRIVER_OK is set. To be taken in finite time: the next such write
        waits for it.

    Every access is decoded in the cycle before it is done: one write every second cycle, and a
    read two cycles behind a write. A read is sampled in that cycle and answers two cycles later.

    ``config_generation`` counts up at the first read of the device configuration after a change;
    it survives a device reset, so that a number is not soon used twice.

    Limitation: ADMIN_VQ is not supported; its registers read 0.
    """

    def __init__(self, config: DeviceConfig, offered: int, required: int):
        if features.has(offered, features.Feature.ADMIN_VQ):
            raise ValueError("offered features: ADMIN_VQ is not supported")
        self.config = config
        self.offered = offered
        self.required = required
        super().__init__(
            {
                "bus": In(RegisterBus()),
                "queues": Out(QueueRegisters()),
                "queues_busy": In(1),
                "driver_features": Out(features.FEATURE_BITS_END),
                "features_ok": Out(1),
                "driver_ok": Out(1),
                "reset_request": Out(1),
                "reset_done": In(1),
                "function_reset": In(1),
                "device_error": In(1),
                "suspend_request": Out(1),
                "suspend_done": In(1),
                "suspended": Out(1),
                "clear": Out(1),
                "config_vector": Out(16, init=pci.NO_VECTOR),
                "config_changed": In(1),
                "config_read": In(1),
                "config_notify": In(1),
                "interrupt": Out(stream.Signature(InterruptRequest)),
                "interrupt_idle": Out(1),
                "queue_enabled": Out(stream.Signature(16)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.target = target = RegisterTarget()
        wiring.connect(m, wiring.flipped(self.bus), target.bus)
        m.submodules.features = negotiation = FeatureNegotiation(
            self.offered, self.required, dependencies(self.config)
        )
        suspend = features.has(self.offered, features.Feature.SUSPEND)
        m.submodules.status = status = StatusRegister(suspend=suspend)
        request = target.request

        def writes(name):
            """A write that counts touches the field."""
            touching = Signal(name=f"touches_{name}")
            m.d.sync += touching.eq(touched(_FIELDS[name], request, _REGION_BITS))
            return (writing if name == "device_status" else configuring) & touching

        # What a write changes is readable two cycles later: through the table's memories, and
        # through the verdict on the features.
        settling = Signal()
        at_enable = request.address[2:_REGION_BITS] == _FIELDS["queue_enable"].offset // 4
        event_waits = self.queues.enabling | self.queue_enabled.valid
        blocked = (
            (settling & ~request.write)
            | self.queues_busy
            | status.hold
            | status.clear
            | (request.write & at_enable & event_waits & self.driver_ok)
        )
        decoded = Signal()
        decoded_write = Signal()  # which is taken now: it stands since the cycle before
        starts = target.waiting & ~target.read & ~decoded_write & ~blocked
        m.d.sync += [
            decoded.eq(starts),
            decoded_write.eq(starts & request.write),
            settling.eq(decoded_write),
        ]
        m.d.comb += target.hold.eq(~decoded)
        writing = decoded_write & ~status.reset_request
        configuring = writing & ~status.suspended

        selects = {
            name: Signal(_FIELDS[name].bits, name=name)
            for name in ("device_feature_select", "driver_feature_select", "queue_select")
        }
        for name, register in selects.items():
            with m.If(writes(name)):
                m.d.sync += register.eq(merged(_FIELDS[name], request, register))
        vector = merged(_FIELDS["config_msix_vector"], request, self.config_vector)
        with m.If(writes("config_msix_vector")):
            m.d.sync += self.config_vector.eq(
                Mux(vector < self.config.msix_vectors, vector, pci.NO_VECTOR)
            )

        m.d.comb += [
            negotiation.device_select.eq(selects["device_feature_select"]),
            negotiation.driver_select.eq(selects["driver_feature_select"]),
            negotiation.write.eq(writes("driver_feature")),
            negotiation.write_data.eq(
                merged(_FIELDS["driver_feature"], request, negotiation.driver_word)
            ),
            negotiation.locked.eq(status.features_ok),
            negotiation.clear.eq(status.clear),
            self.driver_features.eq(negotiation.accepted),
        ]
        m.d.comb += [
            status.write.eq(writes("device_status")),
            status.write_data.eq(merged(_FIELDS["device_status"], request, Const(0, 8))),
            status.acceptable.eq(negotiation.acceptable),
            status.device_error.eq(self.device_error),
            status.reset_done.eq(self.reset_done),
            status.function_reset.eq(self.function_reset),
            status.suspend_allowed.eq(
                negotiation.accepted[features.Feature.SUSPEND] & status.features_ok
            ),
            status.suspend_done.eq(self.suspend_done),
            self.suspend_request.eq(status.suspend_request),
            self.suspended.eq(status.suspended),
            self.features_ok.eq(status.features_ok),
            self.driver_ok.eq(status.driver_ok),
            self.reset_request.eq(status.reset_request),
            self.clear.eq(status.clear),
        ]

        in_structure = Signal()
        m.d.sync += in_structure.eq(request.address[:_REGION_BITS] < pci.COMMON_CFG_SIZE)
        m.d.comb += [
            self.queues.select.eq(selects["queue_select"]),
            self.queues.request.eq(request),
            self.queues.write.eq(configuring & in_structure),
        ]
        with m.If(self.queue_enabled.ready):
            m.d.sync += self.queue_enabled.valid.eq(0)
        with m.If(self.queues.enabling & self.driver_ok):
            m.d.sync += [
                self.queue_enabled.valid.eq(1),
                self.queue_enabled.payload.eq(selects["queue_select"]),
            ]

        # A read in the very cycle of a change may have seen either value: count now, and once
        # more at the next read.
        generation = Signal(8)
        changed = Signal()
        m.d.sync += changed.eq(self.config_changed | (changed & ~self.config_read))
        with m.If(self.config_read & (changed | self.config_changed)):
            m.d.sync += generation.eq(generation + 1)
        m.d.comb += [
            self.interrupt.payload.config.eq(1),
            self.interrupt_idle.eq(~self.interrupt.valid & ~status.notify_next),
        ]
        with m.If(self.interrupt.ready):
            m.d.sync += self.interrupt.valid.eq(0)
        with m.If(status.notify | (self.config_notify & self.driver_ok)):
            m.d.sync += self.interrupt.valid.eq(1)

        with m.If(status.clear):
            m.d.sync += [register.eq(0) for register in selects.values()]
            m.d.sync += self.config_vector.eq(pci.NO_VECTOR)
        with m.If(self.function_reset):
            m.d.sync += [generation.eq(0), changed.eq(0)]

        values = {
            **selects,
            "device_feature": negotiation.device_word,
            "driver_feature": negotiation.driver_word,
            "config_msix_vector": self.config_vector,
            "num_queues": Const(self.config.num_queues, 16),
            "device_status": status.status,
            "config_generation": generation,
        }
        sample = Signal(32)
        m.d.sync += target.read_data.eq(sample)
        with m.Switch(request.address[2:_REGION_BITS]):
            for dword in range(_DWORDS):
                plain = any(_FIELDS[name].offset // 4 == dword for name in values)
                with m.Case(dword):
                    if plain:
                        read_data = dword_value(pci.COMMON_CFG, values, dword)
                    else:  # banked, or of a feature that is not offered
                        read_data = self.queues.read_data
                    m.d.comb += sample.eq(read_data)
        return m
