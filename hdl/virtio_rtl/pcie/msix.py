"""MSI-X: register accesses, pending bits, and which message goes when."""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import enum, stream, wiring
from amaranth.lib.wiring import In, Out

from ..types.pcie import FunctionControl
from ..types.regbus import RegisterBus, RegisterRequest
from ..types.tlp import tlp_stream
from .capabilities import MSIX_MAX_VECTORS
from .msix_message import MSIXMessage
from .msix_table import ROW_BITS, EntryWord, MSIXTable

__all__ = ["MSIX"]


class _Operation(enum.Enum, shape=unsigned(2)):
    """What the controller is doing."""

    REGISTER = 0
    VECTOR = 1
    SCAN = 2


class MSIX(wiring.Component):
    """Signals interrupt vectors as messages, with mask and pending bits.

    Parameters
    ----------
    vectors
        Table size, 2 to 1024 (what fits BAR 0).
    width
        Data bits of the packet stream.

    Ports
    -----
    bus
        Target: table at 0x8000, pending bits at 0xC000. Entries past the table read 0 and ignore
        writes, as do reserved bits; the pending bits are read only.
    control
        ``msix_enable``, ``msix_function_mask`` and ``bus_master_enable`` are obeyed.
    request
        Vector numbers to signal; those past the table are dropped.
    tlp
        The messages, each a memory write of one beat.
    stop
        Messages vanish instead of being offered.
    hold
        Level: no message is begun; requests and what is pending wait as pending bits.
    clear, busy
        Strobe: return all to the reset state (masked, nothing pending, all else 0). ``busy`` is
        high from the next cycle on until done; requests and accesses wait. The same happens
        after a reset of the clock domain. Takes a cycle a vector. A request under way may
        still send its message.
    forget
        Strobe: nothing is pending any more (device reset); table and masks stay. ``busy`` until
        done, 3 cycles per 32 vectors.
    idle
        No message is offered and none is being made.

    A request's message is offered 2 cycles later, the next request is taken a cycle after that at
    best (each cycle while MSI-X is disabled); a register access takes 3. They are done one after
    the other, so that each sees the effect of all before it; registers and requests alternate when
    both wait, and so do requests and the scan for what was pending.

    While the vector or the function is masked, the function is no bus master, or ``hold`` is set, a
    request sets the pending bit, and one message goes when that ends; a request that is made
    before then is part of the same message. While MSI-X is disabled, requests are consumed
    without a trace.
    One message at a time can stand at the output; the next request waits for it, but a write to
    the table never does, because a posted write must not wait for our own transmissions
    [PCIe 3.0 §2.4.1]. A read does wait: once a driver has masked a vector and has read back, no
    message stands here. A message that is offered is not withdrawn.
    A pending vector that is unmasked is found by a scan: its message is offered 10 cycles after
    the write when nothing else is to do; if the whole function may send again, a scan of 4 cycles
    per 32 vectors and 8 per message finds what is pending. [PCI 3.0 §6.8.2] [virtio 1.4 §4.1.5.1.2]
    """

    def __init__(self, vectors: int, width: int):
        if not 2 <= vectors <= MSIX_MAX_VECTORS:
            raise ValueError(f"vectors = {vectors!r}: 2 to {MSIX_MAX_VECTORS}")
        self.vectors = vectors
        self.width = width
        super().__init__(
            {
                "bus": In(RegisterBus()),
                "control": In(FunctionControl),
                "request": In(stream.Signature(unsigned(11))),
                "tlp": Out(tlp_stream(width)),
                "stop": In(1),
                "hold": In(1),
                "clear": In(1),
                "forget": In(1),
                "busy": Out(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.table = table = MSIXTable(self.vectors)
        rows = table.rows
        operation = Signal(_Operation)
        access = Signal(RegisterRequest)
        vector = Signal(11)
        row_index = Signal(range(rows))
        # A clear waits for the operation under way.
        clear_waits = Signal()
        forget_left = Signal(range(rows + 1))
        m.d.comb += self.busy.eq(clear_waits | table.busy | (forget_left != 0))

        m.submodules.message = message = MSIXMessage(self.width)
        wiring.connect(m, message.tlp, wiring.flipped(self.tlp))
        m.d.comb += [
            message.entry.eq(table.entry),
            message.requester_id.eq(self.control.requester_id),
        ]

        with m.If(self.bus.response.ready):
            m.d.sync += self.bus.response.valid.eq(0)

        # Rows that the scan has still to visit; it goes round.
        allowed = Signal()
        allowed_before = Signal()
        scan_row = Signal(range(rows))
        scan_left = Signal(range(rows + 1))
        candidates = Signal(ROW_BITS)
        m.d.comb += allowed.eq(
            self.control.msix_enable
            & ~self.control.msix_function_mask
            & self.control.bus_master_enable
            & ~self.hold
        )
        m.d.sync += allowed_before.eq(allowed)

        # Register accesses before internal work after internal work, and the other way round.
        bus_turn = Signal()
        request_turn = Signal()
        bus_waits = Signal()
        request_waits = Signal()
        scan_waits = Signal()
        m.d.comb += [
            bus_waits.eq(
                self.bus.request.valid
                & (self.bus.request.payload.write | (message.free & ~self.bus.response.valid))
            ),
            request_waits.eq(self.request.valid & (message.free | ~self.control.msix_enable)),
            scan_waits.eq((scan_left != 0) & message.free & allowed),
        ]

        with m.FSM(name="operation_state") as fsm:
            with m.State("IDLE"):
                with m.If(clear_waits | table.busy):
                    m.d.comb += table.clear.eq(clear_waits)
                    m.d.sync += clear_waits.eq(0)
                with m.Elif(forget_left != 0):
                    m.d.sync += row_index.eq(forget_left - 1)
                    m.next = "FORGET_LOOKUP"
                with m.Elif(bus_waits & (bus_turn | ~(request_waits | scan_waits))):
                    m.d.comb += self.bus.request.ready.eq(1)
                    address = self.bus.request.payload.address
                    m.d.sync += [
                        operation.eq(_Operation.REGISTER),
                        bus_turn.eq(0),
                        access.eq(self.bus.request.payload),
                        vector.eq(address[4:14]),
                        row_index.eq(Mux(address[14], address[2:14], address[9:14])),
                    ]
                    m.next = "LOOKUP"
                with m.Elif(request_waits & (request_turn | ~scan_waits)):
                    m.d.comb += self.request.ready.eq(1)
                    m.d.sync += [
                        operation.eq(_Operation.VECTOR),
                        bus_turn.eq(1),
                        request_turn.eq(0),
                        vector.eq(self.request.payload),
                        row_index.eq(self.request.payload >> 5),
                    ]
                    with m.If((self.request.payload < self.vectors) & self.control.msix_enable):
                        m.next = "MESSAGE"
                with m.Elif(scan_waits):
                    m.d.sync += [
                        operation.eq(_Operation.SCAN),
                        bus_turn.eq(1),
                        request_turn.eq(1),
                        row_index.eq(scan_row),
                    ]
                    m.next = "LOOKUP"
            with m.State("FORGET_LOOKUP"):
                m.next = "FORGET"
            with m.State("FORGET"):
                m.d.comb += table.clear_row.eq(1)
                m.d.sync += forget_left.eq(forget_left - 1)
                m.next = "IDLE"
            with m.State("LOOKUP"):
                # The addresses stand at the memories.
                with m.Switch(operation):
                    with m.Case(_Operation.REGISTER):
                        m.next = "REGISTER"
                    with m.Case(_Operation.SCAN):
                        m.next = "SCAN"
                    with m.Default():
                        m.next = "MESSAGE"
            with m.State("REGISTER"):
                unmasked_pending = self._access_registers(m, table, access)
                with m.If(unmasked_pending):
                    m.d.sync += scan_left.eq(rows)
                    with m.If(scan_left == 0):
                        m.d.sync += scan_row.eq(row_index)
                m.next = "IDLE"
            with m.State("SCAN"):
                m.d.sync += candidates.eq(table.row.pending & ~table.row.masked)
                m.next = "SCAN_FOUND"
            with m.State("SCAN_FOUND"):
                with m.If(candidates == 0):
                    m.d.sync += [
                        scan_left.eq(scan_left - 1),
                        scan_row.eq(Mux(scan_row == rows - 1, 0, scan_row + 1)),
                    ]
                    m.next = "IDLE"
                with m.Else():
                    m.d.sync += candidates.eq(candidates & -candidates)
                    m.next = "SCAN_VECTOR"
            with m.State("SCAN_VECTOR"):
                # One bit is left: its number is the vector's.
                number = Cat(
                    Cat(candidates[k] for k in range(ROW_BITS) if k >> b & 1).any()
                    for b in range(5)
                )
                m.d.sync += [
                    operation.eq(_Operation.VECTOR),
                    vector.eq(Cat(number, scan_row)),
                ]
                m.next = "LOOKUP"
            with m.State("MESSAGE"):
                # Decided as late as possible, so that nothing is offered once it is masked.
                with m.If(allowed & ~table.masked):
                    m.d.comb += [table.clear_pending.eq(1), message.offer.eq(~self.stop)]
                with m.Else():
                    m.d.comb += table.set_pending.eq(self.control.msix_enable)
                m.next = "IDLE"

        # A request is looked up while it is taken; all else has a state for that.
        idle = fsm.ongoing("IDLE")
        m.d.comb += [
            table.vector.eq(Mux(idle, self.request.payload, vector)),
            table.row_index.eq(Mux(idle, self.request.payload >> 5, row_index)),
        ]

        # After the controller: a strobe is never lost to what happens in the same cycle.
        with m.If(allowed & ~allowed_before):
            m.d.sync += scan_left.eq(rows)
        with m.If(self.clear):
            m.d.sync += clear_waits.eq(1)
        with m.If(self.forget):
            m.d.sync += forget_left.eq(rows)
        m.d.comb += self.idle.eq(message.free & idle)
        return m

    def _access_registers(self, m: Module, table: MSIXTable, access):
        """Do the register access; return whether it has unmasked a pending vector."""
        word = access.address[2:4]
        in_pending = access.address[14] & (access.address[2:14] < table.rows)
        in_table = ~access.address[14] & (access.address[4:14] < self.vectors)
        unmasked_pending = Signal()
        with m.If(~access.write):
            m.d.sync += [self.bus.response.valid.eq(1), self.bus.response.payload.eq(0)]
            with m.If(in_pending):
                m.d.sync += self.bus.response.payload.eq(table.row.pending)
            with m.Elif(in_table & (word == EntryWord.CONTROL)):
                m.d.sync += self.bus.response.payload.eq(table.masked)
            with m.Elif(in_table):
                m.d.sync += self.bus.response.payload.eq(
                    table.entry.as_value().word_select(word, 32)
                )
        with m.Elif(in_table & (word == EntryWord.CONTROL)):
            m.d.comb += [
                table.set_masked.eq(access.byte_enable[0] & access.data[0]),
                table.clear_masked.eq(access.byte_enable[0] & ~access.data[0]),
                unmasked_pending.eq(table.clear_masked & table.pending),
            ]
        with m.Elif(in_table):
            m.d.comb += [
                table.word.eq(word),
                table.byte_enable.eq(access.byte_enable),
                table.write_data.eq(access.data),
            ]
            # Messages are dword writes: bits 1:0 of the address are 0 and stay so.
            with m.If(word == EntryWord.ADDRESS_LOW):
                m.d.comb += table.write_data[:2].eq(0)
        return unmasked_pending
