"""Fourth room of the write engine: start a TLP when all its bytes are there."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.stream import StreamFIFO
from ..types.tlp import TLPType, tlp_stream
from .write_align import ALIGN_LATENCY, WriteAlign
from .write_input import client_shape
from .write_split import write_tlp

__all__ = ["WriteLaunch"]

_OUTPUT_DEPTH = 16


class WriteLaunch(wiring.Component):
    """Keeps the groups' bytes in a ring buffer and sends TLPs out of it.

    Parameters
    ----------
    width
        Data bits of a beat: 64, 128, 256 or 512.
    clients
        Number of clients.
    buffer_bytes
        Size of the ring buffer, a power of two, at least twice the largest TLP payload.

    Ports
    -----
    data
        Bytes of the groups, ``width`` bits; every group begins on its own beat.
    request
        The TLPs to send (``write_tlp``), in the order of the bytes.
    enable
        A TLP may start. A TLP that has started is finished in any case.
    requester_id
        Taken into the header when a TLP starts.
    tlp
        The TLPs.
    finished, finished_client
        Strobe and index, in the cycle in which the last beat of a group is accepted at ``tlp``.
    idle
        No TLP has started that has not left.
    crowded
        The buffer is at least half full.

    Store and forward per TLP: once a TLP has started, no beat of it waits for ``data``. One beat
    per cycle, no gap between TLPs. Latency from start to ``tlp`` 5 cycles. The way through the
    aligner has no stall; a beat is issued only if the output queue has room for it. Rows are
    freed TLP by TLP. [PCIe 3.0 §2.2.7, §2.4]
    """

    def __init__(self, width: int, clients: int, buffer_bytes: int):
        self.width = width
        self.clients = clients
        self.rows = buffer_bytes * 8 // width
        super().__init__(
            {
                "data": In(stream.Signature(width)),
                "request": In(stream.Signature(write_tlp(clients))),
                "enable": In(1),
                "requester_id": In(16),
                "tlp": Out(tlp_stream(width)),
                "finished": Out(1),
                "finished_client": Out(client_shape(clients)),
                "idle": Out(1),
                "crowded": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        lane_bits = (self.width // 8).bit_length() - 1
        row_bits = self.rows.bit_length()  # one more than an address: tells full from empty

        m.submodules.align = align = WriteAlign(self.width, self.rows)
        write_row, free_row = Signal(row_bits), Signal(row_bits)
        m.d.comb += [
            self.data.ready.eq((write_row ^ free_row) != self.rows),
            align.write_enable.eq(self.data.valid & self.data.ready),
            align.write_row.eq(write_row[:-1]),
            align.write_data.eq(self.data.payload),
        ]
        held = Signal(row_bits)
        m.d.comb += held.eq(write_row - free_row)
        m.d.sync += [
            write_row.eq(write_row + align.write_enable),
            self.crowded.eq(held[-2:].any()),
        ]

        # Place: where the bytes of the TLP lie. The ring's rows and lanes are one number.
        source = self.request.payload
        position = Signal(row_bits + lane_bits)  # of the next TLP's first byte
        end = Signal.like(position)
        end_row = Signal(row_bits)  # the row behind the TLP's last byte
        m.d.comb += [
            end.eq(position + source.bytes),
            end_row.eq(end[lane_bits:] + end[:lane_bits].any()),
        ]
        next_position = Signal.like(position)
        m.d.comb += next_position.eq(Mux(source.ends_group, Cat(Const(0, lane_bits), end_row), end))

        # The TLP that is next, or being issued.
        current = Signal(
            data.StructLayout(
                {
                    "tlp": write_tlp(self.clients),
                    "row": row_bits - 1,
                    "lane": lane_bits,
                    "beats_left": 13 - lane_bits,
                    "needed_row": row_bits,
                    "freed_row": row_bits,
                }
            )
        )
        current_valid = Signal()
        started = Signal()
        present = Signal()  # all its bytes are in the buffer
        issue = Signal()
        is_last = Signal()
        room = Signal(range(_OUTPUT_DEPTH), init=_OUTPUT_DEPTH - 1)
        ahead = Signal(row_bits)  # rows in the buffer behind the needed ones; negative: missing
        m.d.comb += [
            ahead.eq(write_row - current.needed_row),
            present.eq(~ahead[-1]),
            issue.eq(current_valid & (room != 0) & (started | (present & self.enable))),
            is_last.eq(current.beats_left == 0),
            self.request.ready.eq(~current_valid | (issue & is_last)),
        ]
        with m.If(issue):
            m.d.sync += [
                started.eq(~is_last),
                current.row.eq(current.row + 1),
                current.beats_left.eq(current.beats_left - 1),
            ]
            with m.If(is_last):
                m.d.sync += free_row.eq(current.freed_row)
        with m.If(self.request.ready):
            m.d.sync += [
                current_valid.eq(self.request.valid),
                current.tlp.eq(source),
                # Lane 0 of the payload is the beginning of the first dword, up to 3 bytes ahead of
                # the first byte: what lies there is cleared.
                Cat(current.lane, current.row).eq(position - source.offset),
                current.beats_left.eq((source.span - 1) >> lane_bits),
                current.needed_row.eq(end_row),
                current.freed_row.eq(next_position[lane_bits:]),
            ]
            with m.If(self.request.valid):
                m.d.sync += position.eq(next_position)

        tail = Signal(range(self.width // 8 + 1))
        m.d.comb += [
            tail.eq(Cat(current.tlp.span[:lane_bits], ~current.tlp.span[:lane_bits].any())),
            align.read.row.eq(current.row),
            align.read.lane.eq(current.lane),
            align.read.skip.eq(Mux(started, 0, current.tlp.offset)),
            align.read.count.eq(Mux(is_last, tail, self.width // 8)),
        ]

        # What goes beside the bytes through the aligner and the output queue; the rest of the
        # header is constant.
        beside_shape = data.StructLayout(
            {
                "first": 1,
                "last": 1,
                "ends_group": 1,
                "client": client_shape(self.clients),
                "requester_id": 16,
                "dword_address": 62,
                "length_dw": 11,
                "first_be": 4,
                "last_be": 4,
            }
        )
        issued = Signal(beside_shape)
        m.d.comb += [
            issued.first.eq(~started),
            issued.last.eq(is_last),
            issued.ends_group.eq(current.tlp.ends_group),
            issued.client.eq(current.tlp.client),
            issued.requester_id.eq(self.requester_id),
            issued.dword_address.eq(current.tlp.dword_address),
            issued.length_dw.eq(current.tlp.length_dw),
            issued.first_be.eq(current.tlp.first_be),
            issued.last_be.eq(current.tlp.last_be),
        ]
        valid, beside = issue, Value.cast(issued)
        for stage in range(ALIGN_LATENCY):
            next_valid = Signal(name=f"valid_{stage}")
            next_beside = Signal(beside_shape, name=f"beside_{stage}")
            m.d.sync += [next_valid.eq(valid), Value.cast(next_beside).eq(beside)]
            valid, beside = next_valid, Value.cast(next_beside)

        queue_shape = data.StructLayout({"data": self.width, "beside": beside_shape})
        m.submodules.queue = queue = StreamFIFO(queue_shape, _OUTPUT_DEPTH)
        m.d.comb += [
            queue.input.valid.eq(valid),
            queue.input.payload.data.eq(align.read_data),
            Value.cast(queue.input.payload.beside).eq(beside),
        ]

        out = queue.output.payload.beside
        taken = queue.output.valid & queue.output.ready
        m.d.sync += room.eq(room + taken - issue)
        header = self.tlp.payload.header
        m.d.comb += [
            self.tlp.valid.eq(queue.output.valid),
            queue.output.ready.eq(self.tlp.ready),
            self.tlp.payload.data.eq(queue.output.payload.data),
            self.tlp.payload.first.eq(out.first),
            self.tlp.payload.last.eq(out.last),
            header.type.eq(TLPType.MEM_WRITE),
            header.requester_id.eq(out.requester_id),
            header.address.eq(Cat(Const(0, 2), out.dword_address)),
            header.length_dw.eq(out.length_dw),
            header.first_be.eq(out.first_be),
            header.last_be.eq(out.last_be),
            self.finished.eq(taken & out.last & out.ends_group),
            self.finished_client.eq(out.client),
            self.idle.eq((room == _OUTPUT_DEPTH - 1) & ~started),
        ]
        return m
