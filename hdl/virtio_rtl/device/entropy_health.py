"""Health tests of a noise source. [SP 800-90B §4.4]"""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["HealthTests"]


class HealthTests(wiring.Component):
    """Repetition count and adaptive proportion test of a source of single bits.

    They notice a source that is broken, not one that is merely worse than it should be: that takes
    an assessment of the source.

    Parameters
    ----------
    repetition_cutoff
        So many samples in a row with the same value are a failure; at least 2.
        [SP 800-90B §4.4.1]
    proportion_cutoff
        So many samples in a window with the value of its first one, which counts, are a failure;
        2 to ``window``. [SP 800-90B §4.4.2]
    window
        Samples in a window of the proportion test, and in the start-up test.

    Ports
    -----
    sample : 1, strobe : 1
        A raw sample, in the cycle of the strobe.
    passed : 1
        The start-up test is over: a whole window was good. [SP 800-90B §4.3]
    failed : 1
        Level, from the cycle after the sample that failed a test; until a reset.

    One sample a cycle; both outputs are registers.
    """

    def __init__(self, repetition_cutoff: int, proportion_cutoff: int, window: int):
        if repetition_cutoff < 2:
            raise ValueError(f"repetition_cutoff = {repetition_cutoff!r}: at least 2")
        if not 2 <= proportion_cutoff <= window:
            raise ValueError(f"proportion_cutoff = {proportion_cutoff!r}: 2 to {window}")
        self.repetition_cutoff = repetition_cutoff
        self.proportion_cutoff = proportion_cutoff
        self.window = window
        super().__init__({"sample": In(1), "strobe": In(1), "passed": Out(1), "failed": Out(1)})

    def elaborate(self, platform):
        m = Module()
        # Repetitions. Before the first sample the run is empty, and its value does not matter.
        previous = Signal()
        run = Signal(range(self.repetition_cutoff + 1))
        repeats = Signal()
        m.d.comb += repeats.eq((self.sample == previous) & (run != 0))

        # Proportion.
        index = Signal(range(self.window))
        reference = Signal()
        matches = Signal(range(self.proportion_cutoff + 1))
        first, match = Signal(), Signal()
        m.d.comb += [first.eq(index == 0), match.eq(~first & (self.sample == reference))]

        bad = Signal()
        m.d.comb += bad.eq(
            (repeats & (run == self.repetition_cutoff - 1))
            | (match & (matches == self.proportion_cutoff - 1))
        )
        with m.If(self.strobe & ~self.failed):
            m.d.sync += [
                self.failed.eq(bad),
                previous.eq(self.sample),
                run.eq(Mux(repeats, run + 1, 1)),
                index.eq(index + 1),
                matches.eq(matches + match),
            ]
            with m.If(first):
                m.d.sync += [reference.eq(self.sample), matches.eq(1)]
            with m.If(index == self.window - 1):
                m.d.sync += index.eq(0)
                with m.If(~bad):
                    m.d.sync += self.passed.eq(1)
        return m
