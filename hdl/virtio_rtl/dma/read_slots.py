"""The reassembly memory: one slot per tag, one bank per byte lane."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

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
        Written at the end of the second cycle after this one.
    read_tag : In(range(tags)), read_row : In(range(rows))
    read_data : Out(width)
        The row, in the next cycle.

    One beat per cycle in, one row per cycle out. Every lane is a memory of its own, with its own
    address: a beat may cover the end of one row and the start of the next. Rows wrap around at the
    end of the slot: the bytes of a read, at most the slot's size, never meet.
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
        lane_bits = exact_log2(lanes)
        fine_bits = lane_bits // 2

        coarse = Signal(self.piece_shape)
        coarse_valid = Signal()
        piece = self.piece.payload
        m.d.sync += [coarse.eq(piece), coarse_valid.eq(self.piece.valid)]
        with m.Switch(piece.shift[fine_bits:]):
            for step in range(lanes >> fine_bits):
                amount = step << fine_bits
                with m.Case(step):
                    m.d.sync += [
                        coarse.data.eq(piece.data.rotate_left(8 * amount)),
                        coarse.enable.eq(piece.enable.rotate_left(amount)),
                    ]

        tag = Signal(range(self.tags))
        row = Signal(range(self.rows))
        next_row = Signal(range(self.rows))
        rotated = Signal(self.width)
        enable = Signal(lanes)
        wrapped = Signal(lanes)
        m.d.sync += [
            tag.eq(coarse.tag),
            row.eq(coarse.row),
            next_row.eq(coarse.row + 1),
            wrapped.eq(Cat(lane < coarse.shift for lane in range(lanes))),
        ]
        with m.Switch(coarse.shift[:fine_bits]):
            for amount in range(1 << fine_bits):
                with m.Case(amount):
                    m.d.sync += [
                        rotated.eq(coarse.data.rotate_left(8 * amount)),
                        enable.eq(
                            coarse.enable.rotate_left(amount) & coarse_valid.replicate(lanes)
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
                self.read_data.word_select(lane, 8).eq(read.data),
            ]
        return m
