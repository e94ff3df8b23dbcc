"""The paths of a device with receive and transmit virtqueues."""

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import DeviceConfig
from ..types.packet import packet_stream
from ..types.virtqueue import WritableRequest
from .gather import Gather
from .scatter import Scatter
from .service import Service

__all__ = ["PairPaths"]

_RECEIVE, _TRANSMIT = 0, 1


class PairPaths:
    """Receive (even) and transmit (odd) virtqueues, from walker to completion.

    A receive path is pulled: the device asks for a buffer for each packet. A transmit path is
    pushed: virtqueues with buffers are served in turn. Adds its stages to the module of the engine,
    which see for the ports.

    Parameters
    ----------
    config, max_packet, min_receive
        As of ``VirtqueueEngine``.

    Attributes
    ----------
    walkers
        Names of the walkers, by path.
    ports
        Members of the engine.
    used_options
        Parameters of ``Used``.
    completions, idle, failed, requests, packets
        After ``connect``: the streams of completions, "no buffer is inside" and "a rule is broken"
        of each stage, and the streams of payload requests and of packets at the door.
    """

    walkers = ("receive", "transmit")

    def __init__(self, config: DeviceConfig, max_packet: int, min_receive: int):
        self.config = config
        self.max_packet = max_packet
        self.min_receive = min_receive
        self.ports = {
            "readable": Out(packet_stream(config.width, config.pair_bits)),
            "wanted": In(stream.Signature(WritableRequest)),
            "writable": In(packet_stream(config.width)),
            "transmit_dropped": Out(1),
            "receive_dropped": Out(1),
        }
        self.used_options = {"in_order": config.in_order, "read_only": (_TRANSMIT,)}

    def walk_options(self, path: int) -> dict:
        """Return the parameters of a path's walker that are its own."""
        receive = path == _RECEIVE
        return {"pull": receive, "bounded": receive, "segments": 256 if receive else 64}

    def connect(self, m: Module, engine, clients, fetch, walks) -> None:
        """Add the stages, and connect them to the walkers and to the engine's ports."""
        config = self.config
        m.submodules.service = service = Service(config.num_queues)
        m.submodules.gather = gather = Gather(
            config.width, self.max_packet, dest_bits=config.pair_bits
        )
        m.submodules.scatter = scatter = Scatter(config.width, least_bytes=self.min_receive)

        def join(ours, theirs):
            wiring.connect(m, wiring.flipped(ours), theirs)

        # Transmit: virtqueues with descriptors are served in turn.
        m.d.comb += [
            service.committed.payload.eq(fetch.committed.payload),
            service.committed.valid.eq(fetch.committed.valid & fetch.committed.payload[0]),
            fetch.committed.ready.eq(service.committed.ready | ~fetch.committed.payload[0]),
        ]
        transmit = walks[_TRANSMIT]
        wiring.connect(m, service.request, transmit.request)
        wiring.connect(m, transmit.result, service.result)
        wiring.connect(m, transmit.segment, gather.segment)
        wiring.connect(m, transmit.buffer, gather.buffer)
        clients.read("payload", gather.request, gather.packet)
        join(engine.readable, gather.readable)

        # Receive: the device asks for buffers.
        receive = walks[_RECEIVE]
        m.d.comb += receive.result.ready.eq(1)
        wiring.connect(m, scatter.take, receive.request)
        wiring.connect(m, receive.segment, scatter.segment)
        wiring.connect(m, receive.buffer, scatter.buffer)
        join(engine.wanted, scatter.wanted)
        join(engine.writable, scatter.packet)
        clients.write("payload", scatter.request, scatter.write_packet, scatter.done)

        m.d.comb += [
            engine.transmit_dropped.eq(gather.dropped),
            engine.receive_dropped.eq(scatter.dropped),
        ]
        self.completions = [scatter.completion, gather.completion]
        self.idle = [gather.idle, scatter.idle]
        self.failed = [gather.failed, scatter.failed]
        self.requests = [gather.request, scatter.request]
        self.packets = [gather.readable, scatter.packet]
