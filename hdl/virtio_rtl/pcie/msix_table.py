"""The memories of MSI-X: table entries, mask bits, pending bits."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

__all__ = ["ROW_BITS", "EntryWord", "MSIXEntry", "MSIXRow", "MSIXTable"]

ROW_BITS = 32


class EntryWord:
    """The dwords of a table entry. [PCI 3.0 §6.8.2]"""

    ADDRESS_LOW = 0
    ADDRESS_HIGH = 1
    DATA = 2
    CONTROL = 3


class MSIXRow(data.Struct):
    """Mask and pending bits of 32 vectors; ``pending`` is a dword of the pending bit array."""

    masked: ROW_BITS
    pending: ROW_BITS


class MSIXEntry(data.Struct):
    """The dwords of a table entry that are a message."""

    address_low: 32
    address_high: 32
    data: 32


class MSIXTable(wiring.Component):
    """Table entries and, in rows of 32 vectors, mask and pending bits.

    Parameters
    ----------
    vectors
        Table entries, at least 2.

    Ports
    -----
    vector, row_index
        What is looked at: entry ``vector``, and the row.
    entry, row, masked, pending
        What was found there, one cycle later: address and data of the entry, the whole row, and
        the two bits of ``vector`` in it, if ``row_index`` is ``vector // 32``.
    word, byte_enable, write_data
        Write bytes of this dword of the entry; ``vector`` has stood for one cycle at least.
    set_masked, clear_masked, set_pending, clear_pending
        Change the vector's bits; ``vector`` and ``row_index`` have stood for one cycle at least.
    clear_row
        Nothing pending in the row; it has stood for one cycle at least.
    clear, busy
        Strobe: all vectors masked, nothing pending, entries 0. ``busy`` is high from the next
        cycle on until done, and after a reset of the clock domain; a cycle a vector.
        Everything else waits for it to fall.

    The vector control dword lies in the row.
    """

    def __init__(self, vectors: int):
        self.vectors = vectors
        # The pending bit array consists of quadwords.
        self.rows = 2 * ((vectors + 63) // 64)
        super().__init__(
            {
                "vector": In(11),
                "word": In(2),
                "row_index": In(range(self.rows)),
                "entry": Out(MSIXEntry),
                "row": Out(MSIXRow),
                "masked": Out(1),
                "pending": Out(1),
                "byte_enable": In(4),
                "write_data": In(32),
                "set_masked": In(1),
                "clear_masked": In(1),
                "set_pending": In(1),
                "clear_pending": In(1),
                "clear_row": In(1),
                "clear": In(1),
                "busy": Out(1, init=1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.entries = entries = Memory(shape=unsigned(96), depth=self.vectors, init=[])
        m.submodules.rows = rows = Memory(shape=MSIXRow, depth=self.rows, init=[])
        entry_read, entry_write = entries.read_port(), entries.write_port(granularity=8)
        row_read, row_write = rows.read_port(), rows.write_port()

        bit = Signal(ROW_BITS)
        m.d.sync += bit.eq(1 << self.vector[:5])
        m.d.comb += [
            entry_read.addr.eq(self.vector),
            row_read.addr.eq(self.row_index),
            self.entry.as_value().eq(entry_read.data),
            self.row.eq(row_read.data),
            self.masked.eq((self.row.masked & bit).any()),
            self.pending.eq((self.row.pending & bit).any()),
        ]

        sweep = Signal(range(self.vectors))
        with m.If(self.busy):
            m.d.comb += [
                entry_write.addr.eq(sweep),
                entry_write.en.eq(~0),
                row_write.addr.eq(sweep),
                row_write.data.masked.eq(~0),
                # There are at least as many vectors as rows.
                row_write.en.eq(sweep < self.rows),
            ]
            m.d.sync += sweep.eq(sweep + 1)
            with m.If(sweep == self.vectors - 1):
                m.d.sync += [sweep.eq(0), self.busy.eq(0)]
        with m.Else():
            m.d.comb += [
                entry_write.addr.eq(entry_read.addr),
                entry_write.data.eq(self.write_data.replicate(3)),
                entry_write.en.eq(self.byte_enable << Cat(Const(0, 2), self.word)),
                row_write.addr.eq(self.row_index),
                row_write.data.masked.eq(
                    Mux(self.clear_masked, self.row.masked & ~bit, self.row.masked)
                    | Mux(self.set_masked, bit, 0)
                ),
                row_write.data.pending.eq(
                    Mux(self.clear_pending, self.row.pending & ~bit, self.row.pending)
                    | Mux(self.set_pending, bit, 0)
                ),
                row_write.en.eq(
                    self.set_masked
                    | self.clear_masked
                    | self.set_pending
                    | self.clear_pending
                    | self.clear_row
                ),
            ]
            with m.If(self.clear_row):
                m.d.comb += row_write.data.pending.eq(0)
        with m.If(self.clear):
            m.d.sync += self.busy.eq(1)
        return m
