"""The message of an interrupt vector, as a TLP."""

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..types.tlp import TLPType, tlp_stream
from .msix_table import MSIXEntry

__all__ = ["MSIXMessage"]


class MSIXMessage(wiring.Component):
    """Makes a memory write of one dword and holds it until it is taken. [PCI 3.0 §6.8.2]

    Parameters
    ----------
    width
        Data bits of the TLP stream.

    Ports
    -----
    entry: MSIXEntry, requester_id (16)
        What the message says, and who sends it.
    offer
        Strobe: send it. Only while ``free``, so that what is offered stays as it is.
    free
        Nothing is offered.
    tlp: tlp_stream(width)
        MEM_WRITE of one beat, attributes 0, a cycle after ``offer``. Lanes past the dword are 0.
    """

    def __init__(self, width: int):
        super().__init__(
            {
                "entry": In(MSIXEntry),
                "requester_id": In(16),
                "offer": In(1),
                "free": Out(1),
                "tlp": Out(tlp_stream(width)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        payload = self.tlp.payload
        header = payload.header
        m.d.comb += self.free.eq(~self.tlp.valid)
        with m.If(self.tlp.ready):
            m.d.sync += self.tlp.valid.eq(0)
        with m.If(self.offer):
            m.d.sync += [
                self.tlp.valid.eq(1),
                payload.data.eq(self.entry.data),
                payload.first.eq(1),
                payload.last.eq(1),
                header.type.eq(TLPType.MEM_WRITE),
                header.requester_id.eq(self.requester_id),
                header.address.eq(Cat(self.entry.address_low, self.entry.address_high)),
                header.length_dw.eq(1),
                header.first_be.eq(0xF),
            ]
        return m
