"""The path of a device whose buffers are requests."""

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import DeviceConfig
from ..types.packet import packet_stream
from ..types.virtqueue import MAX_REQUEST_BYTES, Reply, Request
from .gather import Gather
from .request_done import RequestDone
from .request_split import MAX_SEGMENTS, RequestSplit
from .scatter import Scatter
from .service import Service

__all__ = ["RequestPaths"]


class RequestPaths:
    """One path for all virtqueues: readable bytes to the device, its answer into the same buffer.

    Virtqueues with buffers are served in turn. Adds its stages to the module of the engine, which
    see for the ports.

    Parameters
    ----------
    config
        The device's configuration.
    in_flight
        Requests that the device may have been told of and has not replied to.

    Attributes
    ----------
    walkers, ports, used_options, completions, idle, failed, requests, packets
        As of ``PairPaths``.

    A payload read that fails on the bus is the device's to answer; it breaks no rule. With IN_ORDER
    each buffer is still told by itself, for each has a length.
    """

    walkers = ("",)

    def __init__(self, config: DeviceConfig, in_flight: int = 64):
        self.config = config
        self.in_flight = in_flight
        self.ports = {
            "request": Out(stream.Signature(Request)),
            "readable": Out(packet_stream(config.width)),
            "reply": In(stream.Signature(Reply)),
            "writable": In(packet_stream(config.width)),
        }
        self.used_options = {"in_order": False}

    def walk_options(self, path: int) -> dict:
        """Return the parameters of a path's walker that are its own."""
        return {"pull": False, "bounded": True, "segments": MAX_SEGMENTS}

    def connect(self, m: Module, engine, clients, fetch, walks) -> None:
        """Add the stages, and connect them to the walker and to the engine's ports."""
        config = self.config
        (walk,) = walks
        m.submodules.service = service = Service(config.num_queues)
        m.submodules.split = split = RequestSplit(in_flight=self.in_flight)
        m.submodules.gather = gather = Gather(config.width, MAX_REQUEST_BYTES, self.in_flight)
        m.submodules.scatter = scatter = Scatter(
            config.width,
            self.in_flight,
            length_bits=MAX_REQUEST_BYTES.bit_length(),
            requests=True,
        )
        m.submodules.done = done = RequestDone(4 * self.in_flight)

        def join(ours, theirs):
            wiring.connect(m, wiring.flipped(ours), theirs)

        wiring.connect(m, fetch.committed, service.committed)
        wiring.connect(m, service.request, walk.request)
        wiring.connect(m, walk.result, service.result)
        wiring.connect(m, walk.segment, split.segment)
        wiring.connect(m, walk.buffer, split.buffer)
        join(engine.request, split.request)

        wiring.connect(m, split.readable_segment, gather.segment)
        wiring.connect(m, split.readable_buffer, gather.buffer)
        clients.read("payload", gather.request, gather.packet)
        join(engine.readable, gather.readable)

        wiring.connect(m, split.writable_segment, scatter.segment)
        wiring.connect(m, split.writable_buffer, scatter.buffer)
        join(engine.reply, scatter.reply)
        join(engine.writable, scatter.packet)
        clients.write("payload", scatter.request, scatter.write_packet, scatter.done)

        wiring.connect(m, gather.completion, done.read)
        wiring.connect(m, scatter.completion, done.written)
        self.completions = [done.completion]
        self.idle = [split.idle, gather.idle, scatter.idle]
        self.failed = [scatter.failed]
        self.requests = [gather.request, scatter.request]
        self.packets = [gather.readable, scatter.packet]
