"""The entropy device. [virtio 1.4 §5.4]"""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from virtio_model.spec import entropy as spec

from ..config import DeviceConfig
from ..lib.stream import StreamFIFO
from ..regs.maps import Counter
from .door import request_door
from .entropy_cut import CutPackets
from .entropy_noise import RingSource
from .entropy_reply import TellReplies
from .entropy_words import SeededSource, WordSource
from .kind import DeviceType, register

__all__ = ["ENTROPY", "EntropyDevice"]

_MORE = 16
"""Beats that are kept beside those of the largest reply."""

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

    A request waits as long as the source has too few bytes for it; a reset of the virtqueue or a
    suspend does not (``TellReplies`` says what is answered then). A source that has failed its
    health tests gives no more bytes until a reset: the device says so once with ``error`` while the
    driver runs, and requests stay unanswered. Replies that were told before get their bytes, which
    are older. A source that gives nothing while the device is to be suspended, for
    ``config.entropy.dry_after_us``, has failed as well.

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
    resetting, suspending : 1
        Levels: a virtqueue is being reset; the device is to be suspended.
    error : 1
        Strobe: the source has failed; only a reset can cure this.
    events
        ``entropy_failed``: the same strobe, for a counter.

    One beat and one request a cycle, as long as the source can. The bytes of the largest reply are
    kept ahead: no reply is told before its last byte is here, for a packet that has begun holds up
    the used buffers of those before it.
    """

    def __init__(self, config: DeviceConfig):
        self.config = config
        super().__init__(
            request_door(config.width)
            | {"open": In(1), "resetting": In(1), "suspending": In(1)}
            | {"error": Out(1), "events": Out(_EVENTS)}
            | _outside(config)
        )

    def elaborate(self, platform):
        m = Module()
        width, entropy = self.config.width, self.config.entropy
        longest = entropy.largest_reply

        # Some more than needed, so that the next packet is here when one has left.
        held = -(-longest // (width // 8)) + _MORE
        patience = max(round(entropy.dry_after_us * self.config.clock_mhz), 1)
        m.submodules.replies = replies = TellReplies(width, longest, held, patience)
        m.submodules.beats = beats = StreamFIFO(width, held)
        m.submodules.cut = cut = CutPackets(width, longest)
        wiring.connect(m, wiring.flipped(self.request), replies.request)
        wiring.connect(m, replies.reply, wiring.flipped(self.reply))
        wiring.connect(m, replies.length, cut.length)
        wiring.connect(m, beats.output, cut.beats)
        wiring.connect(m, cut.output, wiring.flipped(self.writable))
        told = Signal()
        m.d.comb += [
            self.readable.ready.eq(1),
            replies.beat.eq(beats.input.valid & beats.input.ready),
            replies.resetting.eq(self.resetting),
            replies.suspending.eq(self.suspending),
            self.error.eq((replies.failed | replies.dry) & self.open & ~told),
            self.events.entropy_failed.eq(self.error),
        ]
        with m.If(self.error):
            m.d.sync += told.eq(1)

        if entropy.source == "ring_oscillator":
            m.submodules.source = source = RingSource(entropy, width)
            m.d.comb += replies.failed.eq(source.failed)
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
