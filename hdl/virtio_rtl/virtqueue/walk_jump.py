"""Single reads of split indirect tables, for all walkers."""

from amaranth.hdl import Array, Module, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..types.dma import ReadRequest
from ..types.packet import packet_stream
from .descriptor_stream import DescriptorBeat, DescriptorStream

__all__ = ["JumpReads"]

_BYTES = 16


class JumpReads(wiring.Component):
    """Reads one descriptor at a time, for the walkers in turn.

    Only a chain that goes back in its table, or past the size of the virtqueue, needs it; no known
    driver writes such a chain, so that one client of the read engine is enough for all.

    Parameters
    ----------
    width
        Bits of a packet beat.
    paths
        Walkers.

    Ports
    -----
    request_{path} : stream of 64 bits, the address of a descriptor
    answer_{path} : stream of ``DescriptorBeat``, one for each request
    read_request : stream of ``ReadRequest``; read_packet : packet_stream(width)
        Client of the read engine.

    One read in flight. Latency from ``request`` to ``read_request`` one cycle, and up to
    ``paths`` - 1 more until it is a walker's turn. ``read_request`` is a register.
    """

    def __init__(self, width: int, paths: int):
        self.width = width
        self.paths = paths
        members = {
            "read_request": Out(stream.Signature(ReadRequest)),
            "read_packet": In(packet_stream(width)),
        }
        for path in range(paths):
            members[f"request_{path}"] = In(stream.Signature(unsigned(64)))
            members[f"answer_{path}"] = Out(stream.Signature(DescriptorBeat))
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        m.submodules.descriptors = descriptors = DescriptorStream(self.width)
        wiring.connect(m, wiring.flipped(self.read_packet), descriptors.packet)
        requests = [getattr(self, f"request_{path}") for path in range(self.paths)]
        answers = [getattr(self, f"answer_{path}") for path in range(self.paths)]
        turn = Signal(range(self.paths))
        following = Signal.like(turn)
        address = Signal(64)
        m.d.comb += [
            following.eq(turn + 1),
            self.read_request.payload.address.eq(address),
            self.read_request.payload.length.eq(_BYTES),
            self.read_request.payload.last.eq(1),
        ]
        with m.If(turn == self.paths - 1):
            m.d.comb += following.eq(0)
        for path, answer in enumerate(answers):
            m.d.comb += [
                answer.payload.eq(descriptors.output.payload),
                answer.valid.eq(descriptors.output.valid & (turn == path)),
            ]
        m.d.comb += descriptors.output.ready.eq(Array(answer.ready for answer in answers)[turn])
        with m.FSM(name="walk_jump"):
            with m.State("TURN"):
                m.d.sync += address.eq(Array(request.payload for request in requests)[turn])
                for path, request in enumerate(requests):
                    m.d.comb += request.ready.eq(turn == path)
                with m.If(Array(request.valid for request in requests)[turn]):
                    m.next = "ASK"
                with m.Else():
                    m.d.sync += turn.eq(following)
            with m.State("ASK"):
                m.d.comb += self.read_request.valid.eq(1)
                with m.If(self.read_request.ready):
                    m.next = "ANSWER"
            with m.State("ANSWER"):
                with m.If(descriptors.output.valid & descriptors.output.ready):
                    m.d.sync += turn.eq(following)
                    m.next = "TURN"
        return m
