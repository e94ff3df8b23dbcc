"""The PCI_CFG window: a BAR access by way of the configuration space."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..regs.maps import BAR_BYTES
from ..types.regbus import RegisterBus, RegisterRequest
from .capabilities import ConfigSpaceMap
from .config_registers import ConfigCommit

__all__ = ["ConfigWindow", "WindowRequest", "WindowResult"]


class WindowRequest(data.Struct):
    """An access to pci_cfg_data; ``data`` is what a write writes, from its first byte on."""

    write: 1
    data: 32


class WindowResult(data.Struct):
    """``bytes`` says which bytes of ``data`` were read; none if no access was possible."""

    data: 32
    bytes: 4


class ConfigWindow(wiring.Component):
    """Turns an access to pci_cfg_data into an access to BAR 0.

    Parameters
    ----------
    space
        The map, for the places of ``window_bar``, ``window_offset`` and ``window_length``.

    Ports
    -----
    commit
        Changes of the configuration space; the window keeps a copy of its three registers.
    request, result
        One result for every request. That of a write comes when the bus has taken the write.
    bus
        Initiator. The access has the size and the place that the driver has set.

    One access at a time; three cycles and what the bus takes. If the BAR is not 0, the length
    not 1, 2 or 4, or the offset not a multiple of the length or beyond the BAR's 64 KiB, there is
    no access, and the result comes at once and without bytes. [virtio 1.4 §4.1.4.9]
    """

    def __init__(self, space: ConfigSpaceMap):
        self.space = space
        super().__init__(
            {
                "commit": In(ConfigCommit),
                "request": In(stream.Signature(WindowRequest)),
                "result": Out(stream.Signature(WindowResult)),
                "bus": Out(RegisterBus()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # Copies of the registers, with all that makes them invalid folded into one bit each.
        bar_valid = Signal(init=1)
        offset = Signal(range(BAR_BYTES))
        offset_valid = Signal(init=1)
        length = Signal(3)
        length_valid = Signal()
        with m.If(self.commit.strobe):
            value = self.commit.value
            with m.If(self.commit.dword == self.space["window_bar"].dword):
                m.d.sync += bar_valid.eq(value[:8] == 0)
            with m.If(self.commit.dword == self.space["window_offset"].dword):
                m.d.sync += [offset.eq(value), offset_valid.eq(value < BAR_BYTES)]
            with m.If(self.commit.dword == self.space["window_length"].dword):
                m.d.sync += [
                    length.eq(value),
                    length_valid.eq((value == 1) | (value == 2) | (value == 4)),
                ]

        aligned = ~((offset[0] & (length[1] | length[2])) | (offset[1] & length[2]))
        valid = bar_valid & offset_valid & length_valid & aligned
        # Bit k: byte k counts, right-aligned, for lengths 1, 2 and 4.
        size_mask = Signal(4)
        m.d.comb += size_mask.eq(Mux(length[2], 0b1111, Mux(length[1], 0b0011, 0b0001)))

        request = Signal(RegisterRequest)
        lane = Signal(2)
        read_bytes = Signal(4)
        result = Signal(WindowResult)
        m.d.comb += [
            self.bus.request.payload.eq(request),
            self.result.payload.eq(result),
        ]
        with m.FSM(name="window_state"):
            with m.State("IDLE"):
                m.d.comb += self.request.ready.eq(1)
                shift = offset[:2]
                m.d.sync += [
                    request.address.eq(offset & ~3),
                    request.write.eq(self.request.payload.write),
                    request.data.eq(self.request.payload.data << (shift << 3)),
                    request.byte_enable.eq(size_mask << shift),
                    lane.eq(shift),
                    read_bytes.eq(size_mask),
                    result.eq(0),
                ]
                with m.If(self.request.valid):
                    m.next = "RESULT"
                    with m.If(valid):
                        m.next = "ACCESS"
            with m.State("ACCESS"):
                m.d.comb += self.bus.request.valid.eq(1)
                with m.If(self.bus.request.ready):
                    m.next = "RESULT"
                    with m.If(~request.write):
                        m.next = "RESPONSE"
            with m.State("RESPONSE"):
                m.d.comb += self.bus.response.ready.eq(1)
                m.d.sync += [
                    result.data.eq(self.bus.response.payload >> (lane << 3)),
                    result.bytes.eq(read_bytes),
                ]
                with m.If(self.bus.response.valid):
                    m.next = "RESULT"
            with m.State("RESULT"):
                m.d.comb += self.result.valid.eq(1)
                with m.If(self.result.ready):
                    m.next = "IDLE"
        return m
