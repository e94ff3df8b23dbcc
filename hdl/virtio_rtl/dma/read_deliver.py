"""Bring finished reads out of the slots, as packets, in the order of each client's requests."""

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from virtio_rtl.dma.read_merge import ReadMerge
from virtio_rtl.dma.read_outlet import ReadOutlet
from virtio_rtl.dma.read_queue import ReadQueue
from virtio_rtl.dma.read_records import (
    ended_layout,
    index_of,
    launch_layout,
    one_hot,
    read_error,
    release_layout,
    select,
    share_layout,
    slot_rows,
    strobe,
)
from virtio_rtl.dma.round_robin import RoundRobin
from virtio_rtl.types.dma import DMAError
from virtio_rtl.types.packet import packet_stream

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
    coming : In(range(tags))
        The tag that ``ended`` names in the next cycle, if it is valid then.
    ended : In(strobe(ended_layout(tags)))
    read_tag, read_row : Out, read_data : In(width)
        Read port of the slots, data in the next cycle.
    released : Out(strobe(release_layout(...)))
        The tag's slot has been read.
    packet_0 ... : Out(packet_stream(width))
    error : Out(stream read_error(clients))

    One row per cycle, no bubble between tags of one or several clients. From ``ended`` to the
    packet: 2 cycles. A tag's rows move only when the client's output FIFO has room for all of
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
                "coming": In(range(tags)),
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
        m.submodules.turn = turn = RoundRobin(self.clients)

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

        accept = Signal()
        granted = Signal(self.clients)
        m.d.comb += granted.eq(turn.grant & accept.replicate(self.clients))
        shares = [
            self._add_client(m, index, turn, granted, merge, ended_before)
            for index in range(self.clients)
        ]
        self._add_readout(m, turn, shares, accept, merge)
        m.d.comb += [
            code_read.en.eq(1),
            code_read.addr.eq(self.read_tag),
            merge.code.eq(code_read.data),
            merge.row_data.eq(self.read_data),
        ]
        connect(m, merge.error, flipped(self.error))
        return m

    def _add_readout(self, m, turn, shares, accept, merge):
        """Go row by row through the granted tag; take the next grant on its last row."""
        share = Signal(self.share_shape)
        client = Signal(self.released.payload.client.shape())
        busy = Signal()
        first = Signal()
        last = Signal()
        row = Signal(range(self.rows))
        rows_left = Signal(range(self.rows + 2))
        chosen = Signal(self.share_shape)
        m.d.comb += [
            last.eq(rows_left == 1),
            accept.eq(~busy | last),
            turn.taken.eq(accept & turn.request.any()),
            Value.cast(chosen).eq(select(turn.grant, shares)),
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
        with m.If(accept):
            m.d.sync += [
                busy.eq(turn.request.any()),
                share.eq(chosen),
                client.eq(index_of(turn.grant)),
                first.eq(1),
                row.eq(0),
                rows_left.eq(chosen.rows),
            ]

    def _add_client(self, m, index, turn, granted, merge, ended_before):
        """Order of the client's tags, and its way out; return the share that it offers."""
        outlet = ReadOutlet(self.width, self.fifo_beats, self.rows + 1)
        queue = ReadQueue(self.width, self.tags, self.slot_bytes, self.fifo_beats)
        m.submodules[f"outlet_{index}"] = outlet
        m.submodules[f"queue_{index}"] = queue
        launch = self.launch.payload
        m.d.comb += [
            queue.launched.valid.eq(self.launch.valid & (launch.client == index)),
            queue.launched.payload.eq(launch.share),
            queue.coming.eq(self.coming),
            queue.ended.valid.eq(self.ended.valid),
            queue.ended.payload.eq(self.ended.payload.use.tag),
            queue.ended_before.eq(ended_before),
            queue.room.eq(outlet.room),
            turn.request[index].eq(queue.request),
            queue.granted.eq(granted[index]),
            outlet.claimed.valid.eq(granted[index]),
            outlet.claimed.payload.eq(queue.share.beats),
            outlet.beat.valid.eq(merge.arrives[index]),
            outlet.beat.payload.eq(merge.beat),
        ]
        connect(m, outlet.packet, flipped(getattr(self, f"packet_{index}")))
        return queue.share
