"""The message of an interrupt vector, and the two streams on which it leaves."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..types.dma import WriteRequest
from ..types.packet import packet_stream
from .msix_table import EntryWord

__all__ = ["MSIXMessage"]


class MSIXMessage(wiring.Component):
    """Collects the dwords of a message from the table and offers it to the write engine.

    Parameters
    ----------
    width
        Data bits of the packet stream.

    Ports
    -----
    entry (32)
        A dword of the table entry.
    load (3)
        Strobes: ``entry`` is the dword with this `EntryWord`, address low, address high or data.
        Only while ``free``, so that what is offered stays as it is.
    offer
        Strobe: the message is complete, or will be with what ``load`` takes in the same cycle.
    free
        Nothing is offered.
    write_request, packet
        The message: one write of 4 bytes, and its data as a packet. They are offered together,
        one cycle after ``offer``; each is taken when it is, and none is withdrawn.
    """

    def __init__(self, width: int):
        super().__init__(
            {
                "entry": In(32),
                "load": In(3),
                "offer": In(1),
                "free": Out(1),
                "write_request": Out(stream.Signature(WriteRequest)),
                "packet": Out(packet_stream(width)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        words = {
            word: Signal(32, name=name)
            for word, name in (
                (EntryWord.ADDRESS_LOW, "address_low"),
                (EntryWord.ADDRESS_HIGH, "address_high"),
                (EntryWord.DATA, "message_data"),
            )
        }
        for word, register in words.items():
            with m.If(self.load[word]):
                m.d.sync += register.eq(self.entry)
        m.d.comb += [
            self.free.eq(~self.write_request.valid & ~self.packet.valid),
            self.write_request.payload.address.eq(
                Cat(words[EntryWord.ADDRESS_LOW], words[EntryWord.ADDRESS_HIGH])
            ),
            self.write_request.payload.length.eq(4),
            self.write_request.payload.last.eq(1),
            self.packet.payload.data.eq(words[EntryWord.DATA]),
            self.packet.payload.count.eq(4),
            self.packet.payload.last.eq(1),
        ]
        with m.If(self.write_request.ready):
            m.d.sync += self.write_request.valid.eq(0)
        with m.If(self.packet.ready):
            m.d.sync += self.packet.valid.eq(0)
        with m.If(self.offer):
            m.d.sync += [self.write_request.valid.eq(1), self.packet.valid.eq(1)]
        return m
