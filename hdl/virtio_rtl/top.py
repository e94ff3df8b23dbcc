"""The whole device: wiring only."""

from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .config import DeviceConfig
from .device.kind import device_type
from .dma.read_engine import ReadEngine
from .dma.write_engine import WriteEngine
from .pcie.bar_target import BarTarget
from .pcie.config_space import ConfigSpace
from .pcie.msix import MSIX
from .pcie.rx_demux import RxDemux
from .pcie.tx_arbiter import TxArbiter
from .regs.arbiter import BusArbiter
from .top_counters import connect_errors, event_counters
from .top_device import build_device, build_engine, connect_device
from .transport.features import offered, required
from .transport.pci import PCITransport
from .transport.reset import ResetControl
from .types.events import HopEvents
from .types.tlp import FlowControlLimits, tlp_stream
from .virtqueue.clients import LOOKUPS, WRITE_CLIENTS, read_clients

__all__ = ["VirtioDevice"]


class VirtioDevice(wiring.Component):
    """A virtio device of any type behind the vendor-neutral TLP streams.

    Parameters
    ----------
    config
        What to build.

    Ports
    -----
    rx_tlp, tx_tlp : tlp_stream(width)
        To and from the PHY shim; configuration requests included.
    flow_control : ``FlowControlLimits``
    intx : 1
        INTx level.
    ...
        Those that the device type has to its outside; for a net device ``net_tx``, ``net_rx`` and
        ``link_up``.
    events : ``HopEvents``
        For measurement only.
    """

    def __init__(self, config: DeviceConfig):
        self.config = config
        width = config.width
        members = {
            "rx_tlp": In(tlp_stream(width)),
            "tx_tlp": Out(tlp_stream(width)),
            "flow_control": In(FlowControlLimits),
            "intx": Out(1),
        }
        outside = device_type(config.device).outside(config)
        if taken := sorted({*members, "events"} & {*outside}):
            raise ValueError(f"device type {config.device!r}: port {taken[0]} is the device's own")
        super().__init__(members | dict(outside) | {"events": Out(HopEvents)})

    def elaborate(self, platform):
        m = Module()
        config = self.config
        kind = device_type(config.device)
        width = config.width

        m.submodules.reset_control = reset = ResetControl(
            settle=max(config.num_queues, config.read_tags) + 16
        )
        resettable = ResetInserter(reset.engine_reset)

        # PCIe.
        m.submodules.rx_demux = demux = RxDemux(width)
        m.submodules.tx_arbiter = arbiter = TxArbiter(width)
        m.submodules.config_space = space = ConfigSpace(config, width)
        m.submodules.bar_target = bar = BarTarget(width)
        m.submodules.bus_arbiter = bus = BusArbiter(2)
        m.submodules.msix = msix = MSIX(config.msix_vectors, width)
        # Virtio.
        lookups = LOOKUPS[kind.paths]
        m.submodules.transport = transport = PCITransport(
            config,
            offered=offered(config),
            required=required(config),
            readers=len(lookups),
            counters=event_counters(config),
        )
        readers = read_clients(config, kind.paths)
        read = ReadEngine(
            width,
            config.read_tags,
            config.read_slot_bytes,
            len(readers),
            config.timeout_cycles,
        )
        write = WriteEngine(width, len(WRITE_CLIENTS))
        engine = build_engine(config, kind)
        m.submodules.read_engine = resettable(read)
        m.submodules.write_engine = resettable(write)
        m.submodules.virtqueues = resettable(engine)
        device = build_device(config, kind)

        # TLPs.
        wiring.connect(m, wiring.flipped(self.rx_tlp), demux.tlp)
        wiring.connect(m, wiring.flipped(self.tx_tlp), arbiter.tlp)
        wiring.connect(m, demux.config, space.requests)
        wiring.connect(m, demux.requests, bar.requests)
        wiring.connect(m, demux.completions, read.completions)
        wiring.connect(m, write.tlp, arbiter.posted)
        wiring.connect(m, msix.tlp, arbiter.message)
        wiring.connect(m, read.tlp, arbiter.nonposted)
        wiring.connect(m, bar.completion, arbiter.completion_bar)
        wiring.connect(m, space.completion, arbiter.completion_config)
        m.d.comb += arbiter.limits.eq(self.flow_control)

        # Registers: BAR accesses and the PCI_CFG window share one bus.
        wiring.connect(m, bar.bus, bus.initiator_0)
        wiring.connect(m, space.bus, bus.initiator_1)
        wiring.connect(m, bus.bus, transport.bus)
        wiring.connect(m, transport.msix_bus, msix.bus)
        m.d.comb += bar.bar_base.eq(space.bar_base)
        m.d.comb += [part.control.eq(space.control) for part in (bar, msix, transport, read, write)]

        # Virtqueues and their DMA.
        for i in range(len(lookups)):
            wiring.connect(m, getattr(engine, f"lookup_{i}"), getattr(transport, f"lookup_{i}"))
        for i in range(len(readers)):
            for port in ("request", "packet"):
                wiring.connect(m, getattr(engine, f"read_{port}_{i}"), getattr(read, f"{port}_{i}"))
        for i in range(len(WRITE_CLIENTS)):
            for port in ("request", "packet", "done"):
                wiring.connect(
                    m, getattr(engine, f"write_{port}_{i}"), getattr(write, f"{port}_{i}")
                )
        wiring.connect(m, transport.doorbell, engine.doorbell)
        wiring.connect(m, transport.queue_enabled, engine.enabled_queue)
        wiring.connect(m, engine.interrupt, transport.interrupt)
        wiring.connect(m, transport.vector, msix.request)
        running = Signal()
        m.d.comb += [
            running.eq(transport.driver_ok & ~reset.stop),
            engine.enable.eq(running),
            engine.crowded.eq(write.crowded),
            engine.short_reads.eq(space.control.max_read_request == 0),
            self.intx.eq(transport.intx),
            space.interrupt_status.eq(transport.interrupt_status),
        ]

        # Coming to rest, for the reset of one virtqueue and for suspend.
        m.d.comb += [
            engine.features.eq(transport.features),
            engine.pause.eq(transport.pause),
            engine.hold.eq(transport.hold),
            engine.forget.eq(transport.forget),
            engine.forget_queue.eq(transport.forget_queue),
            transport.rested.eq(engine.rested & msix.idle),
            transport.fetch_idle.eq(engine.fetch_idle),
            transport.stop.eq(reset.stop),
            # What the engine caused has been told by then. A vector that was masked at the time
            # and is unmasked now waits: a suspended device sends nothing.
            msix.hold.eq(transport.hold),
        ]

        connect_device(
            m, self, kind, device,
            engine=engine, transport=transport, running=running, reset=reset.engine_reset,
        )  # fmt: skip

        # Reset, as a drain.
        m.d.comb += [
            reset.device_request.eq(transport.reset_request),
            reset.function_request.eq(space.flr_request),
            reset.idle.eq(read.idle & write.idle & transport.interrupt_idle & msix.idle),
            reset.busy.eq(engine.busy | msix.busy),
            # During a reset messages vanish: the drain must not wait for more and more of them.
            msix.stop.eq(reset.stop),
            read.stop.eq(reset.stop),
            write.stop.eq(reset.stop),
            transport.reset_done.eq(reset.device_done),
            transport.function_reset.eq(reset.function_done),
            space.flr_done.eq(reset.function_done),
            msix.clear.eq(reset.function_done),
            msix.forget.eq(reset.engine_reset),
            read.timeout_disable.eq(space.completion_timeout_disable),
            space.transactions_pending.eq(~read.idle),
        ]

        # Errors are events.
        connect_errors(
            m, demux=demux, space=space, bar=bar, read=read, engine=engine, transport=transport
        )

        m.d.comb += [
            self.events.eq(engine.events),
            self.events.doorbell.eq(transport.doorbell.valid & transport.doorbell.ready),
            self.events.interrupt.eq(msix.tlp.valid & msix.tlp.ready),
        ]
        return m
