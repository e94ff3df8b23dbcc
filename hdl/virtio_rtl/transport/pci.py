"""The virtio-pci transport: everything behind BAR 0 but the MSI-X structures. Wiring only."""

from collections.abc import Sequence

from amaranth.hdl import Const, Module, Mux, ResetInserter
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from virtio_model.spec import features
from virtio_model.spec.features import Feature
from virtio_rtl.config import DeviceConfig
from virtio_rtl.device.kind import device_type
from virtio_rtl.lib.stream import StreamArbiter
from virtio_rtl.regs.decode import BusDecoder
from virtio_rtl.regs.maps import COMMON_CONFIG, COUNTERS, DEVICE_CONFIG, ISR, MSIX, NOTIFY, Counter
from virtio_rtl.transport.common_config import CommonConfig
from virtio_rtl.transport.counters import Counters
from virtio_rtl.transport.device_config import DeviceConfigRegion
from virtio_rtl.transport.interrupt import InterruptRouter
from virtio_rtl.transport.isr import ISRStatus
from virtio_rtl.transport.notify import Notify
from virtio_rtl.transport.queue_table import QueueTable
from virtio_rtl.transport.quiesce import Quiesce
from virtio_rtl.types.pcie import FunctionControl
from virtio_rtl.types.regbus import RegisterBus
from virtio_rtl.types.virtqueue import Doorbell, InterruptRequest, QueueLookup, RingFeatures

__all__ = ["TRANSPORT_COUNTERS", "PCITransport"]

TRANSPORT_COUNTERS = (Counter("bad_doorbell", "notifications of a virtqueue that is not there"),)


class PCITransport(wiring.Component):
    """virtio-pci transport of any device type. [virtio 1.4 §4.1]

    Parameters
    ----------
    config
        The device.
    offered, required
        Feature sets; see ``FeatureNegotiation``. If RING_PACKED is not required, there are split
        virtqueues too: while it is not accepted ``queue_size`` takes powers of two only. What
        serves RING_RESET, SUSPEND, NOTIFICATION_DATA and NOTIF_CONFIG_DATA is built if they are
        offered.
    readers
        Number of virtqueue lookup ports.
    counters
        Event counters behind those of the transport itself (``TRANSPORT_COUNTERS``).

    Ports
    -----
    bus: In(RegisterBus)
        All of BAR 0; addresses relative to the BAR.
    msix_bus: Out(RegisterBus)
        The accesses to the MSI-X table and pending bits.
    control: In(FunctionControl)
    driver_features: Out(128); driver_ok: Out(1)
        The features are 0 until FEATURES_OK. ``driver_ok`` also falls when a reset is requested,
        and while the device is suspended.
    features: Out(RingFeatures)
        What the rings have to know of the accepted features; still while ``driver_ok``.
    lookup_0 ... lookup_{readers-1}: In(QueueLookup)
        Configuration of a virtqueue, one cycle after its index.
    doorbell: Out(stream Doorbell)
        Also before DRIVER_OK. To be taken in finite time.
    queue_enabled: Out(stream unsigned(16))
        Virtqueues enabled while DRIVER_OK is set. To be taken in finite time.
    interrupt: In(stream InterruptRequest)
        Events from the virtqueue engine; dropped while ``driver_ok`` is not set.
    vector: Out(stream unsigned(11))
        MSI-X vectors to signal.
    intx, interrupt_status: Out(1)
        Levels; see ``ISRStatus``.
    live, settings
        Fields of the device configuration, as of ``DeviceConfigRegion``.
    device_error: In(1)
        Strobe: sets DEVICE_NEEDS_RESET.
    reset_request: Out(1), reset_done: In(1)
        Level and strobe of a device reset: drain, wait for ``interrupt_idle``, answer.
    function_reset: In(1)
        Strobe, after the drain of a function level reset: everything to its reset value.
    clear: Out(1)
        Strobe: a device or function reset ends, everything of the device returns to its reset
        value in this cycle.
    interrupt_idle: Out(1)
        No interrupt is on its way inside.
    pause, hold, forget: Out(1); forget_queue: Out(16); rested, fetch_idle: In(1)
        To bring the virtqueue engine to rest, and to make it forget a virtqueue; see
        ``Quiesce``. Needed if RING_RESET or SUSPEND is offered, else constant. ``rested`` says
        also that no MSI-X message is on its way outside of this module.
    resetting, suspending: Out(1)
        Levels: a virtqueue is being reset; the driver has asked for SUSPEND, and the device is not
        suspended yet. What a device has begun must end in finite time then.
    stop: In(1)
        Level: a reset of the device or the function is under way, and ends with ``reset_done`` or
        ``function_reset``. It lets go of ``pause`` and ``hold``, and nothing is forgotten.
    events: In(data.StructLayout({name: 1}))
        Strobes of ``counters``; only if there are any.

    Latency from ``bus`` to ``doorbell``: one cycle, one doorbell per cycle; from ``interrupt``
    to ``vector``: two cycles, one per cycle. One register access at a time and in order; see the
    rooms for what a read takes.
    """

    def __init__(
        self,
        config: DeviceConfig,
        *,
        offered: int,
        required: int,
        readers: int = 1,
        counters: Sequence[Counter] = (),
    ):
        self.config = config
        self.offered = offered
        self.required = required
        self.readers = readers
        self.counters = tuple(counters)
        ports = {
            "bus": In(RegisterBus()),
            "msix_bus": Out(RegisterBus()),
            "control": In(FunctionControl),
            "driver_features": Out(features.FEATURE_BITS_END),
            "driver_ok": Out(1),
            "doorbell": Out(stream.Signature(Doorbell)),
            "queue_enabled": Out(stream.Signature(16)),
            "interrupt": In(stream.Signature(InterruptRequest)),
            "vector": Out(stream.Signature(11)),
            "intx": Out(1),
            "interrupt_status": Out(1),
            "device_error": In(1),
            "reset_request": Out(1),
            "reset_done": In(1),
            "function_reset": In(1),
            "clear": Out(1),
            "interrupt_idle": Out(1),
            "features": Out(RingFeatures),
            "resetting": Out(1),
            "suspending": Out(1),
            "pause": Out(1),
            "rested": In(1),
            "hold": Out(1),
            "fetch_idle": In(1),
            "forget": Out(1),
            "forget_queue": Out(16),
            "stop": In(1),
        }
        self.device_config = None
        if device_type(config.device).config_fields:
            self.device_config = region = DeviceConfigRegion(config)
            members = region.signature.members.items()
            ports |= {name: port for name, port in members if name in ("live", "settings")}
        ports |= {f"lookup_{i}": In(QueueLookup()) for i in range(readers)}
        if self.counters:
            ports["events"] = In(data.StructLayout({c.name: 1 for c in self.counters}))
        super().__init__(ports)

    def elaborate(self, platform):
        m = Module()
        config = self.config
        regions = [COMMON_CONFIG, ISR, NOTIFY, COUNTERS, MSIX]
        regions += [DEVICE_CONFIG] if self.device_config else []
        m.submodules.decoder = decoder = BusDecoder(regions)
        m.submodules.common = common = CommonConfig(config, self.offered, self.required)
        m.submodules.queues = queues = QueueTable(
            config.num_queues,
            config.queue_size_max,
            config.msix_vectors,
            self.readers,
            ring_reset=self._offers(Feature.RING_RESET),
            notif_config_data=self._offers(Feature.NOTIF_CONFIG_DATA),
        )
        m.submodules.isr = isr = ISRStatus()
        m.submodules.notify = notify = Notify(
            config.num_queues,
            notification_data=self._offers(Feature.NOTIFICATION_DATA),
            notif_config_data=self._offers(Feature.NOTIF_CONFIG_DATA),
        )
        m.submodules.counters = counters = Counters(TRANSPORT_COUNTERS + self.counters)
        m.submodules.router = router = InterruptRouter()
        m.submodules.interrupts = interrupts = StreamArbiter(InterruptRequest, 2)

        connect = wiring.connect
        flipped = wiring.flipped
        connect(m, flipped(self.bus), decoder.bus)
        connect(m, getattr(decoder, COMMON_CONFIG.name), common.bus)
        connect(m, getattr(decoder, ISR.name), isr.bus)
        connect(m, getattr(decoder, NOTIFY.name), notify.bus)
        connect(m, getattr(decoder, COUNTERS.name), counters.bus)
        connect(m, getattr(decoder, MSIX.name), flipped(self.msix_bus))

        connect(m, common.queues, queues.registers)
        for i in range(self.readers):
            connect(m, getattr(queues, f"lookup_{i}"), flipped(getattr(self, f"lookup_{i}")))
        connect(m, router.vector_lookup, queues.vector_lookup)
        m.d.comb += [queues.clear.eq(common.clear), common.queues_busy.eq(queues.busy)]

        connect(m, notify.doorbell, flipped(self.doorbell))
        connect(m, common.queue_enabled, flipped(self.queue_enabled))
        connect(m, flipped(self.interrupt), interrupts.input_0)
        connect(m, common.interrupt, interrupts.input_1)
        connect(m, interrupts.output, router.request)
        connect(m, router.vector, flipped(self.vector))
        m.d.comb += [
            notify.discard.eq(common.reset_request),
            router.config_vector.eq(common.config_vector),
            router.msix_enable.eq(self.control.msix_enable),
            router.enable.eq(common.driver_ok),
            isr.queue_event.eq(router.queue_event),
            isr.config_event.eq(router.config_event),
            isr.clear.eq(common.clear),
            isr.msix_enable.eq(self.control.msix_enable),
            isr.intx_disable.eq(self.control.intx_disable),
            self.intx.eq(isr.intx),
            self.interrupt_status.eq(isr.interrupt_status),
            self.interrupt_idle.eq(router.idle & ~interrupts.output.valid),
        ]
        m.d.comb += [
            common.device_error.eq(self.device_error),
            common.reset_done.eq(self.reset_done),
            common.function_reset.eq(self.function_reset),
            self.driver_features.eq(Mux(common.features_ok, common.driver_features, 0)),
            self.driver_ok.eq(common.driver_ok),
            self.reset_request.eq(common.reset_request),
            self.clear.eq(common.clear),
        ]
        self._features(m, common, queues, notify)
        if self._offers(Feature.RING_RESET) or self._offers(Feature.SUSPEND):
            self._quiesce(m, common, queues)
        if self.device_config:
            self._device_config(m, self.device_config, decoder, common)
        m.d.comb += [
            counters.clear.eq(self.function_reset),
            counters.events.bad_doorbell.eq(notify.bad_doorbell),
        ]
        for counter in self.counters:
            m.d.comb += counters.events[counter.name].eq(self.events[counter.name])
        return m

    def _offers(self, feature: Feature) -> bool:
        return features.has(self.offered, feature)

    def _accepted(self, common: CommonConfig, feature: Feature):
        """Whether a feature is negotiated; a constant where the driver has no choice."""
        if not self._offers(feature):
            return Const(0)
        if features.has(self.required, feature):
            return Const(1)
        return common.driver_features[feature] & common.features_ok

    def _features(self, m: Module, common: CommonConfig, queues: QueueTable, notify: Notify):
        m.d.comb += [
            self.features.packed.eq(self._accepted(common, Feature.RING_PACKED)),
            self.features.event_idx.eq(self._accepted(common, Feature.EVENT_IDX)),
            self.features.in_order.eq(self._accepted(common, Feature.IN_ORDER)),
            queues.any_size.eq(self.features.packed),
            queues.reset_allowed.eq(self._accepted(common, Feature.RING_RESET)),
            notify.use_data.eq(self._accepted(common, Feature.NOTIFICATION_DATA)),
            notify.use_config_data.eq(self._accepted(common, Feature.NOTIF_CONFIG_DATA)),
        ]

    def _device_config(
        self, m: Module, region: DeviceConfigRegion, decoder: BusDecoder, common: CommonConfig
    ):
        m.submodules.device_config = region
        wiring.connect(m, getattr(decoder, DEVICE_CONFIG.name), region.bus)
        m.d.comb += [
            region.accepted.eq(self.driver_features),
            region.clear.eq(common.clear),
            common.config_changed.eq(region.changed),
            common.config_read.eq(region.config_read),
            common.config_notify.eq(region.notify),
        ]
        if "live" in self.signature.members:
            m.d.comb += region.live.eq(self.live)
        if "settings" in self.signature.members:
            m.d.comb += self.settings.eq(region.settings)
        if self._offers(Feature.SUSPEND):
            m.d.comb += region.freeze.eq(common.suspend_request | common.suspended)

    def _quiesce(self, m: Module, common: CommonConfig, queues: QueueTable):
        quiesce = Quiesce(
            self.config.num_queues,
            ring_reset=self._offers(Feature.RING_RESET),
            suspend=self._offers(Feature.SUSPEND),
        )
        m.submodules.quiesce = ResetInserter(self.stop | common.reset_request)(quiesce)
        m.d.comb += [
            quiesce.reset_request.eq(queues.reset_request),
            quiesce.reset_queue.eq(queues.reset_queue),
            quiesce.suspend_request.eq(common.suspend_request),
            quiesce.suspended.eq(common.suspended),
            common.suspend_done.eq(quiesce.suspend_done),
            quiesce.rested.eq(self.rested),
            quiesce.fetch_idle.eq(self.fetch_idle),
            quiesce.told.eq(self.interrupt_idle & common.interrupt_idle),
            self.resetting.eq(quiesce.resetting),
            self.suspending.eq(common.suspend_request),
            self.pause.eq(quiesce.pause),
            self.hold.eq(quiesce.hold),
            self.forget.eq(quiesce.forget),
            self.forget_queue.eq(quiesce.forget_queue),
            queues.forget.eq(quiesce.forget),
            queues.forget_queue.eq(quiesce.forget_queue),
        ]
