"""The entropy device. [virtio 1.4 §5.4]"""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from virtio_model.spec import entropy as spec

from ..config import DeviceConfig
from ..lib.stream import StreamFIFO
from ..regs.maps import Counter
from ..types.virtqueue import Reply
from .door import request_door
from .entropy_cut import CutPackets
from .entropy_noise import RingSource
from .entropy_words import SeededSource, WordSource
from .kind import DeviceType, register

__all__ = ["ENTROPY", "EntropyDevice"]

_IN_FLIGHT = 16
"""Replies that may be announced ahead of their bytes, and beats that are kept at least."""

_COUNTERS = (
    Counter("entropy_failed", "failures of the entropy source, one in the life of a driver"),
)
_EVENTS = data.StructLayout({counter.name: 1 for counter in _COUNTERS})


def _outside(config: DeviceConfig) -> dict[str, wiring.Member]:
    if config.entropy.source != "port":
        return {}
    return {"entropy": In(stream.Signature(config.entropy.word_bits))}


class EntropyDevice(wiring.Component):
    """Random bytes for the driver, from the source that the configuration names.

    A request gets as many bytes as it has room for, at most ``config.entropy.largest_reply``, and
    at least one; one without room gets none. Readable bytes, which a driver must not send, are
    thrown away. [virtio 1.4 §5.4.6]

    A request waits as long as the source has no bytes. A source that has failed its health tests
    gives no more bytes until a reset: the device says so once with ``error`` while the driver
    runs, and requests stay unanswered until the driver resets the device. A reset of the virtqueue
    or a suspend waits for them in vain. The one beat that stands at ``writable`` when the source
    fails may still leave.

    Parameters
    ----------
    config
        The device's configuration.

    Ports
    -----
    request : stream of ``Request``; readable : packet_stream(width);
    reply : stream of ``Reply``; writable : packet_stream(width)
        The door to the virtqueue engine.
    entropy : stream of ``config.entropy.word_bits`` bits
        With the source ``"port"`` only: random words, packed to full beats. What is left of the
        last beat of a reply is thrown away.
    open : 1
        The driver is ready.
    error : 1
        Strobe: the source has failed; only a reset can cure this.
    events
        ``entropy_failed``: the same strobe, for a counter.

    One beat and one request a cycle, as long as the source can. The bytes of the largest reply are
    kept ahead: no reply begins before its last byte is here, for a reply that has begun holds up
    the used buffers of those before it.
    """

    def __init__(self, config: DeviceConfig):
        self.config = config
        super().__init__(
            request_door(config.width)
            | {"open": In(1), "error": Out(1), "events": Out(_EVENTS)}
            | _outside(config)
        )

    def elaborate(self, platform):
        m = Module()
        width, entropy = self.config.width, self.config.entropy
        longest = entropy.largest_reply

        # Requests to replies and lengths.
        m.submodules.replies = replies = StreamFIFO(Reply, _IN_FLIGHT)
        m.submodules.lengths = lengths = StreamFIFO(unsigned(longest.bit_length()), _IN_FLIGHT)
        room = self.request.payload.writable
        length = Signal.like(lengths.input.payload)
        m.d.comb += [
            length.eq(Mux(room > longest, longest, room)),
            self.request.ready.eq(replies.input.ready & lengths.input.ready),
            replies.input.payload.length.eq(length),
            replies.input.valid.eq(self.request.valid & lengths.input.ready),
            lengths.input.payload.eq(length),
            lengths.input.valid.eq(self.request.valid & replies.input.ready & (room != 0)),
            self.readable.ready.eq(1),
        ]
        wiring.connect(m, replies.output, wiring.flipped(self.reply))

        # Bytes.
        # Two more than needed, so that the next packet is here when one has left.
        held = max(_IN_FLIGHT, -(-longest // (width // 8)) + 2)
        m.submodules.beats = beats = StreamFIFO(width, held)
        m.submodules.cut = cut = CutPackets(width, longest, held)
        m.d.comb += cut.level.eq(beats.level)
        wiring.connect(m, lengths.output, cut.length)
        wiring.connect(m, beats.output, cut.beats)
        wiring.connect(m, cut.output, wiring.flipped(self.writable))
        if entropy.source == "ring_oscillator":
            m.submodules.source = source = RingSource(entropy, width)
            told = Signal()
            m.d.comb += [
                cut.stop.eq(source.failed),
                self.error.eq(source.failed & self.open & ~told),
                self.events.entropy_failed.eq(self.error),
            ]
            with m.If(self.error):
                m.d.sync += told.eq(1)
        elif entropy.source == "seeded":
            m.submodules.source = source = SeededSource(width, entropy.seed)
        else:
            m.submodules.source = source = WordSource(width, entropy.word_bits)
            wiring.connect(m, wiring.flipped(self.entropy), source.words)
        wiring.connect(m, source.output, beats.input)
        return m


ENTROPY = register(
    DeviceType(
        name="entropy",
        device_id=spec.DEVICE_ID,
        class_code=0x00FF00,  # no class fits
        build=EntropyDevice,
        dependencies=spec.DEPENDENCIES,
        config_fields=spec.CONFIG,
        counters=_COUNTERS,
        outside=_outside,
    )
)
