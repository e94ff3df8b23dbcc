"""The reassembly memory: one slot per tag, one bank per byte lane."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from virtio_rtl.dma.read_records import piece_layout, slot_rows, strobe

__all__ = ["ReadSlots"]


class ReadSlots(wiring.Component):
    """Rotate data into the lanes that they will have in the packet, and keep them by tag.

    Parameters
    ----------
    width, tags, slot_bytes
        As in `ReadEngine`.

    Ports
    -----
    piece : In(strobe(piece_layout(...)))
        Can be read from the next cycle on.
    read_tag : In(range(tags)), read_row : In(range(rows))
    read_data : Out(width)
        The row, in the next cycle.

    One beat per cycle in, one row per cycle out. Every lane is a memory of its own, with its own
    address: a beat may cover the end of one row and the start of the next. Rows wrap around at the
    end of the slot: the bytes of a read, at most the slot's size, never meet. A row that is being
    written while it is read is taken from the write.
    """

    def __init__(self, width: int, tags: int, slot_bytes: int):
        self.width = width
        self.tags = tags
        self.rows = slot_rows(width, slot_bytes)
        self.piece_shape = piece_layout(width, tags, slot_bytes)
        super().__init__(
            {
                "piece": In(strobe(self.piece_shape)),
                "read_tag": In(range(tags)),
                "read_row": In(range(self.rows)),
                "read_data": Out(width),
            }
        )

    def elaborate(self, platform):
        m = Module()
        lanes = self.width // 8
        tag = Signal(range(self.tags))
        row = Signal(range(self.rows))
        next_row = Signal(range(self.rows))
        rotated = Signal(self.width)
        enable = Signal(lanes)
        wrapped = Signal(lanes)
        piece = self.piece.payload
        lanes_data, lanes_enable = piece.data, piece.enable
        # Four choices a step are one LUT a bit.
        for low in range(0, len(piece.shift), 2):
            digit = piece.shift[low : low + 2]
            turned_data, turned_enable = Signal(self.width), Signal(lanes)
            with m.Switch(digit):
                for value in range(1 << len(digit)):
                    amount = value << low
                    with m.Case(value):
                        m.d.comb += [
                            turned_data.eq(lanes_data.rotate_left(8 * amount)),
                            turned_enable.eq(lanes_enable.rotate_left(amount)),
                        ]
            lanes_data, lanes_enable = turned_data, turned_enable
        m.d.sync += [
            tag.eq(piece.tag),
            row.eq(piece.row),
            next_row.eq(piece.row + 1),
            rotated.eq(lanes_data),
            enable.eq(lanes_enable & self.piece.valid.replicate(lanes)),
            wrapped.eq(Cat(lane < piece.shift for lane in range(lanes))),
        ]

        # What is written in the cycle of the read address comes out of a register instead.
        written = Signal(self.width)
        hits = Signal(lanes)
        hits_row = (tag == self.read_tag) & (row == self.read_row)
        hits_next = (tag == self.read_tag) & (next_row == self.read_row)
        m.d.sync += [
            written.eq(rotated),
            hits.eq(
                enable
                & ((wrapped & hits_next.replicate(lanes)) | (~wrapped & hits_row.replicate(lanes)))
            ),
        ]
        for lane in range(lanes):
            bank = memory.Memory(shape=8, depth=self.tags * self.rows, init=[])
            m.submodules[f"lane_{lane}"] = bank
            write, read = bank.write_port(), bank.read_port()
            m.d.comb += [
                write.addr.eq(Cat(Mux(wrapped[lane], next_row, row), tag)),
                write.data.eq(rotated.word_select(lane, 8)),
                write.en.eq(enable[lane]),
                read.addr.eq(Cat(self.read_row, self.read_tag)),
                read.en.eq(1),
                self.read_data.word_select(lane, 8).eq(
                    Mux(hits[lane], written.word_select(lane, 8), read.data)
                ),
            ]
        return m
