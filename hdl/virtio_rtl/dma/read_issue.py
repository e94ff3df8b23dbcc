"""Send memory reads: who goes next, with which tag, under which header."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from virtio_rtl.dma.read_records import (
    chunk_layout,
    index_of,
    launch_layout,
    select,
    strobe,
    tag_use,
)
from virtio_rtl.dma.round_robin import RoundRobin
from virtio_rtl.dma.tag_quota import TagQuota
from virtio_rtl.types.pcie import FunctionControl
from virtio_rtl.types.tlp import TLPType, tlp_stream

__all__ = ["ReadIssue"]


class ReadIssue(wiring.Component):
    """Give chunks a tag, round robin over the clients, and send them as memory reads.

    Parameters
    ----------
    width, tags, slot_bytes, clients
        As in `ReadEngine`.
    reserved_tags
        Tags that each client can always get.

    Ports
    -----
    control : In(FunctionControl)
        The requester ID, Bus Master Enable and Extended Tag Field Enable are obeyed.
    enable : In(1)
        When 0, nothing moves, except that a TLP that is offered stays offered.
    chunk_0 ... : In(stream chunk_layout(width))
    free : In(stream tag_use(tags))
    released : In(strobe(client))
        A client has given a tag back.
    launch : Out(strobe(launch_layout(...)))
        In the first cycle in which the TLP is offered.
    tlp : Out(tlp_stream(width))
        MEM_READ, one beat each.

    One read per cycle, latency one cycle. Chunks of one client go in order. Without Bus Master
    Enable no further read is offered. Traffic class and attributes are 0. A chunk's ``ready``
    depends on its ``valid`` and on ``tlp.ready``, at 5 levels: a `ChunkBuffer` has to stand before
    it. [PCIe 3.0 §2.2.7]
    """

    def __init__(self, width: int, tags: int, slot_bytes: int, clients: int, reserved_tags: int):
        self.width = width
        self.tags = tags
        self.slot_bytes = slot_bytes
        self.clients = clients
        self.chunk_shape = chunk_layout(width)
        self.quota = TagQuota(tags, clients, reserved_tags)
        super().__init__(
            {f"chunk_{i}": In(stream.Signature(self.chunk_shape)) for i in range(clients)}
            | {
                "control": In(FunctionControl),
                "enable": In(1),
                "free": In(stream.Signature(tag_use(tags))),
                "released": In(strobe(range(max(clients, 2)))),
                "launch": Out(strobe(launch_layout(width, tags, slot_bytes, clients))),
                "tlp": Out(tlp_stream(width)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.quota = quota = self.quota
        m.submodules.turn = turn = RoundRobin(self.clients)
        sources = [getattr(self, f"chunk_{index}") for index in range(self.clients)]

        accept = Signal()
        grant = Signal()
        chunk = Signal(self.chunk_shape)
        client = Signal(self.launch.payload.client.shape())
        use = Signal(tag_use(self.tags))
        requester_id = Signal.like(self.control.requester_id)
        launch = Signal()
        m.d.comb += [
            accept.eq(
                self.enable
                & self.control.bus_master_enable
                & self.free.valid
                & (~self.tlp.valid | self.tlp.ready)
            ),
            grant.eq(accept & turn.request.any()),
            turn.taken.eq(grant),
            self.free.ready.eq(grant),
            quota.extended_tag.eq(self.control.extended_tag),
            quota.grant.eq(turn.grant & accept.replicate(self.clients)),
            quota.release.valid.eq(self.released.valid),
            quota.release.payload.eq(self.released.payload),
        ]
        for index, source in enumerate(sources):
            m.d.comb += [
                turn.request[index].eq(source.valid & quota.eligible[index]),
                source.ready.eq(quota.grant[index]),
            ]
        m.d.sync += launch.eq(grant)
        with m.If(accept):
            m.d.sync += [
                self.tlp.valid.eq(turn.request.any()),
                Value.cast(chunk).eq(select(turn.grant, [source.payload for source in sources])),
                client.eq(index_of(turn.grant)),
                use.eq(self.free.payload),
                requester_id.eq(self.control.requester_id),
            ]
        with m.Elif(self.tlp.ready):
            m.d.sync += self.tlp.valid.eq(0)

        self._send_header(m, chunk, use, requester_id)
        self._announce(m, launch, chunk, client, use)
        return m

    def _send_header(self, m, chunk, use, requester_id):
        first_enables = Signal(4)
        last_enables = Signal(4)
        header = self.tlp.payload.header
        m.d.comb += [
            first_enables.eq(0xF << chunk.address[:2]),
            last_enables.eq(0xF >> ~chunk.last_byte),
            self.tlp.payload.first.eq(1),
            self.tlp.payload.last.eq(1),
            header.type.eq(TLPType.MEM_READ),
            header.length_dw.eq(chunk.dwords),
            header.first_be.eq(Mux(chunk.single, first_enables & last_enables, first_enables)),
            header.last_be.eq(Mux(chunk.single, 0, last_enables)),
            header.requester_id.eq(requester_id),
            header.tag.eq(use.tag),
            header.address.eq(Cat(0, 0, chunk.address[2:])),
        ]

    def _announce(self, m, launch, chunk, client, use):
        lanes = self.width // 8
        lane_bits = exact_log2(lanes)
        end_lane = chunk.end[:lane_bits]
        partial = end_lane != 0
        share, flight = self.launch.payload.share, self.launch.payload.flight
        m.d.comb += [
            self.launch.valid.eq(launch),
            self.launch.payload.client.eq(client),
            share.use.eq(use),
            share.first_lane.eq(chunk.first_lane),
            share.rows.eq(chunk.end[lane_bits:] + partial),
            share.beats.eq(chunk.end[lane_bits:] + (partial & chunk.last)),
            share.end_count.eq(Mux(partial, end_lane, lanes)),
            share.carry.eq(partial & ~chunk.last),
            share.last.eq(chunk.last),
            flight.generation.eq(use.generation),
            flight.length.eq(chunk.length),
            flight.end_position.eq(chunk.end),
            flight.end_address.eq(chunk.address[:7] + chunk.length),
        ]
