"""The write engine's way around the aligner."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..lib.stream import StreamFIFO
from ..types.dma import WriteRequest
from ..types.tlp import TLPType, tlp_beat, tlp_stream
from .write_input import client_shape

__all__ = ["WriteDirect"]

_DEPTH = 4


class WriteDirect(wiring.Component):
    """Sends a plain group at once while nothing else is in the engine, so that none is overtaken.

    It also merges these TLPs with those of the aligner: at most one of the two has something to
    send when a group is loaded here, and what is here was granted first.

    Parameters
    ----------
    width
        Data bits of a beat.
    clients
        Number of clients.
    most_groups
        Groups that can be in the engine.

    Ports
    -----
    enable
        A TLP may start.
    open
        A group may be loaded in this cycle; registers but for ``enable``.
    load, request, bits, client
        Strobe: send this plain group (see ``measured_request``) of this client.
    other_begins
        Strobe: a group has been granted that takes the way through the aligner.
    aligned, aligned_finished, aligned_client
        The aligner's TLPs; strobe: the last beat of a group is taken from it.
    requester_id
        Taken into the header when a group is loaded.
    tlp
        The merged TLPs; a loaded group stands here one cycle later. One group a cycle; a few can
        wait, then the next one goes through the aligner, and so do all that follow until that is
        empty again.
    finished, finished_client
        Strobe and index, in the cycle in which the last beat of a group is accepted at ``tlp``.
    waits
        A group is here.
    """

    def __init__(self, width: int, clients: int, most_groups: int):
        self.width = width
        self.clients = clients
        self.most_groups = most_groups
        super().__init__(
            {
                "enable": In(1),
                "open": Out(1),
                "load": In(1),
                "request": In(WriteRequest),
                "bits": In(width),
                "client": In(client_shape(clients)),
                "other_begins": In(1),
                "aligned": In(tlp_stream(width)),
                "aligned_finished": In(1),
                "aligned_client": In(client_shape(clients)),
                "requester_id": In(16),
                "tlp": Out(tlp_stream(width)),
                "finished": Out(1),
                "finished_client": Out(client_shape(clients)),
                "waits": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        lanes = self.width // 8
        # Groups on the other way. Whether none is left is looked up one step ahead.
        others = Signal(range(self.most_groups + 1))
        alone = Signal(init=1)
        m.d.sync += [
            others.eq(others + self.other_begins - self.aligned_finished),
            alone.eq(~self.other_begins & (alone | ((others == 1) & self.aligned_finished))),
        ]
        m.d.comb += self.open.eq(alone & ~self.waits & self.enable)

        queue_shape = data.StructLayout(
            {"beat": tlp_beat(self.width), "client": client_shape(self.clients)}
        )
        m.submodules.queue = queue = StreamFIFO(queue_shape, _DEPTH)
        m.d.comb += self.open.eq(alone & queue.input.ready & self.enable)

        length = self.request.length[: lanes.bit_length()]
        ends = Signal(4)  # enables of the last dword
        with m.Switch(length[:2]):
            for tail in range(4):
                with m.Case(tail):
                    m.d.comb += ends.eq((1 << (tail or 4)) - 1)
        single = length <= 4
        beat = queue.input.payload.beat
        m.d.comb += [
            queue.input.valid.eq(self.load),
            queue.input.payload.client.eq(self.client),
            beat.data.eq(self.bits & Cat((length > lane).replicate(8) for lane in range(lanes))),
            beat.header.type.eq(TLPType.MEM_WRITE),
            beat.header.requester_id.eq(self.requester_id),
            beat.header.address[2:].eq(self.request.address[2:]),
            beat.header.length_dw.eq((length + 3) >> 2),
            beat.header.first_be.eq(Mux(single, ends, 0xF)),
            beat.header.last_be.eq(Mux(single, 0, ends)),
            beat.first.eq(1),
            beat.last.eq(1),
        ]

        direct = queue.output
        m.d.comb += [
            self.waits.eq(direct.valid),
            direct.ready.eq(self.tlp.ready),
            self.tlp.valid.eq(self.waits | self.aligned.valid),
            self.tlp.payload.eq(Mux(self.waits, direct.payload.beat, self.aligned.payload)),
            self.aligned.ready.eq(self.tlp.ready & ~self.waits),
            self.finished.eq((self.waits & self.tlp.ready) | self.aligned_finished),
            self.finished_client.eq(Mux(self.waits, direct.payload.client, self.aligned_client)),
        ]
        return m
