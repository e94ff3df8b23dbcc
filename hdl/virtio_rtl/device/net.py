"""The network device. [virtio 1.4 §5.1]"""

from amaranth.hdl import Module, Mux, ResetInserter, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from virtio_model.spec import net as spec
from virtio_model.spec.features import mask
from virtio_model.spec.fields import by_name
from virtio_model.spec.net import NetFeature

from ..config import DeviceConfig
from ..lib.cut_packet import CutPacket
from ..lib.frame_fifo import FrameFIFO
from ..lib.prefix import AddPrefix, DropPrefix
from ..regs.maps import Counter
from ..types.axis import AXIStream
from ..types.packet import packet_stream
from ..types.virtqueue import WritableRequest
from .kind import DeviceType, register
from .mtu_limit import MTULimit
from .net_ports import PacketToPort, PortToPacket

__all__ = ["HEADER_BYTES", "NET", "NetDevice"]

HEADER_BYTES = 12
"""Packet header without any of the features that lengthen it. [virtio 1.4 §5.1.6]"""

_RECEIVE_HEADER = bytes(10) + (1).to_bytes(2, "little")
"""No offload, num_buffers 1."""

_COUNTERS = (
    Counter(
        "transmit_dropped",
        "frames longer than the device sends, or without a byte behind the header; two in one "
        "cycle count once",
    ),
    Counter(
        "receive_dropped",
        "frames above the MTU, longer than the driver's buffer, without a buffer, or lost to one "
        "that broke a rule; two in one cycle count once",
    ),
)
_EVENTS = data.StructLayout({counter.name: 1 for counter in _COUNTERS})
_LIVE = {"status": 1}  # LINK_UP is bit 0


def _fifo_beats(config: DeviceConfig) -> int:
    """Room for two of the longest frames, as a power of two."""
    lanes = config.width // 8
    return 1 << (2 * config.max_frame // lanes).bit_length()


def _outside(config: DeviceConfig) -> dict[str, wiring.Member]:
    port = AXIStream(config.width, config.pair_bits)
    return {"net_tx": Out(port), "net_rx": In(port), "link_up": In(1)}


class NetDevice(wiring.Component):
    """Ethernet frames between the virtqueue engine's packets and AXI4-Stream ports.

    Transmit: the 12-byte packet header is taken off, the frame waits until it is whole, then it
    leaves at ``net_tx`` without a pause of ours. Receive: a frame waits until it is whole and good,
    and known to be within the MTU; a buffer of its length is asked for, and the packet header is
    put in front.
    A receive frame that finds no buffer waits: the port stalls, nothing is dropped. With several
    queue pairs the virtqueue engine drops it after ``config.receive_wait_us``.

    Parameters
    ----------
    config
        The device's configuration.

    Ports
    -----
    readable : packet_stream(width, pair_bits); wanted : stream of ``WritableRequest``;
    writable : packet_stream(width)
        The door to the virtqueue engine.
    net_tx, net_rx : ``AXIStream(width, pair_bits)``
        ``tuser`` on the last beat of a received frame drops it; it is 0 on ``net_tx``.
        ``tdest``, with several queue pairs, is the pair that a frame came from or goes to; one
        that does not exist is taken as pair 0.
    open : 1
        The driver is ready; frames that start to arrive while it is not are dropped.
    engine_reset : 1
        Resets the virtqueue side. Frames that wait at ``net_tx`` still leave.
    link_up : 1
        State of the link; shown to the driver as ``live.status``.
    live : struct of ``status``, 1 bit
    events : struct of ``transmit_dropped`` and ``receive_dropped``
        A frame was dropped because it is longer than ``config.max_frame``, or a packet because
        nothing follows its header; a frame was dropped because it is above the MTU.

    One beat a cycle. No offloads. Pair ``n`` has the virtqueues ``2 n`` (receive) and
    ``2 n + 1`` (transmit); who steers frames to pairs is outside. [virtio 1.4 §5.1.2]
    """

    def __init__(self, config: DeviceConfig):
        self.config = config
        width, dest = config.width, config.pair_bits
        super().__init__(
            {
                "readable": In(packet_stream(width, dest)),
                "wanted": Out(stream.Signature(WritableRequest)),
                "writable": Out(packet_stream(width)),
                "open": In(1),
                "engine_reset": In(1),
                "live": Out(data.StructLayout(_LIVE)),
                "events": Out(_EVENTS),
            }
            | _outside(config)
        )

    def elaborate(self, platform):
        m = Module()
        width, dest = self.config.width, self.config.pair_bits
        beats = _fifo_beats(self.config)
        frames = max(beats // 4, 16)
        longest = self.config.max_frame
        resettable = ResetInserter(self.engine_reset)

        strip = DropPrefix(width, HEADER_BYTES, dest)
        m.submodules.strip_header = resettable(strip)
        m.submodules.cut = cut = CutPacket(width, dest)
        m.submodules.transmit_fifo = transmit = FrameFIFO(
            width, beats, frames, longest, dest_bits=dest
        )
        m.submodules.transmit_port = transmit_port = PacketToPort(width, dest)
        drop_owed = Signal()
        wiring.connect(m, wiring.flipped(self.readable), strip.input)
        wiring.connect(m, strip.output, cut.input)
        wiring.connect(m, cut.output, transmit.input)
        wiring.connect(m, transmit.output, transmit_port.input)
        wiring.connect(m, transmit_port.port, wiring.flipped(self.net_tx))
        m.d.comb += [
            self.live.status.eq(self.link_up),
            cut.cut.eq(self.engine_reset),
            transmit.lengths.ready.eq(1),
        ]
        # Two at once are counted one after the other; a frame too long has beats enough for that.
        m.d.sync += [
            self.events.transmit_dropped.eq(transmit.dropped | strip.dropped | drop_owed),
            drop_owed.eq(
                (transmit.dropped & strip.dropped)
                | (drop_owed & (transmit.dropped | strip.dropped))
            ),
        ]

        m.submodules.receive_port = receive_port = PortToPacket(width, dest)
        limit = MTULimit(width, self.config.mtu, dest)
        m.submodules.mtu_limit = resettable(limit)
        receive = FrameFIFO(width, beats, frames, longest, dest_bits=dest)
        m.submodules.receive_fifo = resettable(receive)
        add = AddPrefix(width, _RECEIVE_HEADER)
        m.submodules.add_header = resettable(add)
        wiring.connect(m, wiring.flipped(self.net_rx), receive_port.port)
        wiring.connect(m, receive_port.output, limit.input)
        wiring.connect(m, limit.output, receive.input)
        m.d.comb += [
            # All but ``dest``, which went ahead with the length.
            add.input.payload.data.eq(receive.output.payload.data),
            add.input.payload.count.eq(receive.output.payload.count),
            add.input.payload.last.eq(receive.output.payload.last),
            add.input.payload.error.eq(receive.output.payload.error),
            add.input.valid.eq(receive.output.valid),
            receive.output.ready.eq(add.input.ready),
        ]
        wiring.connect(m, add.output, wiring.flipped(self.writable))
        m.d.comb += [
            receive_port.open.eq(self.open),
            receive_port.cut.eq(self.engine_reset),
            self.wanted.payload.length.eq(receive.lengths.payload.bytes + HEADER_BYTES),
            self.wanted.valid.eq(receive.lengths.valid),
            receive.lengths.ready.eq(self.wanted.ready),
        ]
        # What is too long for the FIFO is above the MTU, and must not count twice.
        m.d.sync += self.events.receive_dropped.eq(limit.dropped)
        if dest:
            pair = receive.lengths.payload.dest
            exists = pair < self.config.queue_pairs
            m.d.comb += self.wanted.payload.queue.eq(Mux(exists, pair << 1, 0))
        return m


NET = register(
    DeviceType(
        name="net",
        device_id=spec.DEVICE_ID,
        class_code=0x020000,  # Ethernet controller
        build=NetDevice,
        paths="pairs",
        packet_bytes=lambda config: (HEADER_BYTES + 1, HEADER_BYTES + config.max_frame),
        queues=lambda config: 2 * config.queue_pairs,
        features=lambda config: mask((NetFeature.MAC, NetFeature.STATUS, NetFeature.MTU)),
        dependencies=spec.DEPENDENCIES,
        config_fields=tuple(f for f in spec.CONFIG if f.end <= by_name(spec.CONFIG)["mtu"].end),
        config_values=lambda config: {
            "mac": int.from_bytes(config.mac_bytes, "little"),
            "mtu": config.mtu,
        },
        config_live=_LIVE,
        config_features={"status": NetFeature.STATUS},
        counters=_COUNTERS,
        outside=_outside,
        own_reset=True,
    )
)
"""Ethernet, without offloads and without a control virtqueue. [virtio 1.4 §5.1]"""
