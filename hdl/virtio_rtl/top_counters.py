"""Errors of the whole device: counters in BAR 0, and status bits of the PCI function."""

from amaranth.hdl import Module

from .config import DeviceConfig
from .device.kind import device_type
from .regs.maps import Counter
from .transport.pci import TRANSPORT_COUNTERS
from .types.dma import DMAError

__all__ = ["all_counters", "connect_errors", "event_counters"]

_COUNTERS = (
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
    Counter("virtqueue_failed", "buffers that broke a rule, or virtqueue accesses that failed"),
)

_CODE_COUNTERS = {
    DMAError.UNSUPPORTED_REQUEST: "read_unsupported",
    DMAError.COMPLETER_ABORT: "read_aborted",
    DMAError.POISONED: "read_poisoned",
    DMAError.TIMEOUT: "read_timeout",
    DMAError.MALFORMED: "read_malformed",
}


def event_counters(config: DeviceConfig) -> tuple[Counter, ...]:
    """Counters that the transport has behind its own: of all devices, then of the type."""
    return _COUNTERS + device_type(config.device).counters


def all_counters(config: DeviceConfig) -> tuple[Counter, ...]:
    """Counters of a device, as they lie in BAR 0."""
    return TRANSPORT_COUNTERS + event_counters(config)


def connect_errors(m: Module, *, demux, space, bar, read, engine, transport) -> None:
    """Count errors of the bus and the virtqueues, and show them in the configuration space."""
    counted = transport.events
    m.d.comb += [
        read.error.ready.eq(1),
        counted.completion_unexpected.eq(read.unexpected),
        counted.request_unsupported.eq(bar.unsupported),
        counted.request_poisoned.eq(bar.poisoned),
        counted.request_aborted.eq(bar.aborted),
        counted.message_dropped.eq(demux.dropped),
        counted.virtqueue_failed.eq(engine.failed),
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
