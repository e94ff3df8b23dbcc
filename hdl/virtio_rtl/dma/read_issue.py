"""Send memory reads: who goes next, with which tag, under which header."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from virtio_rtl.dma.read_records import chunk_layout, launch_layout, strobe, tag_use
from virtio_rtl.dma.tags import TagQuota
from virtio_rtl.lib.stream import StreamArbiter
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
        One cycle before the TLP is offered.
    tlp : Out(tlp_stream(width))
        MEM_READ, one beat each.

    One read per cycle, latency two cycles. Chunks of one client go in order. Without Bus Master
    Enable no further read is offered. Traffic class and attributes are 0. [PCIe 3.0 §2.2.7]
    """

    def __init__(self, width: int, tags: int, slot_bytes: int, clients: int, reserved_tags: int):
        self.width = width
        self.tags = tags
        self.slot_bytes = slot_bytes
        self.clients = clients
        self.quota = TagQuota(tags, clients, reserved_tags)
        super().__init__(
            {f"chunk_{i}": In(stream.Signature(chunk_layout(width))) for i in range(clients)}
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
        m.submodules.arbiter = arbiter = StreamArbiter(chunk_layout(self.width), self.clients)

        granted = Signal()
        chunk = Signal(chunk_layout(self.width))
        client = Signal.like(arbiter.grant)
        use = Signal(tag_use(self.tags))
        send = Signal()
        may_grant = Signal()
        m.d.comb += [
            send.eq(
                granted
                & self.enable
                & self.control.bus_master_enable
                & (~self.tlp.valid | self.tlp.ready)
            ),
            may_grant.eq(self.enable & self.free.valid & (~granted | send)),
            quota.extended_tag.eq(self.control.extended_tag),
            quota.grant.valid.eq(arbiter.output.valid),
            quota.grant.payload.eq(arbiter.grant),
            quota.release.valid.eq(self.released.valid),
            quota.release.payload.eq(self.released.payload),
        ]
        # An input is shown to the arbiter only in a cycle in which it can go, so that the arbiter
        # never holds its grant for a client that has meanwhile lost its turn.
        for index in range(self.clients):
            source, input_ = getattr(self, f"chunk_{index}"), getattr(arbiter, f"input_{index}")
            m.d.comb += [
                input_.payload.eq(source.payload),
                input_.valid.eq(source.valid & quota.eligible[index] & may_grant),
                source.ready.eq(input_.valid & input_.ready),
            ]
        m.d.comb += [
            arbiter.output.ready.eq(1),
            self.free.ready.eq(arbiter.output.valid),
        ]
        with m.If(send):
            m.d.sync += granted.eq(0)
        with m.If(arbiter.output.valid):
            m.d.sync += [
                granted.eq(1),
                chunk.eq(arbiter.output.payload),
                client.eq(arbiter.grant),
                use.eq(self.free.payload),
            ]

        self._send_header(m, send, chunk, use)
        self._announce(m, send, chunk, client, use)
        return m

    def _send_header(self, m, send, chunk, use):
        end = Signal(14)
        single = Signal()
        first_enables = Signal(4)
        last_enables = Signal(4)
        header = self.tlp.payload.header
        m.d.comb += [
            end.eq(chunk.address[:2] + chunk.length),
            single.eq(end <= 4),
            first_enables.eq(0xF << chunk.address[:2]),
            last_enables.eq(Mux(end[:2] == 0, 0xF, ~(0xF << end[:2]))),
            self.tlp.payload.first.eq(1),
            self.tlp.payload.last.eq(1),
        ]
        with m.If(self.tlp.ready):
            m.d.sync += self.tlp.valid.eq(0)
        with m.If(send):
            m.d.sync += [
                self.tlp.valid.eq(1),
                header.type.eq(TLPType.MEM_READ),
                header.length_dw.eq((end + 3)[2:]),
                header.first_be.eq(Mux(single, first_enables & last_enables, first_enables)),
                header.last_be.eq(Mux(single, 0, last_enables)),
                header.requester_id.eq(self.control.requester_id),
                header.tag.eq(use.tag),
                header.address.eq(Cat(0, 0, chunk.address[2:])),
            ]

    def _announce(self, m, send, chunk, client, use):
        lanes = self.width // 8
        lane_bits = exact_log2(lanes)
        end = Signal(14)
        end_lane = end[:lane_bits]
        partial = end_lane != 0
        carry = partial & ~chunk.last
        share, flight = self.launch.payload.share, self.launch.payload.flight
        m.d.comb += [
            end.eq(chunk.first_lane + chunk.length),
            self.launch.valid.eq(send),
            self.launch.payload.client.eq(client),
            share.use.eq(use),
            share.first_lane.eq(chunk.first_lane),
            share.rows.eq(end[lane_bits:] + partial),
            share.beats.eq(end[lane_bits:] + (partial & chunk.last)),
            share.end_count.eq(Mux(partial, end_lane, lanes)),
            share.carry.eq(carry),
            share.last.eq(chunk.last),
            flight.generation.eq(use.generation),
            flight.length.eq(chunk.length),
            flight.end_position.eq(end),
            flight.end_address.eq(chunk.address[:7] + chunk.length),
        ]
