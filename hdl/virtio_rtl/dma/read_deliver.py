"""Bring finished reads out of the slots, as packets, in the order of each client's requests."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from virtio_rtl.dma.read_merge import ReadMerge
from virtio_rtl.dma.read_queue import ReadQueue
from virtio_rtl.dma.read_records import (
    ended_layout,
    launch_layout,
    one_hot,
    read_error,
    release_layout,
    share_layout,
    slot_rows,
    strobe,
)
from virtio_rtl.lib.stream import StreamArbiter, StreamFIFO
from virtio_rtl.types.dma import DMAError
from virtio_rtl.types.packet import packet_beat, packet_stream

__all__ = ["ReadDeliver"]


class ReadDeliver(wiring.Component):
    """Read ended tags out of their slots, round robin over the clients.

    Parameters
    ----------
    width, tags, slot_bytes, clients, fifo_beats
        As in `ReadEngine`.

    Ports
    -----
    launch : In(strobe(launch_layout(...)))
    ended : In(strobe(ended_layout(tags)))
    read_tag, read_row : Out, read_data : In(width)
        Read port of the slots, data in the next cycle.
    released : Out(strobe(release_layout(...)))
        The tag's slot has been read.
    packet_0 ... : Out(packet_stream(width))
    error : Out(stream read_error(clients))

    One row per cycle, no bubble between tags of one or several clients. From ``ended`` to the
    packet: 6 cycles. A tag's rows move only when the client's output FIFO has room for all of
    them, so that a client that does not take its packets holds up nobody else.
    """

    def __init__(self, width: int, tags: int, slot_bytes: int, clients: int, fifo_beats: int):
        self.width = width
        self.tags = tags
        self.slot_bytes = slot_bytes
        self.clients = clients
        self.fifo_beats = fifo_beats
        self.rows = slot_rows(width, slot_bytes)
        self.share_shape = share_layout(width, tags, slot_bytes)
        if fifo_beats < self.rows + 1:
            raise ValueError(f"fifo_beats = {fifo_beats!r}: at least {self.rows + 1}, one tag")
        super().__init__(
            {f"packet_{i}": Out(packet_stream(width)) for i in range(clients)}
            | {
                "launch": In(strobe(launch_layout(width, tags, slot_bytes, clients))),
                "ended": In(strobe(ended_layout(tags))),
                "read_tag": Out(range(tags)),
                "read_row": Out(range(self.rows)),
                "read_data": In(width),
                "released": Out(strobe(release_layout(tags, clients))),
                "error": Out(stream.Signature(read_error(clients))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.merge = merge = ReadMerge(self.width, self.tags, self.slot_bytes, self.clients)
        m.submodules.arbiter = arbiter = StreamArbiter(self.share_shape, self.clients)

        codes = memory.Memory(shape=DMAError, depth=self.tags, init=[])
        m.submodules.codes = codes
        code_write, code_read = codes.write_port(), codes.read_port()
        ended_tag = self.ended.payload.use.tag
        ended_before = Signal(self.tags)
        m.d.comb += [
            code_write.en.eq(self.ended.valid),
            code_write.addr.eq(ended_tag),
            code_write.data.eq(self.ended.payload.code),
        ]
        released_tag = self.released.payload.use.tag
        m.d.sync += ended_before.eq(
            (ended_before | (one_hot(ended_tag, self.tags) & self.ended.valid.replicate(self.tags)))
            & ~(one_hot(released_tag, self.tags) & self.released.valid.replicate(self.tags))
        )

        for index in range(self.clients):
            self._add_client(m, index, arbiter, merge, ended_before)
        self._add_readout(m, arbiter, merge)
        m.d.comb += [
            code_read.en.eq(1),
            code_read.addr.eq(self.read_tag),
            merge.code.eq(code_read.data),
            merge.row_data.eq(self.read_data),
        ]
        connect(m, merge.error, flipped(self.error))
        return m

    def _add_readout(self, m, arbiter, merge):
        """Go row by row through the granted tag; take the next grant on its last row."""
        share = Signal(self.share_shape)
        client = Signal.like(arbiter.grant)
        busy = Signal()
        first = Signal()
        last = Signal()
        row = Signal(range(self.rows))
        rows_left = Signal(range(self.rows + 2))
        m.d.comb += [
            last.eq(rows_left == 1),
            arbiter.output.ready.eq(~busy | last),
            self.read_tag.eq(share.use.tag),
            self.read_row.eq(row),
            merge.row.valid.eq(busy),
            merge.row.payload.client.eq(client),
            merge.row.payload.share.eq(share),
            merge.row.payload.first.eq(first),
            merge.row.payload.last.eq(last),
        ]
        m.d.sync += [
            row.eq(row + 1),
            rows_left.eq(rows_left - 1),
            first.eq(0),
            self.released.valid.eq(busy & last),
            self.released.payload.client.eq(client),
            self.released.payload.use.eq(share.use),
        ]
        with m.If(arbiter.output.ready):
            m.d.sync += [
                busy.eq(arbiter.output.valid),
                share.eq(arbiter.output.payload),
                client.eq(arbiter.grant),
                first.eq(1),
                row.eq(0),
                rows_left.eq(arbiter.output.payload.rows),
            ]

    def _add_client(self, m, index, arbiter, merge, ended_before):
        """Order of the client's tags, its output FIFO, and the room that is left there."""
        queue = ReadQueue(self.width, self.tags, self.slot_bytes)
        fifo = StreamFIFO(packet_beat(self.width), self.fifo_beats)
        m.submodules[f"queue_{index}"] = queue
        m.submodules[f"fifo_{index}"] = fifo
        packet = getattr(self, f"packet_{index}")
        input_ = getattr(arbiter, f"input_{index}")
        launch = self.launch.payload
        room = Signal(range(self.fifo_beats + 1), init=self.fifo_beats, name=f"room_{index}")
        beats = queue.share.payload.beats
        granted = input_.valid & input_.ready
        m.d.comb += [
            queue.launched.valid.eq(self.launch.valid & (launch.client == index)),
            queue.launched.payload.eq(launch.share),
            queue.ended.valid.eq(self.ended.valid),
            queue.ended.payload.eq(self.ended.payload.use.tag),
            queue.ended_before.eq(ended_before),
            input_.payload.eq(queue.share.payload),
            input_.valid.eq(queue.share.valid & (room >= beats)),
            queue.share.ready.eq(granted),
            fifo.input.valid.eq(merge.beat.valid & (merge.beat.payload.client == index)),
            fifo.input.payload.eq(merge.beat.payload.beat),
        ]
        connect(m, fifo.output, flipped(packet))
        m.d.sync += room.eq(room + (packet.valid & packet.ready) - Mux(granted, beats, 0))
