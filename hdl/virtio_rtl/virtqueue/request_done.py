"""A request is done when the device has both read and answered it."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..types.virtqueue import Completion

__all__ = ["RequestDone"]


class RequestDone(wiring.Component):
    """Holds a buffer back until its readable bytes were read as well.

    A device may answer before it has taken all that it was sent. A driver may use its memory anew
    as soon as the buffer is given back, so until then nothing of it may still be read.

    Parameters
    ----------
    ahead
        Buffers that may have been read and not answered. Further ones wait in ``read``.

    Ports
    -----
    read : stream of ``Completion``
        One for each buffer of which all was read; only its coming counts.
    written : stream of ``Completion``
        One for each buffer that was answered, in the same order.
    completion : stream of ``Completion``
        That of ``written``.

    One buffer a cycle; latency from ``written`` none, from ``read`` one cycle. ``read.ready`` is a
    register.
    """

    def __init__(self, ahead: int):
        self.ahead = ahead
        super().__init__(
            {
                "read": In(stream.Signature(Completion)),
                "written": In(stream.Signature(Completion)),
                "completion": Out(stream.Signature(Completion)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        count = Signal(range(self.ahead + 1))
        some = Signal()  # count is not 0
        room = Signal(init=1)
        arrives = Signal()
        leaves = Signal()
        m.d.comb += [
            self.read.ready.eq(room),
            self.completion.payload.eq(self.written.payload),
            self.completion.valid.eq(self.written.valid & some),
            self.written.ready.eq(self.completion.ready & some),
            arrives.eq(self.read.valid & room),
            leaves.eq(self.completion.valid & self.completion.ready),
        ]
        with m.If(arrives & ~leaves):
            m.d.sync += [count.eq(count + 1), some.eq(1), room.eq(count != self.ahead - 1)]
        with m.Elif(leaves & ~arrives):
            m.d.sync += [count.eq(count - 1), some.eq(count != 1), room.eq(1)]
        return m
