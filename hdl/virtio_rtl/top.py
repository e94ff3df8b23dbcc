"""The whole device: wiring only."""

from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .config import DeviceConfig
from .device import net
from .dma.read_engine import ReadEngine
from .dma.write_engine import WriteEngine
from .pcie.bar_target import BarTarget
from .pcie.config_space import ConfigSpace
from .pcie.msix import MSIX
from .pcie.rx_demux import RxDemux
from .pcie.tx_arbiter import TxArbiter
from .regs.arbiter import BusArbiter
from .regs.maps import Counter
from .transport.pci import PCITransport
from .transport.reset import ResetControl
from .types.axis import AXIStream
from .types.dma import DMAError
from .types.events import HopEvents
from .types.tlp import FlowControlLimits, tlp_stream
from .virtqueue.clients import LOOKUPS, WRITE_CLIENTS, read_clients
from .virtqueue.engine import VirtqueueEngine

__all__ = ["COUNTERS", "DEVICE_CONFIG_BYTES", "VirtioDevice"]

DEVICE_CONFIG_BYTES = 12
"""Device configuration of net up to and including ``mtu``."""

COUNTERS = (
    Counter("read_unsupported", "DMA reads answered with Unsupported Request"),
    Counter("read_aborted", "DMA reads answered with Completer Abort"),
    Counter("read_poisoned", "DMA reads with poisoned data"),
    Counter("read_timeout", "DMA reads without a completion in time"),
    Counter("read_malformed", "DMA reads whose completion did not fit the request"),
    Counter("completion_unexpected", "completions for no read in flight"),
    Counter("request_unsupported", "requests answered with Unsupported Request, or dropped"),
    Counter("request_poisoned", "poisoned writes that were dropped"),
    Counter(
        "request_aborted", "reads of BAR 0 answered with Completer Abort: longer than 128 bytes"
    ),
    Counter("message_dropped", "messages and unknown TLPs that were dropped"),
    Counter(
        "transmit_dropped",
        "frames longer than the device sends, or without a byte behind the header; two in one "
        "cycle count once",
    ),
    Counter(
        "receive_dropped",
        "frames above the MTU, longer than the driver's buffer, without a buffer, or lost to one "
        "that broke a rule; two in one cycle count once",
    ),
    Counter("virtqueue_failed", "buffers that broke a rule, or virtqueue accesses that failed"),
)
"""Counters in the vendor region of BAR 0, behind those of the transport."""

_CODE_COUNTERS = {
    DMAError.UNSUPPORTED_REQUEST: "read_unsupported",
    DMAError.COMPLETER_ABORT: "read_aborted",
    DMAError.POISONED: "read_poisoned",
    DMAError.TIMEOUT: "read_timeout",
    DMAError.MALFORMED: "read_malformed",
}


class VirtioDevice(wiring.Component):
    """A virtio device behind the vendor-neutral TLP streams.

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
    net_tx, net_rx : ``AXIStream(width, pair_bits)``
        Ethernet frames without FCS; with several queue pairs ``tdest`` names the pair.
    link_up : 1
    events : ``HopEvents``
        For measurement only.
    """

    def __init__(self, config: DeviceConfig):
        self.config = config
        width = config.width
        super().__init__(
            {
                "rx_tlp": In(tlp_stream(width)),
                "tx_tlp": Out(tlp_stream(width)),
                "flow_control": In(FlowControlLimits),
                "intx": Out(1),
                "net_tx": Out(AXIStream(width, config.pair_bits)),
                "net_rx": In(AXIStream(width, config.pair_bits)),
                "link_up": In(1),
                "events": Out(HopEvents),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        width = config.width

        m.submodules.reset_control = reset = ResetControl(
            settle=max(config.num_queues, config.read_tags) + 16
        )
        resettable = ResetInserter(reset.engine_reset)

        # PCIe.
        m.submodules.rx_demux = demux = RxDemux(width)
        m.submodules.tx_arbiter = arbiter = TxArbiter(width)
        m.submodules.config_space = space = ConfigSpace(
            config, width, device_config_length=DEVICE_CONFIG_BYTES
        )
        m.submodules.bar_target = bar = BarTarget(width)
        m.submodules.bus_arbiter = bus = BusArbiter(2)
        m.submodules.msix = msix = MSIX(config.msix_vectors, width)
        # Virtio.
        m.submodules.transport = transport = PCITransport(
            config,
            offered=net.offered(config),
            required=net.required(config),
            readers=len(LOOKUPS),
            counters=COUNTERS,
        )
        readers = read_clients(config)
        read = ReadEngine(
            width,
            config.read_tags,
            config.read_slot_bytes,
            len(readers),
            config.timeout_cycles,
        )
        write = WriteEngine(width, len(WRITE_CLIENTS))
        engine = VirtqueueEngine(
            config,
            config.max_frame + net.HEADER_BYTES,
            min_receive=net.HEADER_BYTES + 1,
        )
        m.submodules.read_engine = resettable(read)
        m.submodules.write_engine = resettable(write)
        m.submodules.virtqueues = resettable(engine)
        m.submodules.device = device = net.NetDevice(config)

        def join(ours, theirs):
            wiring.connect(m, wiring.flipped(ours), theirs)

        # TLPs.
        join(self.rx_tlp, demux.tlp)
        join(self.tx_tlp, arbiter.tlp)
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
        m.d.comb += [
            bar.bar_base.eq(space.bar_base),
            transport.link_up.eq(self.link_up),
        ]
        m.d.comb += [part.control.eq(space.control) for part in (bar, msix, transport, read, write)]

        # Virtqueues and their DMA.
        for i in range(len(LOOKUPS)):
            wiring.connect(m, getattr(engine, f"lookup_{i}"), getattr(transport, f"lookup_{i}"))
        for i in range(len(readers)):
            for kind in ("request", "packet"):
                wiring.connect(m, getattr(engine, f"read_{kind}_{i}"), getattr(read, f"{kind}_{i}"))
        for i in range(len(WRITE_CLIENTS)):
            for kind in ("request", "packet", "done"):
                wiring.connect(
                    m, getattr(engine, f"write_{kind}_{i}"), getattr(write, f"{kind}_{i}")
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

        # Device and network.
        wiring.connect(m, engine.readable, device.readable)
        wiring.connect(m, device.wanted, engine.wanted)
        wiring.connect(m, device.writable, engine.writable)
        join(self.net_tx, device.tx)
        join(self.net_rx, device.rx)
        m.d.comb += [device.open.eq(running), device.engine_reset.eq(reset.engine_reset)]

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
        counted = transport.events
        m.d.comb += [
            read.error.ready.eq(1),
            counted.completion_unexpected.eq(read.unexpected),
            counted.request_unsupported.eq(bar.unsupported),
            counted.request_poisoned.eq(bar.poisoned),
            counted.request_aborted.eq(bar.aborted),
            counted.message_dropped.eq(demux.dropped),
            counted.transmit_dropped.eq(device.transmit_dropped | engine.transmit_dropped),
            counted.receive_dropped.eq(device.receive_dropped | engine.receive_dropped),
            counted.virtqueue_failed.eq(engine.failed),
            transport.device_error.eq(engine.failed),
            space.received_master_abort.eq(counted.read_unsupported),
            space.received_target_abort.eq(counted.read_aborted),
            space.master_data_parity.eq(counted.read_poisoned),
            space.unsupported_request.eq(bar.unsupported),
            space.signaled_target_abort.eq(bar.aborted),
            space.detected_parity.eq(bar.poisoned),
            # An error that a completion tells, and a completion that nobody waits for, are
            # advisory and count as correctable. [PCIe 3.0 §6.2.3.2.4]
            space.correctable_error.eq(
                (bar.unsupported & ~bar.dropped)
                | bar.aborted
                | read.unexpected
                | counted.read_malformed
            ),
            space.nonfatal_error.eq(
                bar.dropped | bar.poisoned | counted.read_poisoned | counted.read_timeout
            ),
        ]
        for code, name in _CODE_COUNTERS.items():
            m.d.comb += counted[name].eq(read.error.valid & (read.error.payload.code == code))

        m.d.comb += [
            self.events.eq(engine.events),
            self.events.doorbell.eq(transport.doorbell.valid & transport.doorbell.ready),
            self.events.interrupt.eq(msix.tlp.valid & msix.tlp.ready),
        ]
        return m
