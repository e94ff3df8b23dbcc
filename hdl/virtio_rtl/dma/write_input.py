"""A client's door into the write engine."""

from amaranth.hdl import Module, Shape, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.stream import SkidBuffer
from ..types.dma import WriteRequest
from ..types.packet import packet_stream

__all__ = ["WriteInput", "client_shape", "measured_request"]


def client_shape(clients: int) -> Shape:
    """Shape of a client's index."""
    return Shape.cast(range(max(clients, 2)))


def measured_request() -> data.StructLayout:
    """A write request, and whether it is one TLP of one beat that needs no alignment.

    ``plain``: it is a group by itself, begins at a dword, and lies in one aligned block of the
    size of a beat (so it crosses neither 4 KiB nor MPS).
    """
    return data.StructLayout({"request": WriteRequest, "plain": 1})


class WriteInput(wiring.Component):
    """Registers a client's requests and packet beats, and measures the requests.

    Parameters
    ----------
    width
        Data bits of a beat.

    Ports
    -----
    request_in, packet_in
        The client's streams; their ``ready`` is a register.
    request: stream of ``measured_request``, packet
        The same, one cycle later.
    coming
        In the next cycle both a request and a beat are there, unless one is taken in this cycle.
    """

    def __init__(self, width: int):
        self.width = width
        super().__init__(
            {
                "request_in": In(stream.Signature(WriteRequest)),
                "packet_in": In(packet_stream(width)),
                "request": Out(stream.Signature(measured_request())),
                "packet": Out(packet_stream(width)),
                "coming": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        lanes = self.width // 8
        lane_bits = lanes.bit_length() - 1
        source = self.request_in.payload
        m.submodules.requests = requests = SkidBuffer(measured_request())
        m.submodules.packets = packets = SkidBuffer(self.packet_in.payload.shape())
        short, end = Signal(), Signal(lane_bits + 2)
        m.d.comb += [
            # One bit more than a beat's lanes: a longer one shows in the bits above.
            end.eq(source.address[:lane_bits] + source.length[: lane_bits + 1]),
            short.eq(~source.length[lane_bits + 1 :].any() & (end <= lanes)),
            requests.input.payload.request.eq(source),
            requests.input.payload.plain.eq(source.last & ~source.address[:2].any() & short),
            requests.input.valid.eq(self.request_in.valid),
            self.request_in.ready.eq(requests.input.ready),
            self.coming.eq(
                (requests.output.valid | self.request_in.valid)
                & (packets.output.valid | self.packet_in.valid)
            ),
        ]
        wiring.connect(m, wiring.flipped(self.packet_in), packets.input)
        wiring.connect(m, requests.output, wiring.flipped(self.request))
        wiring.connect(m, packets.output, wiring.flipped(self.packet))
        return m
