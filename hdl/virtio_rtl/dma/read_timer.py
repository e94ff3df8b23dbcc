"""The coarse clock behind the completion time-out."""

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["EPOCH_BITS", "ReadTimer", "is_expired"]

EPOCH_BITS = 3
_EXPIRED_AGE = 5


def is_expired(epoch: Value, stamp: Value) -> Value:
    """Whether at least the time-out has passed since the epoch was ``stamp``."""
    return (epoch - stamp)[:EPOCH_BITS] >= _EXPIRED_AGE


class ReadTimer(wiring.Component):
    """Count epochs of a quarter of the time-out, and visit every tag once per epoch.

    Parameters
    ----------
    tags
        Number of tags.
    timeout_cycles
        Completion time-out in clock cycles, at least 16 per tag.

    Ports
    -----
    hold : In(1)
        Time stands still: nothing expires.
    epoch : Out(3)
        Time, in quarters of the time-out, modulo 8.
    probe : Out(stream range(tags))
        The tag to look at next. A visit that is not taken in time is skipped.

    A stamp is expired when its age is 5 epochs, the first of which may have been short: a read
    ends between 1.0 and 1.5 times the time-out. Time goes on through reset, since quarantine
    does. [PCIe 3.0 §2.8]
    """

    def __init__(self, tags: int, timeout_cycles: int):
        if timeout_cycles < 16 * tags:
            raise ValueError(f"timeout_cycles = {timeout_cycles!r}: at least 16 * {tags} tags")
        self.tags = tags
        self.cycles_per_visit = -(-timeout_cycles // (4 * tags))
        super().__init__(
            {
                "hold": In(1),
                "epoch": Out(EPOCH_BITS),
                "probe": Out(stream.Signature(range(tags))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        epoch = Signal(EPOCH_BITS, reset_less=True)
        countdown = Signal(
            range(self.cycles_per_visit), init=self.cycles_per_visit - 1, reset_less=True
        )
        tag = Signal(range(self.tags), reset_less=True)
        m.d.comb += self.epoch.eq(epoch)

        with m.If(self.probe.ready):
            m.d.sync += self.probe.valid.eq(0)
        with m.If(~self.hold):
            m.d.sync += countdown.eq(countdown - 1)
        with m.If((countdown == 0) & ~self.hold):
            m.d.sync += [countdown.eq(self.cycles_per_visit - 1), tag.eq(tag + 1)]
            with m.If(tag == self.tags - 1):
                m.d.sync += epoch.eq(epoch + 1)
            with m.If(~self.probe.valid | self.probe.ready):
                m.d.sync += [self.probe.valid.eq(1), self.probe.payload.eq(tag)]
        return m
