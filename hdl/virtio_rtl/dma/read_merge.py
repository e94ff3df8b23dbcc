"""Rows of tags into beats of packets."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from virtio_rtl.dma.read_records import one_hot, read_error, share_layout, strobe
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
    beat : Out(packet_beat(width))
        With ``row_data``, one cycle after ``row``.
    arrives : Out(clients)
        ``beat`` is for this client, one at most.
    error : Out(stream read_error(clients))
        One per failed group, one cycle after its last beat; lost if the previous one was not taken
        yet.

    One row per cycle, in any mixture of clients. The last row of a tag that the client's next tag
    continues is kept, client by client, until that one's first row comes.

    ``arrives`` is a register, and so are ``count`` and ``last`` of ``beat``; its data are one
    multiplexer behind ``row_data``, its ``error`` is one level of logic behind registers.
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
                "beat": Out(packet_beat(width)),
                "arrives": Out(clients),
                "error": Out(stream.Signature(read_error(clients))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        lanes = self.width // 8
        ahead = self.row.payload
        client = Signal.like(ahead.client)
        valid, keeps, ends_group = Signal(), Signal(), Signal()
        count = Signal(range(lanes + 1))
        continued = Signal(lanes)
        # All that the row's data and code need not be known for.
        keeps_ahead = ahead.last & ahead.share.carry
        ends_ahead = ahead.last & ahead.share.last
        m.d.sync += [
            client.eq(ahead.client),
            valid.eq(self.row.valid),
            keeps.eq(keeps_ahead),
            ends_group.eq(ends_ahead),
            count.eq(Mux(ends_ahead, ahead.share.end_count, lanes)),
            continued.eq(
                Cat(ahead.first & (lane < ahead.share.first_lane) for lane in range(lanes))
            ),
            self.arrives.eq(
                one_hot(ahead.client, self.clients)
                & (self.row.valid & ~keeps_ahead).replicate(self.clients)
            ),
        ]

        kept = memory.Memory(shape=self.width, depth=max(self.clients, 2), init=[])
        m.submodules.kept = kept
        kept_write = kept.write_port()
        kept_read = kept.read_port(domain="comb")
        merged = Signal(self.width)
        m.d.comb += [
            kept_read.addr.eq(client),
            kept_write.addr.eq(client),
            kept_write.data.eq(merged),
            kept_write.en.eq(valid & keeps),
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

        # The error of the group so far is looked up one cycle ahead: the beat is offered at once.
        earlier_codes = Signal(data.ArrayLayout(DMAError, max(self.clients, 2)))
        earlier, first_code, code_after = Signal(DMAError), Signal(DMAError), Signal(DMAError)
        m.d.comb += [
            first_code.eq(Mux(earlier == DMAError.NONE, self.code, earlier)),
            code_after.eq(Mux(ends_group, DMAError.NONE, first_code)),
        ]
        m.d.sync += earlier.eq(earlier_codes[ahead.client])
        with m.If(valid):
            m.d.sync += earlier_codes[client].eq(code_after)
            with m.If(ahead.client == client):
                m.d.sync += earlier.eq(code_after)

        m.d.comb += [
            self.beat.data.eq(merged),
            self.beat.count.eq(count),
            self.beat.last.eq(ends_group),
            # Known from the tag's first row on, so that who takes one read a group need not wait.
            self.beat.error.eq(first_code != DMAError.NONE),
        ]

        with m.If(self.error.ready):
            m.d.sync += self.error.valid.eq(0)
        with m.If(
            valid
            & ends_group
            & (first_code != DMAError.NONE)
            & (~self.error.valid | self.error.ready)
        ):
            m.d.sync += [
                self.error.valid.eq(1),
                self.error.payload.client.eq(client),
                self.error.payload.code.eq(first_code),
            ]
        return m
