"""From raw samples of a noise source to beats of bytes."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..config_entropy import PROPORTION_WINDOW, EntropyConfig
from .entropy_health import HealthTests
from .entropy_ring import LutRings, RingSampler, StandInRings

__all__ = ["NoiseBytes", "RingSource"]


class NoiseBytes(wiring.Component):
    """Tests raw samples, removes their bias, and packs them into beats.

    The health tests look at every raw sample. While they have not passed, no bit is used; once
    they have failed, none is until a reset. The bias is removed as by von Neumann: of two samples,
    01 is a 0 and 10 is a 1, and equal ones are dropped. **That is all.** If samples depend on each
    other, so do the bits; nothing here is a conditioning component that SP 800-90B has vetted, and
    no entropy is claimed for the output beyond what the samples were assessed to have. A kernel
    that feeds its pool with the bytes, and hashes there, is the intended user.

    Parameters
    ----------
    width
        Data bits of a beat.
    repetition_cutoff, proportion_cutoff, window
        As those of ``HealthTests``.

    Ports
    -----
    sample : 1, strobe : 1
        A raw sample, in the cycle of the strobe.
    output : stream of ``width`` bits
        The first bit is bit 0. A beat that is not taken stays; bits that come then are dropped.
    failed : 1
        Level: a health test has failed; until a reset. ``output`` offers no new beat.

    One sample a cycle; about four samples a bit.
    """

    def __init__(self, width: int, repetition_cutoff: int, proportion_cutoff: int, window: int):
        self.width = width
        self.tests = (repetition_cutoff, proportion_cutoff, window)
        super().__init__(
            {
                "sample": In(1),
                "strobe": In(1),
                "output": Out(stream.Signature(width)),
                "failed": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.health = health = HealthTests(*self.tests)
        m.d.comb += [
            health.sample.eq(self.sample),
            health.strobe.eq(self.strobe),
            self.failed.eq(health.failed),
        ]

        odd, earlier = Signal(), Signal()  # the first of two samples is there
        bit = Signal()
        m.d.comb += bit.eq(self.strobe & odd & (earlier != self.sample))
        with m.If(self.strobe & health.passed):
            m.d.sync += [odd.eq(~odd), earlier.eq(self.sample)]

        count = Signal(range(self.width))
        with m.If(self.output.valid):
            with m.If(self.output.ready):
                m.d.sync += self.output.valid.eq(0)
        with m.Elif(bit & ~health.failed):
            m.d.sync += [
                self.output.payload.eq(Cat(self.output.payload[1:], earlier)),
                count.eq(count + 1),
                self.output.valid.eq(count == self.width - 1),
            ]
        return m


class RingSource(wiring.Component):
    """Bytes from ring oscillators: rings, sampler, health tests, bias removal.

    Parameters
    ----------
    config
        ``source`` is ``"ring_oscillator"``.
    width
        Data bits of a beat.

    Ports
    -----
    output : stream of ``width`` bits
    failed : 1
        As those of ``NoiseBytes``.

    A beat takes about ``4 * width * config.sample_cycles`` cycles.
    """

    def __init__(self, config: EntropyConfig, width: int):
        self.config = config
        self.width = width
        super().__init__({"output": Out(stream.Signature(width)), "failed": Out(1)})

    def elaborate(self, platform):
        m = Module()
        config = self.config
        if config.stand_in:
            rings = StandInRings(config.rings, config.stand_in_samples * config.sample_cycles)
        else:
            rings = LutRings(config.rings, config.ring_stages)
        m.submodules.rings = rings
        m.submodules.sampler = sampler = RingSampler(config.rings, config.sample_cycles)
        m.submodules.noise = noise = NoiseBytes(
            self.width, config.repetition_cutoff, config.proportion_cutoff, PROPORTION_WINDOW
        )
        running = Signal()  # rings stand still in a reset, so that they start anew
        m.d.sync += running.eq(1)
        m.d.comb += [
            rings.enable.eq(running),
            sampler.taps.eq(rings.taps),
            noise.sample.eq(sampler.sample),
            noise.strobe.eq(sampler.strobe),
            self.failed.eq(noise.failed),
        ]
        wiring.connect(m, noise.output, wiring.flipped(self.output))
        return m
