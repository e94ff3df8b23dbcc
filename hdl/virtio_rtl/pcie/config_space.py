"""The configuration space of our function: configuration requests in, completions out."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..config import DeviceConfig
from ..types.pcie import FunctionControl
from ..types.regbus import RegisterBus
from ..types.tlp import CompletionStatus, TLPHeader, TLPType, tlp_stream
from .capabilities import build_config_space
from .config_registers import ConfigAccess, ConfigRegisters, ConfigState
from .config_window import ConfigWindow

__all__ = ["ConfigSpace"]

_D3HOT = 3
_MAX_READ_REQUEST_CODE = 5


class ConfigSpace(wiring.Component):
    """Type 0 configuration space with power management, MSI-X, PCI Express and virtio.

    Parameters
    ----------
    config
        Device type, number of virtqueues, MSI-X vectors, lanes and generation.
    width
        Data bits of the TLP streams: 64, 128, 256 or 512.
    max_payload_code
        Largest payload supported, 128 << code bytes: 1 or 2.

    Ports
    -----
    requests
        Configuration requests. One is taken at a time.
    completion
        One completion, of one beat, for every request, in order.
    control
        What the host has programmed, with payload and read request size limited to valid codes.
        In D3hot, ``memory_enable`` and ``bus_master_enable`` are 0. The requester id is the
        target of the last type 0 request that was accepted.
    bar_base
        Address of BAR 0.
    bus
        Accesses of the PCI_CFG window; it works whatever memory_enable says.
    interrupt_status, transactions_pending
        Levels shown in the Status and Device Status registers.
    received_master_abort, received_target_abort, signaled_target_abort, detected_parity,
    unsupported_request, nonfatal_error, correctable_error
        Strobes that set the status bits of that name.
    master_data_parity
        Strobe: a poisoned completion came. Sets Detected Parity Error and, if Parity Error
        Response is set, Master Data Parity Error.
    flr_request, flr_done
        Function level reset: ``flr_request`` rises when the host asks for it, with the
        completion of the write already under way. The device drains and pulses ``flr_done``;
        then the reset values come back and ``flr_request`` falls. Accesses are served while the
        device drains. [PCIe 3.0 §6.6.2]
    completion_timeout_disable
        The host's wish in Device Control 2.

    A request takes 7 cycles, one that uses the window longer. A function number
    other than 0, a length other than one dword, a type 1 request or a poisoned write gives
    Unsupported Request and changes nothing but status bits. [PCIe 3.0 §2.2.9, §2.7.2.2, §7.5]

    Function level reset keeps what PCIe says it must: Max_Payload_Size, Link Control and the
    captured requester id; everything else returns to its reset value.

    PCI_CFG window: a read puts the bytes it has read into pci_cfg_data, the others keep what was
    written there; a read without access gives 0. Any enabled byte acts. [virtio 1.4 §4.1.4.9]

    Limitations: no extended capabilities (no AER), error messages are not sent, link status is
    that of the configuration and not of the link.
    """

    def __init__(
        self,
        config: DeviceConfig,
        width: int,
        *,
        max_payload_code: int = 1,
    ):
        self.width = width
        self.max_payload_code = max_payload_code
        self.space = build_config_space(config, max_payload_code=max_payload_code)
        super().__init__(
            {
                "requests": In(tlp_stream(width)),
                "completion": Out(tlp_stream(width)),
                "control": Out(FunctionControl),
                "bar_base": Out(64),
                "bus": Out(RegisterBus()),
                "interrupt_status": In(1),
                "transactions_pending": In(1),
                "received_master_abort": In(1),
                "received_target_abort": In(1),
                "signaled_target_abort": In(1),
                "detected_parity": In(1),
                "master_data_parity": In(1),
                "unsupported_request": In(1),
                "nonfatal_error": In(1),
                "correctable_error": In(1),
                "flr_request": Out(1),
                "flr_done": In(1),
                "completion_timeout_disable": Out(1),
            }
        )

    def _drive_control(self, m: Module, state, requester_id) -> None:
        """Show the programmed state, made safe."""
        awake = state.power_state != _D3HOT
        for name in FunctionControl.as_shape().members:
            if name in ConfigState.as_shape().members:
                m.d.comb += self.control[name].eq(state[name])
        m.d.comb += [
            self.control.requester_id.eq(requester_id),
            self.control.memory_enable.eq(state.memory_enable & awake),
            self.control.bus_master_enable.eq(state.bus_master_enable & awake),
            self.bar_base.eq(Cat(state.bar0_base, state.bar1_base) << 16),
            self.completion_timeout_disable.eq(state.completion_timeout_disable),
        ]
        with m.If(state.max_payload > self.max_payload_code):
            m.d.comb += self.control.max_payload.eq(self.max_payload_code)
        with m.If(state.max_read_request > _MAX_READ_REQUEST_CODE):
            m.d.comb += self.control.max_read_request.eq(_MAX_READ_REQUEST_CODE)

    def elaborate(self, platform):
        m = Module()
        m.submodules.registers = registers = ConfigRegisters(self.space)
        m.submodules.window = window = ConfigWindow(self.space)
        wiring.connect(m, wiring.flipped(self.bus), window.bus)
        m.d.comb += window.commit.eq(registers.commit)

        header = Signal(TLPHeader)
        access = Signal(ConfigAccess)
        status = Signal(CompletionStatus)
        requester_id = Signal(16)
        # The completion carries data; a read of the window may end without an access.
        read = Signal()
        value = Signal(32)
        own_unsupported = Signal()
        own_poisoned = Signal()
        self._drive_control(m, registers.state, requester_id)

        with m.If(registers.initiate_flr):
            m.d.sync += self.flr_request.eq(1)
        drained = Signal()
        with m.If(self.flr_done & self.flr_request):
            m.d.sync += drained.eq(1)

        events = registers.events
        m.d.comb += [
            registers.live.interrupt_status.eq(self.interrupt_status),
            registers.live.transactions_pending.eq(self.transactions_pending),
            events.received_master_abort.eq(self.received_master_abort),
            events.received_target_abort.eq(self.received_target_abort),
            events.signaled_target_abort.eq(self.signaled_target_abort),
            events.master_data_parity.eq(
                self.master_data_parity & registers.state.parity_error_response
            ),
            events.detected_parity.eq(
                self.detected_parity | self.master_data_parity | own_poisoned
            ),
            # A request that we refuse with a completion is an advisory non-fatal error, which
            # counts as correctable. [PCIe 3.0 §6.2.3.2.4.1]
            events.unsupported_request.eq(self.unsupported_request | own_unsupported),
            events.correctable_error.eq(self.correctable_error | own_unsupported),
            events.nonfatal_error.eq(self.nonfatal_error | own_poisoned),
        ]

        beat = self.requests.payload
        is_write = Signal()
        poisoned = Signal()
        refused = Signal()
        m.d.comb += [
            is_write.eq(beat.header.type == TLPType.CONFIG_WRITE0),
            poisoned.eq(is_write & beat.header.poisoned),
            refused.eq(
                (~is_write & (beat.header.type != TLPType.CONFIG_READ0))
                | (beat.header.completer_id[:3] != 0)
                | (beat.header.length_dw != 1)
                | ~beat.last
            ),
        ]

        in_window = Signal()
        m.d.comb += [
            in_window.eq(
                (access.dword == self.space["window_data"].dword) & access.byte_enable.any()
            ),
            registers.access.payload.eq(access),
            window.request.payload.write.eq(~read),
            window.request.payload.data.eq(value),
        ]
        with m.FSM(name="request_state"):
            with m.State("IDLE"):
                m.d.comb += self.requests.ready.eq(~drained)
                m.d.sync += [
                    header.eq(beat.header),
                    access.dword.eq(beat.header.address[2:12]),
                    access.write.eq(is_write),
                    access.data.eq(beat.data[:32]),
                    access.byte_enable.eq(beat.header.first_be),
                    read.eq(~is_write),
                    status.eq(CompletionStatus.SUCCESS),
                ]
                with m.If(drained):
                    m.d.comb += registers.restore.eq(1)
                    m.next = "RESTORE"
                with m.Elif(self.requests.valid & beat.first):
                    m.next = "CHECK"
                    with m.If(refused | poisoned):
                        m.d.comb += [
                            own_unsupported.eq(refused),
                            own_poisoned.eq(~refused),
                        ]
                        m.d.sync += status.eq(CompletionStatus.UNSUPPORTED_REQUEST)
                        m.next = "COMPLETE"
                    with m.If(~beat.last):
                        m.next = "DROP_PAYLOAD"
            with m.State("DROP_PAYLOAD"):
                m.d.comb += self.requests.ready.eq(1)
                with m.If(self.requests.valid & beat.last):
                    m.next = "COMPLETE"
            with m.State("CHECK"):
                m.d.sync += requester_id.eq(header.completer_id)
                m.next = "ACCESS"
                with m.If(in_window & read):
                    m.next = "WINDOW"
            with m.State("ACCESS"):
                m.d.comb += registers.access.valid.eq(1)
                with m.If(registers.access.ready):
                    m.next = "VALUE"
            with m.State("VALUE"):
                m.d.comb += registers.value.ready.eq(1)
                m.d.sync += value.eq(registers.value.payload)
                with m.If(registers.value.valid):
                    m.next = "COMPLETE"
                    with m.If(in_window & ~read):
                        m.next = "WINDOW"
            with m.State("WINDOW"):
                m.d.comb += window.request.valid.eq(1)
                with m.If(window.request.ready):
                    m.next = "WINDOW_RESULT"
            with m.State("WINDOW_RESULT"):
                m.d.comb += window.result.ready.eq(1)
                with m.If(window.result.valid):
                    m.next = "COMPLETE"
                    with m.If(read):
                        m.d.sync += value.eq(0)
                        with m.If(window.result.payload.bytes.any()):
                            # What was read is stored in pci_cfg_data like written data.
                            m.d.sync += [
                                access.write.eq(1),
                                access.data.eq(window.result.payload.data),
                                access.byte_enable.eq(window.result.payload.bytes),
                            ]
                            m.next = "ACCESS"
            with m.State("COMPLETE"):
                m.d.comb += self.completion.valid.eq(1)
                with m.If(self.completion.ready):
                    m.next = "IDLE"
            with m.State("RESTORE"):
                with m.If(~registers.restoring):
                    m.d.sync += [drained.eq(0), self.flr_request.eq(0)]
                    m.next = "IDLE"

        self._drive_completion(m, header, status, read, value)
        return m

    def _drive_completion(self, m: Module, header, status, read, value) -> None:
        """Build the completion of the request in ``header``."""
        beat = self.completion.payload
        with_data = Signal()
        m.d.comb += [
            with_data.eq(read & (status == CompletionStatus.SUCCESS)),
            beat.data.eq(value),
            beat.header.type.eq(Mux(with_data, TLPType.COMPLETION_DATA, TLPType.COMPLETION)),
            beat.header.traffic_class.eq(header.traffic_class),
            beat.header.no_snoop.eq(header.no_snoop),
            beat.header.relaxed_ordering.eq(header.relaxed_ordering),
            beat.header.length_dw.eq(with_data),
            beat.header.requester_id.eq(header.requester_id),
            beat.header.tag.eq(header.tag),
            beat.header.completer_id.eq(header.completer_id),
            beat.header.status.eq(status),
            # [PCIe 3.0 §2.2.9]: 4 for all completions but those of memory reads.
            beat.header.byte_count.eq(4),
            beat.first.eq(1),
            beat.last.eq(1),
        ]
