"""Rows of tags into beats of packets."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from virtio_rtl.dma.read_records import read_error, share_layout, strobe
from virtio_rtl.types.dma import DMAError
from virtio_rtl.types.packet import packet_beat

__all__ = ["ReadMerge", "row_layout"]


def row_layout(width: int, tags: int, slot_bytes: int, clients: int) -> data.StructLayout:
    """A row on its way out, one cycle ahead of its data."""
    return data.StructLayout(
        {
            "client": range(max(clients, 2)),
            "share": share_layout(width, tags, slot_bytes),
            "first": 1,
            "last": 1,
        }
    )


class ReadMerge(wiring.Component):
    """Join the rows of consecutive tags into packed packets, and gather their errors.

    Parameters
    ----------
    width, tags, slot_bytes, clients
        As in `ReadEngine`.

    Ports
    -----
    row : In(strobe(row_layout(...)))
        The row whose data and code come in the next cycle.
    row_data : In(width)
    code : In(DMAError)
        How the row's read ended.
    beat : Out(strobe({client, beat}))
        Two cycles after ``row``.
    error : Out(stream read_error(clients))
        One per failed group; lost if the previous one was not taken yet.

    One row per cycle, in any mixture of clients. The last row of a tag that the client's next tag
    continues is kept, client by client, until that one's first row comes.
    """

    def __init__(self, width: int, tags: int, slot_bytes: int, clients: int):
        self.width = width
        self.clients = clients
        self.row_shape = row_layout(width, tags, slot_bytes, clients)
        super().__init__(
            {
                "row": In(strobe(self.row_shape)),
                "row_data": In(width),
                "code": In(DMAError),
                "beat": Out(
                    strobe(
                        data.StructLayout(
                            {"client": range(max(clients, 2)), "beat": packet_beat(width)}
                        )
                    )
                ),
                "error": Out(stream.Signature(read_error(clients))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        lanes = self.width // 8
        row = Signal(self.row_shape)
        row_valid = Signal()
        continued = Signal(lanes)
        ahead = self.row.payload
        m.d.sync += [
            row.eq(ahead),
            row_valid.eq(self.row.valid),
            continued.eq(
                Cat(ahead.first & (lane < ahead.share.first_lane) for lane in range(lanes))
            ),
        ]

        kept = memory.Memory(shape=self.width, depth=max(self.clients, 2), init=[])
        m.submodules.kept = kept
        kept_write = kept.write_port()
        kept_read = kept.read_port(domain="comb")
        merged = Signal(self.width)
        keeps = row.last & row.share.carry
        ends_group = row.last & row.share.last
        m.d.comb += [
            kept_read.addr.eq(row.client),
            kept_write.addr.eq(row.client),
            kept_write.data.eq(merged),
            kept_write.en.eq(row_valid & keeps),
            merged.eq(
                Cat(
                    Mux(
                        continued[lane],
                        kept_read.data.word_select(lane, 8),
                        self.row_data.word_select(lane, 8),
                    )
                    for lane in range(lanes)
                )
            ),
        ]

        earlier_codes = Signal(data.ArrayLayout(DMAError, max(self.clients, 2)))
        earlier = earlier_codes[row.client]
        first_code = Signal(DMAError)
        m.d.comb += first_code.eq(Mux(earlier == DMAError.NONE, self.code, earlier))
        with m.If(row_valid):
            m.d.sync += earlier.eq(Mux(ends_group, DMAError.NONE, first_code))

        beat = self.beat.payload.beat
        m.d.sync += [
            self.beat.valid.eq(row_valid & ~keeps),
            self.beat.payload.client.eq(row.client),
            beat.data.eq(merged),
            beat.count.eq(Mux(ends_group, row.share.end_count, lanes)),
            beat.last.eq(ends_group),
            # Known from the tag's first row on, so that who takes one read a group need not wait.
            beat.error.eq(first_code != DMAError.NONE),
        ]

        with m.If(self.error.ready):
            m.d.sync += self.error.valid.eq(0)
        with m.If(
            row_valid
            & ends_group
            & (first_code != DMAError.NONE)
            & (~self.error.valid | self.error.ready)
        ):
            m.d.sync += [
                self.error.valid.eq(1),
                self.error.payload.client.eq(row.client),
                self.error.payload.code.eq(first_code),
            ]
        return m
